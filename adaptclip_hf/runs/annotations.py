"""Results of `adaptclip detect` as other programs read them: COCO, Label Studio."""

import json
from collections.abc import Iterable, Iterator
from typing import IO

from .label_studio import LABEL, ImageAddresses, marked_regions, tasks


def write_coco(lines: Iterable[dict], opened: IO[bytes]):
    """COCO's detection format: images, annotations with box, polygon, area and score, one category.

    Args:
        lines: gone through twice.
    """
    categories = [{"id": 1, "name": LABEL, "supercategory": ""}]
    opened.write(b'{"info": {}, "licenses": [], "categories": ' + json.dumps(categories).encode())
    for name, items in (("images", coco_images(lines)), ("annotations", coco_annotations(lines))):
        opened.write(f', "{name}": '.encode())
        write_list(items, opened)
    opened.write(b"}\n")


def write_label_studio(lines: Iterable[dict], opened: IO[bytes], addresses: ImageAddresses):
    """Tasks with predictions, see [`tasks`]."""
    write_list(tasks(scored(lines), addresses), opened)


def write_list(items: Iterable[dict], opened: IO[bytes]):
    """A JSON list, one item after the other."""
    opened.write(b"[")
    for number, item in enumerate(items):
        opened.write((",\n" if number else "\n").encode() + json.dumps(item, allow_nan=False).encode())
    opened.write(b"\n]")


def coco_images(lines: Iterable[dict]) -> Iterator[dict]:
    for number, line in enumerate(scored(lines), start=1):
        height, width = line["size"]
        about = {name: line[name] for name in ("score", "p_value", "margin", "label")}
        yield {"id": number, "file_name": line["path"], "width": width, "height": height, **about}


def coco_annotations(lines: Iterable[dict]) -> Iterator[dict]:
    marked = ((number, region) for number, line in enumerate(scored(lines), start=1) for region in marked_regions(line))
    for number, (image, region) in enumerate(marked, start=1):
        yield {
            "id": number,
            "image_id": image,
            "category_id": 1,
            "bbox": region["box"],
            "segmentation": [[value for point in region["polygon"] for value in point]],
            "area": region["area"],
            "iscrowd": 0,
            "score": region["peak"],
            "significant": region["significant"],
        }


def scored(lines: Iterable[dict]) -> Iterator[dict]:
    return (line for line in lines if line["error"] is None)
