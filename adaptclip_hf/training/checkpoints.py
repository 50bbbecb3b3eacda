"""The checkpoints of a run; they hold only what is trained."""

import json
from pathlib import Path

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

STATE_FILE = "trainer_state.json"


def checkpoints(output: Path) -> list[Path]:
    """The checkpoint folders of a run, oldest first."""
    found = [each for each in output.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if each.name.rpartition("-")[2].isdigit()]
    return sorted(found, key=lambda folder: int(folder.name.rpartition("-")[2]))


def last_complete_checkpoint(output: Path) -> Path | None:
    """The newest complete checkpoint."""
    return next(filter(is_complete, reversed(checkpoints(output))), None)


def is_complete(checkpoint: Path) -> bool:
    """Whether its state file, which is written last, can be read."""
    try:
        json.loads((checkpoint / STATE_FILE).read_text())
    except (OSError, ValueError):
        return False
    return True
