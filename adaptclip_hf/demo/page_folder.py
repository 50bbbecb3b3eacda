"""Where the page writes the files that visitors get."""

import shutil
import tempfile
import time
from pathlib import Path

COPYING = 600  # seconds after which Gradio has long copied a file


class PageFolder:
    """Files that Gradio copies to the folder from which it serves; they are removed soon after, and with the page."""

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="adaptclip-demo-")

    def new(self) -> Path:
        """An empty folder."""
        for each in Path(self._folder.name).iterdir():
            if each.stat().st_mtime < time.time() - COPYING:
                shutil.rmtree(each, ignore_errors=True)
        return Path(tempfile.mkdtemp(dir=self._folder.name))
