"""Amazon Lookout for Vision's manifests, with the images copied from their bucket into a folder."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import ImageColor

from ..files import parse_json
from ..listings import lines_of
from ..processing.image_loading import load_image
from .layout import Layout, Report
from .rows import Mask, Row, as_mask

CLASSIFICATION, SEGMENTATION = "groundtruth/image-classification", "groundtruth/semantic-segmentation"
METADATA = "-metadata"
NORMAL, ANOMALY, BACKGROUND = "normal", "anomaly", "BACKGROUND"


def manifests(root: Path) -> list[Path]:
    return sorted(each for each in (*root.glob("*.manifest"), *root.glob("*/*.manifest")) if each.is_file())


def read_manifests(root: Path, report: Report) -> Iterator[Row]:
    """Anomalous images are for testing; so is every other normal one where no manifest has `test` in its name."""
    files = manifests(root)
    has_test = any(is_test(file) for file in files)
    normals = 0
    for file in files:
        for where, line in lines_in(file):
            if not line.strip():
                continue
            reference, anomalous, mask_reference, colours = read_line(line, where)
            image = find(root, reference)
            if image is None:
                report(f"{where}: {reference} does not lie below {root}; the row is left out")
                continue
            if not anomalous:
                normals += 1
                tested = is_test(file) if has_test else normals % 2 == 0
                yield Row(str(image), 0, root.name, "test" if tested else "train")
                continue
            mask, defect = None, ANOMALY
            if mask_reference is not None:
                mask, defect = read_coloured_mask(root, mask_reference, colours, f"{where}: {mask_reference}", report)
            yield Row(str(image), 1, root.name, "test", defect, mask)


def lines_in(file: Path) -> Iterator[tuple[str, str]]:
    with file.open("rb") as opened:
        yield from lines_of(opened, str(file))


def is_test(file: Path) -> bool:
    return "test" in file.name.lower()


def read_line(line: str, where: str) -> tuple[str, bool, str | None, dict[str, str]]:
    """Image, whether it is anomalous, mask, and {colour: class} of the mask; the labelling job may have any name."""
    try:
        entry = parse_json(line)
        labels = {
            about["type"]: (name.removesuffix(METADATA), about)
            for name, about in entry.items()
            if name.endswith(METADATA) and isinstance(about, dict) and "type" in about
        }
        _, about = labels[CLASSIFICATION]
        kind = str(about["class-name"]).lower()
        if kind not in (NORMAL, ANOMALY):
            raise ValueError(f"class-name is {about['class-name']!r}, expected {NORMAL} or {ANOMALY}")
        mask, colours = None, {}
        if SEGMENTATION in labels and kind == ANOMALY:
            name, about = labels[SEGMENTATION]
            mask = as_text(entry[name])
            classes = about["internal-color-map"].values()
            colours = {
                as_colour(each["hex-color"]): as_text(each["class-name"])
                for each in classes
                if each["class-name"] != BACKGROUND
            }
        return as_text(entry["source-ref"]), kind == ANOMALY, mask, colours
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{where} is not a line of a Lookout for Vision manifest ({error!r}): expected source-ref and a label "
            f"of type {CLASSIFICATION}."
        ) from error


def as_text(value) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(f"{value!r} is no text")
    return value


def as_colour(value) -> str:
    """A colour such as `#2ca02c`."""
    ImageColor.getrgb(as_text(value))
    return value


def find(root: Path, reference: str) -> Path | None:
    """The local file of `s3://BUCKET/A/B/C.png`: `A/B/C.png`, `B/C.png` or `C.png` below the folder."""
    parts = PurePosixPath(reference.partition("://")[2] or reference).parts
    if ".." in parts:
        return None
    for first in range(len(parts)):
        file = root.joinpath(*(part for part in parts[first:] if part != "/"))
        if file.is_file():
            return file
    return None


def read_coloured_mask(
    root: Path, reference: str, colours: dict[str, str], where: str, report: Report
) -> tuple[Mask | None, str]:
    """The mask of all anomalies, and the class of most of its pixels."""
    file = find(root, reference)
    if file is None:
        report(f"{where} does not lie below {root}: the image has no mask")
        return None, ANOMALY
    try:
        pixels = np.asarray(load_image(str(file)).convert("RGB"))
        areas = {name: (pixels == ImageColor.getrgb(colour)).all(-1) for colour, name in colours.items()}
    except (OSError, ValueError) as error:
        report(f"{where}: {error}: the image has no mask")
        return None, ANOMALY
    mask = np.logical_or.reduce([np.zeros(pixels.shape[:2], bool), *areas.values()])
    if not mask.any():
        report(f"{where} has none of the colours {', '.join(colours)}: the image has no mask")
        return None, ANOMALY
    return as_mask(f"{file} (its anomalies)", mask), max(areas, key=lambda name: areas[name].sum())


AMAZON_LOOKOUT = Layout(
    "*.manifest of Amazon Lookout for Vision, and the images of its bucket below the folder",
    lambda root: bool(manifests(root)),
    read_manifests,
)
