"""Results of `adaptclip detect` as other programs read them: COCO, Label Studio."""

import json
from collections.abc import Iterable, Iterator
from typing import IO

LABEL = "anomaly"


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


def write_label_studio(lines: Iterable[dict], opened: IO[bytes]):
    """See [`as_label_studio`]."""
    write_list(as_label_studio(lines), opened)


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
    marked = ((number, region) for number, line in enumerate(scored(lines), start=1) for region in regions_of(line))
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


def as_label_studio(lines: Iterable[dict]) -> Iterator[dict]:
    """Tasks with predictions: a choice for the image, a polygon for each region; in per cent of the image's sides.

    For a labelling configuration with `<Image name="image" value="$image"/>`, `<Choices name="label" toName="image">`
    (normal, anomalous) and `<PolygonLabels name="region" toName="image">` (anomaly).
    """
    for line in scored(lines):
        yield {
            "data": {"image": line["path"], "p_value": line["p_value"]},
            "predictions": [{"model_version": "adaptclip", "score": line["score"], "result": list(marks(line))}],
        }


def marks(line: dict) -> Iterable[dict]:
    height, width = line["size"]
    if line["label"] is not None:
        yield {
            "id": "label",
            "from_name": "label",
            "to_name": "image",
            "type": "choices",
            "value": {"choices": [line["label"]]},
        }
    for number, region in enumerate(regions_of(line), start=1):
        points = [[100 * x / width, 100 * y / height] for x, y in region["polygon"]]
        yield {
            "id": f"region-{number}",
            "from_name": "region",
            "to_name": "image",
            "type": "polygonlabels",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "score": region["peak"],
            "value": {"points": points, "closed": True, "polygonlabels": [LABEL]},
        }


def regions_of(line: dict) -> list[dict]:
    """What is marked in an image: the regions of one that is called anomalous."""
    return line["regions"] or [] if line["label"] == "anomalous" else []


def scored(lines: Iterable[dict]) -> Iterator[dict]:
    return (line for line in lines if line["error"] is None)
