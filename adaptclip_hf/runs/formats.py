"""The formats in which a run writes its results beside its own; imports nothing heavy."""

import json
from collections.abc import Callable, Iterable
from functools import partial
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from .label_studio import ImageAddresses

JSONL, CSV, REGIONS, PARQUET, COCO, LABEL_STUDIO = "jsonl", "csv", "regions", "parquet", "coco", "label-studio"
# the file of each, in the folder of results
FORMAT_FILES = {
    JSONL: "results.jsonl",
    CSV: "results.csv",
    REGIONS: "regions.csv",
    PARQUET: "results.parquet",
    COCO: "coco.json",
    LABEL_STUDIO: "label-studio.json",
}
FORMATS = tuple(FORMAT_FILES)


def write_format(name: str, rows: Iterable[dict], opened: IO[bytes], addresses: "ImageAddresses"):
    """Writes rows in one of the formats.

    Args:
        rows: gone through once or twice, and never all in memory.
        addresses: where Label Studio finds the images.
    """
    writer_of(name, addresses)(rows, opened)


def writer_of(name: str, addresses: "ImageAddresses") -> Callable[[Iterable[dict], IO[bytes]], None]:
    """What writes a format; of the others nothing is imported."""
    if name in (COCO, LABEL_STUDIO):
        from .annotations import write_coco, write_label_studio

        return write_coco if name == COCO else partial(write_label_studio, addresses=addresses)
    if name in (CSV, REGIONS, PARQUET):
        from .tables import write_csv, write_parquet, write_region_csv

        return {CSV: write_csv, REGIONS: write_region_csv, PARQUET: write_parquet}[name]
    return write_lines


def write_lines(rows: Iterable[dict], opened: IO[bytes]):
    from .rows import ROW

    for row in rows:
        opened.write(json.dumps({name: row[name] for name in ROW}).encode() + b"\n")
