"""A run's rows: one for each image, a dict that JSON can hold."""

from ..engine import Result
from .sources import Stamp

RESULT = ("score", "p_value", "label", "regions", "size")
ROW = ("path", *RESULT, "heatmap", "map", "error", "among_normals", "bytes", "modified")


def row_of(path: str, stamp: Stamp, result: Result) -> dict:
    """
    Args:
        stamp: of the file when it was read, by which a later run knows whether it has changed.
    """
    row = {"path": path, **{name: getattr(result, name) for name in RESULT}}
    row |= {"heatmap": None, "map": None, "error": result.error}
    return row | {"among_normals": result.among_normals, "bytes": stamp[0], "modified": stamp[1]}
