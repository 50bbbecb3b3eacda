"""Models by name: the embedded default, folders and Hub ids."""

from pathlib import Path

from .modeling.adapters_file import ADAPTERS_FILE

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
