"""Checkpoints of the adapters alone: a few MB, not a copy of CLIP."""

import json
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..modeling import AdaptCLIPModel

ADAPTERS_FILE = "adapters.safetensors"
STATE_FILE = "trainer_state.json"


def save_adapters(model: AdaptCLIPModel, folder: str | Path) -> Path:
    """Writes everything but the CLIP to `folder/adapters.safetensors`, with the fingerprint of the image encoder."""
    file = Path(folder) / ADAPTERS_FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: each.contiguous() for name, each in model.state_dict().items() if not name.startswith("clip.")}
    save_file(tensors, file, metadata={"format": "pt", "encoder": model.fingerprint()["weights"]})
    return file


def load_adapters(model: AdaptCLIPModel, folder: str | Path):
    """Reads what [`save_adapters`] wrote into a model on the same CLIP.

    Raises:
        FileNotFoundError: no such checkpoint.
        ValueError: of another CLIP, or of other adapters.
    """
    file = Path(folder) / ADAPTERS_FILE
    if not file.is_file():
        raise FileNotFoundError(f"No adapters at {file}: expected a checkpoint that training wrote.")
    with safe_open(file, framework="pt") as opened:
        encoder = (opened.metadata() or {}).get("encoder")
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}
    if encoder != model.fingerprint()["weights"]:
        raise ValueError(f"{file} belongs to another CLIP: resume with the model that training began with.")
    expected = {name for name in model.state_dict() if not name.startswith("clip.")}
    if differing := sorted(expected ^ tensors.keys()):
        raise ValueError(f"{file} holds other adapters than this model: they differ in {', '.join(differing[:3])}.")
    model.load_state_dict(tensors, strict=False)


def checkpoints(output: Path) -> list[Path]:
    """The checkpoint folders of a run, oldest first."""
    found = [each for each in output.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if each.name.rpartition("-")[2].isdigit()]
    return sorted(found, key=lambda folder: int(folder.name.rpartition("-")[2]))


def last_complete_checkpoint(output: Path) -> Path | None:
    """The newest checkpoint that was written to its end: its state, which comes last, can be read."""
    for folder in reversed(checkpoints(output)):
        try:
            json.loads((folder / STATE_FILE).read_text())
        except (OSError, ValueError):
            continue
        return folder
    return None
