"""Rows as a table: CSV and Parquet, a few thousand rows in memory at a time."""

import csv
import io
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import IO

import pyarrow as pa
from pyarrow import parquet

from ..files import csv_cell
from .index import key_of, path_of
from .rows import LATER, ROW, SEEN
from .stamps import UNKNOWN

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
        "area_mm2": pa.float64(),
    }
)
EARLIER_REGIONS = pa.list_(pa.struct([field for field in REGION if field.name != "area_mm2"]))
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
        "time": pa.string(),
        "part": pa.string(),
        "part_label": pa.string(),
        "reason": pa.string(),
        "margin": pa.float64(),
        "profile": pa.string(),
        "nearest": pa.string(),
        "dtype": pa.string(),
    }
)


BOOKKEEPING = {
    "bytes": pa.int64(),
    "modified": pa.int64(),
    "path_bytes": pa.binary(),
    "file_bytes": pa.binary(),
    "changed": pa.int64(),
    "sha256": pa.string(),
}
MAP_PNG = "map_png"
BOX = ("x", "y", "width", "height")
REGION_CELLS = ("area", "share", "peak", "mean", "significant", "area_mm2")
LARGEST = tuple(f"largest_{name}" for name in (*BOX, "area"))  # columns of a CSV file


def part_schema(maps: bool) -> pa.Schema:
    """[`SCHEMA`] and what a run needs to go on: the stamp of each file, and the path where it is in no encoding."""
    more = ({MAP_PNG: pa.binary()} if maps else {}) | BOOKKEEPING
    return pa.schema([*SCHEMA, *map(pa.field, more.keys(), more.values())])


def require_part(schema: pa.Schema):
    """
    Raises:
        ValueError: a table is not of [`part_schema`]; names the columns.
    """
    expected = part_schema(maps=MAP_PNG in schema.names)
    wrong = [
        name
        for name in schema.names
        if name in expected.names
        and schema.field(name).type != expected.field(name).type
        and (name != "regions" or schema.field(name).type != EARLIER_REGIONS)
    ]
    if wrong := wrong or [name for name in SCHEMA.names if name not in (*schema.names, *LATER)]:
        raise ValueError(f"the columns are not those of results: {', '.join(wrong)}")


def table_of(rows: Iterable[dict], schema: pa.Schema = SCHEMA) -> pa.Table:
    return pa.Table.from_pylist([flat(row, schema.names) for row in rows], schema=schema)


def flat(row: dict, names: list[str]) -> dict:
    """A row as a table has it: height and width apart, letters in no encoding as question marks."""
    height, width = row["size"] or (None, None)
    row = {**row, "height": height, "width": width, "path_bytes": None}
    row["file_bytes"] = key_of(row["file"]) if "file" in row else None
    if readable(row["path"]) != row["path"]:
        row["path_bytes"] = key_of(row["path"])
    return {name: readable(row[name]) if isinstance(row.get(name), str) else row.get(name) for name in names}


def rows_of(table: pa.Table) -> Iterator[dict]:
    """The rows of a table of [`part_schema`]; earlier versions wrote less bookkeeping."""
    for each in table.to_pylist():
        row = {name: each.get(name) for name in ROW}
        row["size"] = None if each["height"] is None else [each["height"], each["width"]]
        for region in row["regions"] or ():
            if region.get("area_mm2", 0) is None:
                del region["area_mm2"]  # where no scale is known, regions have none
        if each.get("path_bytes") is not None:
            row["path"] = path_of(each["path_bytes"])
        if "bytes" not in each:
            row["bytes"], row["modified"] = UNKNOWN[:2]
        if each.get("file_bytes") is not None:
            row |= {name: each.get(name) for name in SEEN} | {"file": path_of(each["file_bytes"])}
        yield row | ({MAP_PNG: each[MAP_PNG]} if MAP_PNG in each else {})


def readable(text: str) -> str:
    return text.encode(errors="replace").decode()


def write_parquet(rows: Iterable[dict], opened: IO[bytes]):
    rows = iter(rows)
    with parquet.ParquetWriter(opened, SCHEMA, compression="zstd") as writer:
        while some := list(islice(rows, ROWS_AT_ONCE)):
            writer.write_table(table_of(some))


def write_csv(rows: Iterable[dict], opened: IO[bytes]):
    """A line an image: how many regions it has and the box of the largest one in columns of their own."""
    columns = [each for name in SCHEMA.names for each in ((name, *LARGEST) if name == "regions" else (name,))]
    write_cells(columns, map(image_cells, rows), opened)


def write_region_csv(rows: Iterable[dict], opened: IO[bytes]):
    """A line a region, counted from 1 in each image, the highest first."""
    columns = ["path", "label", "region", *BOX, *REGION_CELLS]
    write_cells(columns, (cells for row in rows for cells in region_cells(row)), opened)


def image_cells(row: dict) -> dict:
    row = flat(row, SCHEMA.names)
    if row["regions"] is None:
        return row
    largest = max(row["regions"], key=lambda region: region["area"], default=None)
    box = {} if largest is None else dict(zip(LARGEST, (*largest["box"], largest["area"]), strict=True))
    return row | box | {"regions": len(row["regions"])}


def region_cells(row: dict) -> Iterator[dict]:
    about = flat(row, ["path", "label"])
    for number, region in enumerate(row["regions"] or [], start=1):
        box = dict(zip(BOX, region["box"], strict=True))
        yield about | {"region": number} | box | {name: region.get(name) for name in REGION_CELLS}


def write_cells(columns: list[str], lines: Iterable[dict], opened: IO[bytes]):
    """A CSV file with a heading; texts as [`csv_cell`]. It begins with a byte order mark, without which Excel takes the
    letters for those of another encoding."""
    text = io.TextIOWrapper(opened, encoding="utf-8-sig", newline="", write_through=True)
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    for line in lines:
        writer.writerow({name: csv_cell(value) for name, value in line.items()})
    text.detach()  # closed by whoever opened it
