"""A file that holds the adapters, a few MB, without their CLIP, or all that trains of a model."""

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
    """Writes all tensors that are not the frozen CLIP's to `folder/adapters.safetensors`, with a digest of it.

    Args:
        model: an [`AdaptCLIPModel`], or PEFT's model around one.
    """
    model = without_wrapper(model)
    kept = learned_names(model)
    file = Path(folder) / ADAPTERS_FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: each.contiguous() for name, each in model.state_dict().items() if name in kept}
    (file.parent / CHECKSUMS_FILE).unlink(missing_ok=True)  # a stop in between leaves no sums rather than old ones
    save_file(tensors, file, metadata={"format": "pt", "clip": model.clip_digest()})
    write_weights_checksums(file.parent)
    return file


def learned_names(model: nn.Module) -> set[str]:
    """The names of the tensors in the file: all of the adapters, and of the CLIP those that are trained.

    The embeddings of the learned prompts are computed again after loading.
    """
    adapters = {name for name in model.state_dict() if not name.startswith(CLIP_PREFIX)}
    trained = {name for name, each in model.named_parameters() if each.requires_grad}
    return (adapters | trained) - {LEARNED_TEXT}


def without_wrapper(model: nn.Module) -> nn.Module:
    """The model that PEFT wrapped, whose layers hold what PEFT added; a plain model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def load_adapters(model: nn.Module, folder: str | Path):
    """Reads what [`save_adapters`] wrote into a model on the same CLIP, of which the same is trained.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, belongs to another CLIP, or holds other adapters.
    """
    model = without_wrapper(model)
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
    differing = sorted(learned_names(model) ^ tensors.keys())
    if of_clip := [name for name in differing if name.startswith(CLIP_PREFIX)]:
        raise ValueError(f"{file} was written where other weights of the CLIP are trained, such as {of_clip[0]}.")
    if digest != model.clip_digest():
        raise ValueError(f"{file} belongs to another CLIP than this model's: its adapters would score nonsense.")
    if differing:
        raise ValueError(f"{file} holds other adapters than this model: they differ in {', '.join(differing[:3])}.")
    shapes = model.state_dict()
    if differing := sorted(name for name, each in tensors.items() if each.shape != shapes[name].shape):
        raise ValueError(f"{file}: {differing[0]} has another shape than this model's adapters have.")
    known = {name: each for name, each in tensors.items() if name not in TEXT_EMBEDS or not each.isnan().all()}
    require_finite(known, file)
    model.load_state_dict(tensors, strict=False)
