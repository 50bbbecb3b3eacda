"""The formats in which a run writes its results beside its own; imports nothing heavy."""

import json
from collections.abc import Iterable
from typing import IO

JSONL, CSV, PARQUET, COCO, LABEL_STUDIO = "jsonl", "csv", "parquet", "coco", "label-studio"
# the file of each, in the folder of results
FORMAT_FILES = {
    JSONL: "results.jsonl",
    CSV: "results.csv",
    PARQUET: "results.parquet",
    COCO: "coco.json",
    LABEL_STUDIO: "label-studio.json",
}
FORMATS = tuple(FORMAT_FILES)


def write_format(name: str, rows: Iterable[dict], opened: IO[bytes]):
    """Writes rows in one of the formats.

    Args:
        rows: gone through once or twice, and never all in memory.
    """
    from .annotations import write_coco, write_label_studio
    from .tables import write_csv, write_parquet

    writers = {CSV: write_csv, PARQUET: write_parquet, COCO: write_coco, LABEL_STUDIO: write_label_studio}
    writers.get(name, write_lines)(rows, opened)


def write_lines(rows: Iterable[dict], opened: IO[bytes]):
    from .rows import ROW

    for row in rows:
        opened.write(json.dumps({name: row[name] for name in ROW}).encode() + b"\n")
