"""A run's rows: one for each image, a dict that JSON can hold."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, InstanceOf

from ..files import parse_json
from ..labels import NOT_INSPECTABLE
from ..validation import FileContent, Moment
from .stamps import Stamp, identity

if TYPE_CHECKING:
    from ..engine import Result

RESULT = ("score", "p_value", "label", "regions", "size")
# columns that earlier versions did not write: null where they are not known
LATER = ("time", "part", "part_label", "reason", "margin", "profile", "nearest", "dtype")
ROW = ("path", *RESULT, "heatmap", "map", "error", "among_normals", "bytes", "modified", *LATER)
SEEN = ("file", "changed", "sha256")  # kept beside the rows: where the image lay, and more of its stamp

Text = InstanceOf[str]  # also with surrogates, where a name is in no encoding
Count = Annotated[int, Field(ge=0)]


class RegionContent(FileContent):
    """A region as results hold it."""

    box: Annotated[list[int], Field(min_length=4, max_length=4)]
    polygon: list[Annotated[list[float], Field(min_length=2, max_length=2)]]
    area: Count
    share: float
    peak: float
    mean: float
    significant: bool
    area_mm2: float | None = None


Stored = Annotated[int, Field(ge=-(2**63), lt=2**63)]  # what SQLite and Parquet hold


class RowContent(FileContent):
    """A row as results hold it; version 0.2 wrote no stamp in parts, and none of the columns of `LATER`."""

    path: Text
    score: float | None
    p_value: float | None
    label: Literal["normal", "anomalous", "not inspectable"] | None
    regions: list[RegionContent] | None
    size: Annotated[list[Annotated[int, Field(gt=0, lt=2**31)]], Field(min_length=2, max_length=2)] | None
    heatmap: Text | None
    map: Text | None
    error: Text | None
    among_normals: bool
    bytes: Stored | None
    modified: Stored | None
    time: Moment | None = None
    part: Text | None = None
    part_label: Literal["normal", "anomalous", "not inspectable"] | None = None
    reason: Text | None = None
    margin: float | None = None
    profile: Text | None = None
    nearest: Text | None = None
    dtype: Text | None = None


def is_decided(row: dict) -> bool:
    """Whether a row is of a photo that could be read and inspected."""
    return row["error"] is None and row["label"] != NOT_INSPECTABLE


def row_of(
    path: str,
    stamp: Stamp,
    result: "Result",
    part: str | None = None,
    profile: str | None = None,
    dtype: str | None = None,
) -> dict:
    """
    Args:
        stamp: of the file when it was read, by which a later run knows whether it has changed.
        part: that the photo belongs to; the decision on it is not known here.
        profile: the digest of the profile that decided.
        dtype: of [`AnomalyScorer.dtype`], in which the score was computed.

    Returns:
        The row; its `time` is now: when the image was decided, UTC, to the millisecond.
    """
    row = {"path": path, **{name: getattr(result, name) for name in RESULT}}
    row |= {"heatmap": None, "map": None, "error": result.error}
    row |= {"part": part, "part_label": None, "reason": result.reason, "nearest": result.nearest}
    row |= {"among_normals": result.among_normals, "bytes": stamp.bytes, "modified": stamp.modified}
    row["time"] = datetime.now(UTC).isoformat(timespec="milliseconds")
    row |= {"margin": result.margin, "profile": profile}
    row["dtype"] = None if result.error is not None else dtype
    return row | {"file": identity(path), "changed": stamp.changed, "sha256": stamp.sha256}


def read_row(text: str | bytes) -> dict:
    """The row of a line of JSON.

    Raises:
        ValueError: it is no row; names the fields.
    """
    return checked_row(parse_json(text))


def checked_row(row) -> dict:
    """A row that was read; what its version did not write is `None`.

    Raises:
        ValueError: it is no row, or a result without a score; names the fields.
    """
    RowContent.of(row)
    if row["error"] is None and (row["score"] is None or row["size"] is None):
        raise ValueError("score, size: there is none, and no error that says why")
    return completed(row)


def completed(row: dict) -> dict:
    """A row with what rows of earlier versions lack."""
    return dict.fromkeys(LATER) | row
