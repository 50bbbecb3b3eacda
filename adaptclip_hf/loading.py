"""Models and devices by name: the embedded default, folders, Hub ids."""

from pathlib import Path

import torch
from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError
from safetensors import SafetensorError
from transformers.utils import CONFIG_NAME

from .hub_access import near_names, reaching, require_hub_id
from .model_files import DEFAULT_MODEL, DEFAULT_NAME, is_exported, resolve_model
from .modeling.modeling_adaptclip import AdaptCLIPModel
from .modeling.pretrained_adaptclip import HUB_ARGUMENTS
from .processing.processing_adaptclip import AdaptCLIPProcessor
from .processing.processor_files import load_tokenizer
from .product_rates import CLEARLY, bfloat16_gain
from .runtimes import ExportedAdaptCLIP

AUTO_DTYPE = "auto"


def load_model_and_processor(model: str | Path, **options) -> tuple[AdaptCLIPModel, AdaptCLIPProcessor]:
    """A model and its processor by the name that [`resolve_model`] takes; a plain CLIP gets fresh adapters.

    Args:
        options: of [`AdaptCLIPModel.from_pretrained`].

    Raises:
        FileNotFoundError: no such folder or repository, or one that may not be read.
        OSError, ValueError: as from_pretrained.
    """
    if Path(model).is_dir() and options.get("subfolder"):
        model = Path(model, options.pop("subfolder"))
    name = resolve_model(model, options.get("variant"))
    if is_exported(name):
        try:
            return ExportedAdaptCLIP.from_pretrained(name, **options), AdaptCLIPProcessor.from_pretrained(name)
        except ImportError as error:
            raise ValueError(str(error)) from error
    if not Path(name).is_dir():
        require_hub_id(name, "model", CONFIG_NAME, known=(DEFAULT_NAME,))
        options = reaching(options)
    options.pop("trust_remote_code", None)  # of exported models: no other brings code that is run
    shared = {key: options[key] for key in HUB_ARGUMENTS if key in options}
    try:
        if AdaptCLIPModel.config_class.get_config_dict(name, **shared)[0].get("model_type") == "clip":
            return load_clip(name, **options)
        return AdaptCLIPModel.from_pretrained(name, **options), AdaptCLIPProcessor.from_pretrained(name, **shared)
    except SafetensorError as error:
        raise ValueError(
            f"The weights of {name} cannot be read ({error}): the file is truncated or damaged."
        ) from error
    except OSError as error:
        reason = error.__cause__ or error
        if isinstance(reason, GatedRepoError | RepositoryNotFoundError):
            raise FileNotFoundError(
                f"No model {name}: there is no such folder, and no repository of that name that may be read. A private "
                "or gated one needs a token of somebody who may: `hf auth login`, or HF_TOKEN."
            ) from error
        if isinstance(reason, OfflineModeIsEnabled):
            raise FileNotFoundError(f"No model {name} here, and the Hub is not asked in offline mode.") from error
        if options.get("local_files_only"):
            raise FileNotFoundError(
                f"No model at {name}: there is no such folder, and the Hub cannot be reached."
                f"{near_names(name, CONFIG_NAME)}"
            ) from error
        raise


def load_clip(name: str, text_tower: bool = True, **options) -> tuple[AdaptCLIPModel, AdaptCLIPProcessor]:
    """Fresh adapters on a plain CLIP, which are left out of its scores."""
    if isinstance(options.get("dtype"), str):
        options["dtype"] = getattr(torch, options["dtype"])
    hub = {key: options[key] for key in HUB_ARGUMENTS if key in options}
    tokenizer = load_tokenizer(name, **hub)
    model = AdaptCLIPModel.from_clip_pretrained(name, tokenizer, **options)
    return model, AdaptCLIPProcessor.for_model(model.config, tokenizer)


def choose_dtype(device: torch.device) -> torch.dtype | None:
    """bfloat16 where the device multiplies it clearly faster than float32, otherwise `None`, the saved one."""
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = device.type == "cpu" and bfloat16_gain() >= CLEARLY
    return torch.bfloat16 if fast else None


def choose_device(device: str | int | torch.device | None = None) -> torch.device:
    """The given device; by default a GPU, or the CPU without one.

    Raises:
        ValueError: there is no such device here.
    """
    if device is None:
        return torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        here = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu alone"
        raise ValueError(f"There is no device {device!r} here ({reason}); there is {here}.") from error
    return chosen


__all__ = ["DEFAULT_MODEL", "choose_device", "load_model_and_processor"]
