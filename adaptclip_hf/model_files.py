"""The files of a model folder, and the folder that a model's name means; imports nothing heavy."""

from pathlib import Path

from .files import parse_json

DEFAULT_NAME = "adaptclip-tiny"
DEFAULT_MODEL = str(Path(__file__).resolve().parent / "models" / DEFAULT_NAME)

WEIGHTS_FILE = "model.safetensors"
# of a complete model, of one in shards, of adapters without their CLIP
ADAPTERS_FILE = "adapters.safetensors"
WEIGHTS_FILES = (WEIGHTS_FILE, f"{WEIGHTS_FILE}.index.json", ADAPTERS_FILE)
NEEDED_FILES = ("config.json", "processor_config.json", "tokenizer.json")
# what a model folder may hold: all weights, the adapters without their CLIP, all weights and the code that loads them
COMPLETE, ADAPTERS, REMOTE_CODE = MODEL_FOLDERS = ("complete", "adapters", "remote-code")
CARD = "README.md"
PROFILE_FILE = "profile.json"  # of an inspection profile
# of an exported model: ours, and transformers' own, which names the graphs
EXPORT_FILE, EXPORT_MANIFEST = "adaptclip_export.json", "export.json"
# what training writes into the model's folder
TRAINING_RECORD = "training.json"


def is_exported(folder: str | Path) -> bool:
    """Whether it is a folder that `adaptclip export` wrote, complete or not."""
    return any((Path(folder) / name).is_file() for name in (EXPORT_FILE, EXPORT_MANIFEST))


def is_clip(folder: str | Path) -> bool:
    """Whether it is the folder of a plain CLIP."""
    try:
        config = parse_json((Path(folder) / "config.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("model_type") == "clip"


def names_of_weights(variant: str | None) -> tuple[str, ...]:
    """The names of `WEIGHTS_FILES` in a variant; adapters have none."""
    if variant is None:
        return WEIGHTS_FILES
    from .modeling.damage import of_variant  # with torch, which the names alone do not need

    return tuple(name if name == ADAPTERS_FILE else of_variant(name, variant) for name in WEIGHTS_FILES)


def resolve_model(model: str | Path, variant: str | None = None) -> str:
    """The folder of the embedded default for its name, otherwise the folder or Hub id itself.

    Args:
        variant: of the weights, whose files have it in their names.

    Raises:
        FileNotFoundError: for a folder that lacks a file which a model needs.
    """
    if str(model) == DEFAULT_NAME:
        return DEFAULT_MODEL
    folder = Path(model)
    if folder.is_dir() and not is_clip(folder):
        missing = [name for name in NEEDED_FILES if not (folder / name).is_file()]
        expected = names_of_weights(variant)
        if not is_exported(folder) and not any((folder / name).is_file() for name in expected):
            missing.append(expected[0])
        if missing:
            raise FileNotFoundError(
                f"{folder} is not a complete model: it lacks {', '.join(missing)}. Expected a folder that "
                "`adaptclip convert` or save_pretrained of model and processor wrote."
            )
    elif not folder.is_dir() and (folder.is_absolute() or str(model).count("/") > 1 or str(model).startswith(".")):
        raise FileNotFoundError(f"No model folder at {model}.")
    return str(model)
