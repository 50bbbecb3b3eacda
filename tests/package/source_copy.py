"""A copy of the source to build from: two builds in one folder take the files from each other."""

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILT = (".*", "build", "site", "*.egg-info", "adaptclip_hf-*", "demo-output", "adaptclip-output", "__pycache__")


def copy_of_the_source(folder: Path) -> Path:
    """Copies what a distribution is built of into a folder; returns it."""
    return Path(shutil.copytree(ROOT, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*BUILT)))
