"""Your own layout: photos sorted by day, and a list of the rejected ones.

adaptclip --plugin examples/plugins/factory_layout.py data factory:/data/line3
adaptclip --plugin examples/plugins/factory_layout.py evaluate --data factory:/data/line3 --output results/line3

/data/line3/2026-11-24/0001.jpg ...
/data/line3/rejected.txt               2026-11-24/0007.jpg, a line each
"""

from collections.abc import Iterator
from pathlib import Path

from adaptclip_hf.data import Layout, Report, Row, register_layout

LIST = "rejected.txt"


def read(root: Path, report: Report) -> Iterator[Row]:
    """The good photos of the first day are the normal images; all other photos are tested."""
    rejected = {line.strip() for line in (root / LIST).read_text(encoding="utf-8").splitlines() if line.strip()}
    photos = sorted(root.glob("*/*.jpg"))
    first_day = photos[0].parent if photos else None
    for photo in photos:
        name = photo.relative_to(root).as_posix()
        bad = name in rejected
        split = "train" if photo.parent == first_day and not bad else "test"
        yield Row(str(photo), int(bad), root.name, split, "rejected" if bad else "good")
        rejected.discard(name)
    for name in sorted(rejected):
        report(f"{root / LIST}: {name} is listed and not there")


register_layout("factory", Layout("DAY/*.jpg beside rejected.txt", lambda root: (root / LIST).is_file(), read))
