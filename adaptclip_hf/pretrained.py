"""Models by name: the embedded default, folders and Hub ids."""

from pathlib import Path

from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError

from .modeling import AdaptCLIPModel
from .modeling.adapters_file import ADAPTERS_FILE
from .processing import AdaptCLIPProcessor

DEFAULT_NAME = "adaptclip-tiny"
DEFAULT_MODEL = str(Path(__file__).resolve().parent / "models" / DEFAULT_NAME)
WEIGHTS_FILE = "model.safetensors"
WEIGHTS_FILES = (WEIGHTS_FILE, f"{WEIGHTS_FILE}.index.json", ADAPTERS_FILE)
NEEDED_FILES = ("config.json", "processor_config.json", "tokenizer.json")


def resolve_model(model: str | Path) -> str:
    """The folder of the embedded default for its name, otherwise the folder or Hub id itself.

    Raises:
        FileNotFoundError: for a folder that lacks a file which a model needs.
    """
    if str(model) == DEFAULT_NAME:
        return DEFAULT_MODEL
    folder = Path(model)
    if folder.is_dir():
        missing = [name for name in NEEDED_FILES if not (folder / name).is_file()]
        if not any((folder / name).is_file() for name in WEIGHTS_FILES):
            missing.append(WEIGHTS_FILE)
        if missing:
            raise FileNotFoundError(
                f"{folder} is not a complete model: it lacks {', '.join(missing)}. Expected a folder that "
                "`adaptclip convert` or save_pretrained of model and processor wrote."
            )
    elif folder.is_absolute() or str(model).count("/") > 1 or str(model).startswith("."):
        raise FileNotFoundError(f"No model folder at {model}.")
    return str(model)


def load_model_and_processor(model: str | Path) -> tuple[AdaptCLIPModel, AdaptCLIPProcessor]:
    """A model and its processor by the name that [`resolve_model`] takes.

    Raises:
        FileNotFoundError: no such folder or repository, or one that may not be read.
        OSError, ValueError: as from_pretrained.
    """
    name = resolve_model(model)
    try:
        return AdaptCLIPModel.from_pretrained(name), AdaptCLIPProcessor.from_pretrained(name)
    except OSError as error:
        reason = error.__cause__ or error
        if isinstance(reason, GatedRepoError | RepositoryNotFoundError):
            raise FileNotFoundError(
                f"No model {name}: there is no such folder, and no repository of that name that may be read. A private "
                "or gated one needs a token of somebody who may: `hf auth login`, or HF_TOKEN."
            ) from error
        if isinstance(reason, OfflineModeIsEnabled):
            raise FileNotFoundError(f"No model {name} here, and the Hub is not asked in offline mode.") from error
        raise
