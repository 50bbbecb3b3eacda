"""A camera or a video: photos of it, written into a folder."""

from .photos import capture
from .source import Source

__all__ = ["Source", "capture"]
