"""From checkpoints of other programs to model folders."""

from .convert import RELEASED_CLIP, adapter_names, convert, read_clip
from .open_clip import open_clip_config

__all__ = ["RELEASED_CLIP", "adapter_names", "convert", "open_clip_config", "read_clip"]
