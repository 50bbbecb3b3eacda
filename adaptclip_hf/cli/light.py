"""Scoring by an exported model without torch and transformers, whose imports take seconds."""

import argparse
from pathlib import Path
from typing import Any

from ..files import parse_json
from ..model_files import EXPORT_FILE, PROFILE_FILE
from ..runtimes.formats import EXPORT_FORMATS
from .dtype_choice import AUTO, FLOAT32


def is_light(args: argparse.Namespace) -> bool:
    """Whether a call of `adaptclip detect` needs no torch: its model is exported to ONNX or OpenVINO, everything that
    it names lies here, and it asks for nothing that takes torch."""
    from importlib.util import find_spec

    if args.dtype not in (None, AUTO, FLOAT32) or args.device not in (None, "cpu"):
        return False
    if args.engine != "local" or args.save_prompt_bank:
        return False
    if args.profile and not Path(args.profile).is_dir():
        return False
    if args.prompt_bank and not Path(args.prompt_bank).exists():
        return False
    model = args.model or field(Path(args.profile or "", PROFILE_FILE), "model")
    if not model or (args.dtype == FLOAT32 and field(Path(model, EXPORT_FILE), "precision") != FLOAT32):
        return False
    exported = EXPORT_FORMATS.get(field(Path(model, EXPORT_FILE), "format"))
    return exported is not None and exported.runtime is not None and find_spec(exported.runtime) is not None


def field(file: Path, name: str) -> str:
    """A text of a JSON file; empty where there is none. What is wrong with the file is told by who reads it."""
    try:
        content = parse_json(file.read_bytes())
    except (OSError, ValueError):
        return ""
    value = content.get(name) if isinstance(content, dict) else None
    return value if isinstance(value, str) else ""


def light_scorer(model: str, device: str | None):
    """The scorer of an exported folder."""
    from ..engine import AnomalyScorer
    from ..runtimes.light_model import LightModel, light_processor

    made: tuple[Any, Any] = LightModel.from_pretrained(model, device), light_processor(Path(model))
    return AnomalyScorer(*made)
