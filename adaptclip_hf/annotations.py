"""Results of `adaptclip detect` as other programs read them: COCO, Label Studio."""

from collections.abc import Iterable
from pathlib import Path

from .files import write_json

COCO, LABEL_STUDIO = "coco", "label-studio"
ANNOTATION_FILES = {COCO: "coco.json", LABEL_STUDIO: "label-studio.json"}
FORMATS = tuple(ANNOTATION_FILES)
LABEL = "anomaly"


def write_annotations(lines: Iterable[dict], output: Path, name: str) -> Path:
    """Writes the regions of result lines into `output`; returns the file.

    Args:
        name: "coco" or "label-studio".
    """
    scored = [line for line in lines if line["error"] is None]
    content = as_coco(scored) if name == COCO else as_label_studio(scored)
    file = output / ANNOTATION_FILES[name]
    write_json(file, content)
    return file


def as_coco(lines: list[dict]) -> dict:
    """COCO's detection format: images, annotations with box, polygon, area and score, one category."""
    images, annotations = [], []
    for number, line in enumerate(lines, start=1):
        height, width = line["size"]
        about = {name: line[name] for name in ("score", "p_value", "label")}
        images.append({"id": number, "file_name": line["path"], "width": width, "height": height, **about})
        for region in regions_of(line):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "bbox": region["box"],
                    "segmentation": [[value for point in region["polygon"] for value in point]],
                    "area": region["area"],
                    "iscrowd": 0,
                    "score": region["peak"],
                    "significant": region["significant"],
                }
            )
    categories = [{"id": 1, "name": LABEL, "supercategory": ""}]
    return {"info": {}, "licenses": [], "images": images, "annotations": annotations, "categories": categories}


def as_label_studio(lines: list[dict]) -> list[dict]:
    """Tasks with predictions: a choice for the image, a polygon for each region; in per cent of the image's sides.

    For a labelling configuration with `<Image name="image" value="$image"/>`, `<Choices name="label" toName="image">`
    (normal, anomalous) and `<PolygonLabels name="region" toName="image">` (anomaly).
    """
    return [
        {
            "data": {"image": line["path"], "p_value": line["p_value"]},
            "predictions": [{"model_version": "adaptclip", "score": line["score"], "result": list(marks(line))}],
        }
        for line in lines
    ]


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
