"""Models by name: the embedded default, folders and Hub ids."""

from pathlib import Path

DEFAULT_NAME = "adaptclip-tiny"
DEFAULT_MODEL = str(Path(__file__).resolve().parent / "models" / DEFAULT_NAME)
NEEDED_FILES = ("config.json", "model.safetensors", "processor_config.json", "tokenizer.json")


def resolve_model(model: str | Path) -> str:
    """The folder of the embedded default for its name, otherwise the folder or Hub id itself.

    Raises:
        FileNotFoundError: for a folder that lacks a file which a model needs.
    """
    if str(model) == DEFAULT_NAME:
        return DEFAULT_MODEL
    folder = Path(model)
    if folder.is_dir():
        sharded = (folder / "model.safetensors.index.json").is_file()
        missing = [
            name
            for name in NEEDED_FILES
            if not (folder / name).is_file() and not (sharded and name == "model.safetensors")
        ]
        if missing:
            raise FileNotFoundError(
                f"{folder} is not a complete model: it lacks {', '.join(missing)}. Expected a folder that "
                "`adaptclip convert` or save_pretrained of model and processor wrote."
            )
    elif folder.is_absolute() or str(model).count("/") > 1 or str(model).startswith("."):
        raise FileNotFoundError(f"No model folder at {model}.")
    return str(model)
