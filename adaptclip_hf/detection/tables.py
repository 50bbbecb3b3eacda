"""Result lines as rows of a table: CSV and Parquet, a few thousand rows in memory at a time."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from ..files import whole_file

ROWS_AT_ONCE = 5000
REGION = pa.struct(
    {
        "box": pa.list_(pa.int32()),
        "polygon": pa.list_(pa.list_(pa.float64())),
        "area": pa.int64(),
        "share": pa.float64(),
        "peak": pa.float64(),
        "mean": pa.float64(),
        "significant": pa.bool_(),
    }
)
SCHEMA = pa.schema(
    {
        "path": pa.string(),
        "score": pa.float64(),
        "p_value": pa.float64(),
        "label": pa.string(),
        "regions": pa.list_(REGION),
        "height": pa.int32(),
        "width": pa.int32(),
        "heatmap": pa.string(),
        "map": pa.string(),
        "error": pa.string(),
        "among_normals": pa.bool_(),
    }
)


def row_of(line: dict) -> dict:
    """A result line as a row of [`SCHEMA`]; letters in no encoding as question marks."""
    height, width = line["size"] or (None, None)
    row = {**line, "height": height, "width": width}
    row = {name: row.get(name) for name in SCHEMA.names}
    return {name: readable(value) if isinstance(value, str) else value for name, value in row.items()}


def readable(text: str) -> str:
    return text.encode(errors="replace").decode()


def table_of(lines: Iterable[dict]) -> pa.Table:
    return pa.Table.from_pylist([row_of(line) for line in lines], schema=SCHEMA)


def write_parquet(lines: Iterable[dict], file: Path):
    with whole_file(file) as opened, parquet.ParquetWriter(opened, SCHEMA, compression="zstd") as writer:
        for some in some_at_a_time(lines):
            writer.write_table(table_of(some))


def write_csv(lines: Iterable[dict], file: Path):
    """With a heading; regions as JSON."""
    with whole_file(file) as opened:
        text = io.TextIOWrapper(opened, encoding="utf-8", newline="", write_through=True)
        writer = csv.DictWriter(text, SCHEMA.names)
        writer.writeheader()
        for line in lines:
            row = row_of(line)
            writer.writerow(row | {"regions": None if row["regions"] is None else json.dumps(row["regions"])})
        text.detach()  # which whole_file closes


def some_at_a_time(lines: Iterable[dict]) -> Iterator[list[dict]]:
    lines = iter(lines)
    while some := list(islice(lines, ROWS_AT_ONCE)):
        yield some
