"""A file of a few MB that holds the adapters without their CLIP."""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from .checks import LEARNED_TEXT, TEXT_EMBEDS
from .checksums import CHECKSUMS_FILE
from .damage import GET_IT_AGAIN, require_finite, require_undamaged, write_weights_checksums

ADAPTERS_FILE = "adapters.safetensors"
CLIP_PREFIX = "clip."


def save_adapters(model: nn.Module, folder: str | Path) -> Path:
    """Writes all tensors that are not the CLIP's to `folder/adapters.safetensors`, with a digest of the CLIP."""
    file = Path(folder) / ADAPTERS_FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: each.contiguous() for name, each in model.state_dict().items() if is_adapters(name)}
    (file.parent / CHECKSUMS_FILE).unlink(missing_ok=True)  # a stop in between leaves no sums rather than old ones
    save_file(tensors, file, metadata={"format": "pt", "clip": model.clip_digest()})
    write_weights_checksums(file.parent)
    return file


def is_adapters(name: str) -> bool:
    """Whether the file holds a tensor; the embeddings of the learned prompts are computed again after loading."""
    return not name.startswith(CLIP_PREFIX) and name != LEARNED_TEXT


def load_adapters(model: nn.Module, folder: str | Path):
    """Reads what [`save_adapters`] wrote into a model on the same CLIP.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, belongs to another CLIP, or holds other adapters.
    """
    file = Path(folder) / ADAPTERS_FILE
    if not file.is_file():
        raise FileNotFoundError(f"No adapters at {file}: expected a checkpoint or adapters-only model.")
    require_undamaged([file])
    try:
        with safe_open(file, framework="pt") as opened:
            digest = (opened.metadata() or {}).get("clip")
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}
    except SafetensorError as error:
        raise ValueError(f"{file} cannot be read, it is truncated or damaged ({error}): {GET_IT_AGAIN}.") from error
    if digest != model.clip_digest():
        raise ValueError(f"{file} belongs to another CLIP than this model's: its adapters would score nonsense.")
    expected = {name for name in model.state_dict() if is_adapters(name)}
    if differing := sorted(expected ^ tensors.keys()):
        raise ValueError(f"{file} holds other adapters than this model: they differ in {', '.join(differing[:3])}.")
    shapes = model.state_dict()
    if differing := sorted(name for name, each in tensors.items() if each.shape != shapes[name].shape):
        raise ValueError(f"{file}: {differing[0]} has another shape than this model's adapters have.")
    known = {name: each for name, each in tensors.items() if name not in TEXT_EMBEDS or not each.isnan().all()}
    require_finite(known, file)
    model.load_state_dict(tensors, strict=False)
