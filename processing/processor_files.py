"""Reads a processor's files. They choose settings that are known here, and no class, code or file elsewhere."""

import json
from pathlib import Path
from typing import Any

from transformers import CLIPTokenizer, PreTrainedTokenizerFast
from transformers.utils import PROCESSOR_NAME, cached_file

from .image_settings import checked_image_settings

TOKENIZER_CONFIG = "tokenizer_config.json"
TOKENIZER_FILES = ("tokenizer.json", "vocab.json")
HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token")
CLIP_TOKENIZERS = (None, "CLIPTokenizer", "CLIPTokenizerFast")


def image_settings(name: str | Path, **hub) -> dict[str, Any]:
    """The settings of an image processor, of a folder's or repository's `processor_config.json`.

    Raises:
        OSError: there is no such file.
        ValueError: names the file, the setting and what was expected.
    """
    return checked_image_settings(read_settings(name, PROCESSOR_NAME, **hub), f"{name}/{PROCESSOR_NAME}")


def load_tokenizer(name: str | Path, **options):
    """The tokenizer of a folder or repository, of its `tokenizer.json`.

    Args:
        options: of `from_pretrained`; what is asked about trust is not, because nothing that lies there runs.

    Raises:
        OSError: there is none.
        ValueError: it is damaged; names the folder.
    """
    options = {key: value for key, value in options.items() if key not in ("trust_remote_code", "code_revision")}
    hub = {key: options[key] for key in HUB_ARGUMENTS if key in options}
    folder = Path(name, options.get("subfolder") or "")
    # one of no words would be made
    if Path(name).is_dir() and not any((folder / file).is_file() for file in TOKENIZER_FILES):
        raise OSError(f"No tokenizer at {folder}: expected {TOKENIZER_FILES[0]}.")
    chosen = read_settings(name, TOKENIZER_CONFIG, **hub).get("tokenizer_class")
    tokenizer_class = CLIPTokenizer if chosen in CLIP_TOKENIZERS else PreTrainedTokenizerFast
    try:
        return tokenizer_class.from_pretrained(name, **options)
    except OSError:
        raise
    except Exception as error:  # tokenizers raises the bare class
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"The tokenizer at {name} cannot be read, tokenizer.json or {TOKENIZER_CONFIG} is damaged: {reason:.200}"
        ) from error


def read_settings(name: str | Path, file_name: str, **hub) -> dict[str, Any]:
    """The content of a JSON file of a folder or repository; empty where it is not there."""
    file = cached_file(str(name), file_name, _raise_exceptions_for_missing_entries=False, **hub)
    if file is None:
        return {}
    try:
        content = json.loads(Path(file).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name}/{file_name} is no JSON ({error}): get it again from where it came.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{name}/{file_name} must hold names and values, not a {type(content).__name__}.")
    return content
