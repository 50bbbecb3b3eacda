"""The three kinds of model folder: complete, only the adapters, or complete with the code that loads it."""

import inspect
import json
import re
from copy import deepcopy
from importlib import import_module
from importlib.util import resolve_name
from pathlib import Path

from huggingface_hub import HfApi

from ..files import write_json
from ..model_files import ADAPTERS, COMPLETE, MODEL_FOLDERS, REMOTE_CODE
from ..modeling import AdaptCLIPModel
from ..modeling.adapters_file import save_adapters
from ..processing import AdaptCLIPProcessor
from ..reporting import first_line
from . import HUB_ERRORS

# where the Auto classes and the pipeline find their classes in a folder that brings its code
MODEL_CODE: dict[str, dict] = {
    "auto_map": {
        "AutoConfig": "configuration_adaptclip.AdaptCLIPConfig",
        "AutoModel": "modeling_adaptclip.AdaptCLIPModel",
    },
    "custom_pipelines": {
        "anomaly-detection": {"impl": "pipeline.AnomalyDetectionPipeline", "pt": ["AutoModel"], "type": "image"}
    },
}
PROCESSOR_CODE = {"auto_map": {"AutoProcessor": "processing_adaptclip.AdaptCLIPProcessor"}}
IMAGE_PROCESSOR_CODE = {"auto_map": {"AutoImageProcessor": "image_processing_adaptclip.AdaptCLIPImageProcessor"}}
# their modules in the package, which import all others that are needed
ENTRIES = ("pipeline", "modeling.modeling_adaptclip", "processing.processing_adaptclip")
IMPORT = re.compile(r"^(\s*from )(\.+)((?:\w+\.)*)(\w+)(?= import )", re.MULTILINE)


def save_model_folder(
    model: AdaptCLIPModel,
    processor: AdaptCLIPProcessor,
    folder: str | Path,
    flavour: str = COMPLETE,
    clip: str | None = None,
    clip_revision: str | None = None,
    max_shard_size: int | str = "50GB",
):
    """Writes a model folder.

    Args:
        flavour: the kind of folder: "complete", all weights, for users of this package. "adapters": a few MB without
            the CLIP, which is named by its Hub id and revision and fetched when the model is loaded. "remote-code":
            complete, with the code, so that `trust_remote_code=True` loads it where this package is not installed.
        clip, clip_revision: of the adapters' CLIP, where the model does not record them.
        max_shard_size: of a file of weights; adapters alone are one file.

    Raises:
        ValueError: an unknown flavour, or adapters whose CLIP is not known.
    """
    folder = Path(folder)
    if flavour == REMOTE_CODE and model.config.adapter_variants:
        raise ValueError(
            f"The adapters {', '.join(model.config.adapter_variants)} belong to a plug-in, whose code is not pushed: "
            "push without --flavour remote-code."
        )
    if flavour == ADAPTERS:
        save_adapters_only(model, folder, clip, clip_revision)
    elif flavour in MODEL_FOLDERS:
        model.save_pretrained(folder, max_shard_size=max_shard_size)
    else:
        raise ValueError(f"There is no flavour {flavour!r}; there are {', '.join(MODEL_FOLDERS)}.")
    processor.save_pretrained(folder)
    if flavour == REMOTE_CODE:
        add_code(folder)
    else:
        name_code(folder, {}, {}, {})


def save_adapters_only(model: AdaptCLIPModel, folder: Path, clip: str | None, clip_revision: str | None):
    """Writes the adapters and a config that names the CLIP; its newest revision where none is known."""
    if any(each.requires_grad for each in model.clip.parameters()):
        raise ValueError("This model's CLIP is trained too, and adapters alone need it as it was: save it whole.")
    clip_name = clip or model.config.clip_name
    if not clip_name:
        raise ValueError("The model does not record where its CLIP came from: name its Hub id (clip=, --clip).")
    if not clip_revision and clip_name == model.config.clip_name:
        clip_revision = model.config.clip_revision
    if not clip_revision and not Path(clip_name).is_dir():
        clip_revision = newest_revision(clip_name)
    save_adapters(model, folder)
    config = deepcopy(model.config)
    config.clip_name, config.clip_revision, config.adapters_only = clip_name, clip_revision, True
    config.architectures = [type(model).__name__]
    config.save_pretrained(folder)


def newest_revision(repo_id: str) -> str:
    """The commit that a repository's main branch is at.

    Raises:
        ValueError: the Hub cannot be asked, or there is no such repository.
    """
    try:
        return HfApi().model_info(repo_id).sha
    except HUB_ERRORS as error:
        raise ValueError(
            f"The newest revision of {repo_id} cannot be asked for ({first_line(error)}): name the one that the "
            "adapters belong to (clip_revision=, --clip-revision)."
        ) from error


def add_code(folder: Path):
    """Copies the modules of model, processor and pipeline, and all of the package that they import, into a folder.

    There they are flat, as transformers loads them. An import by the package's full name is of what is not needed.
    """
    names = [resolve_name(f"..{entry}", __package__) for entry in ENTRIES]
    for name in names:  # which grows
        module = import_module(name)
        code = inspect.getsource(module)
        imported = [resolve_name("".join(parts), module.__package__) for _, *parts in IMPORT.findall(code)]
        names += [each for each in dict.fromkeys(imported) if each not in names]
        (folder / f"{name.rpartition('.')[2]}.py").write_text(IMPORT.sub(r"\1.\4", code), encoding="utf-8")
    name_code(folder, MODEL_CODE, PROCESSOR_CODE, IMAGE_PROCESSOR_CODE)


def name_code(folder: Path, model_code: dict, processor_code: dict, image_processor_code: dict):
    """Says in a folder's JSON files where its code is; with no code, what they said before is removed."""

    def renamed(content: dict, code: dict) -> dict:
        return {key: value for key, value in content.items() if key not in MODEL_CODE} | code

    for name, code in (("config.json", model_code), ("processor_config.json", processor_code)):
        content = renamed(json.loads((folder / name).read_text(encoding="utf-8")), code)
        if "image_processor" in content:
            content["image_processor"] = renamed(content["image_processor"], image_processor_code)
        write_json(folder / name, content)


def folder_kind(folder: Path) -> str:
    """One of `MODEL_FOLDERS`."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return ADAPTERS if config.get("adapters_only") else REMOTE_CODE if "auto_map" in config else COMPLETE


def code_files(folder: Path) -> list[str]:
    """The modules that belong to a model folder with its code; empty for the other kinds."""
    if folder_kind(folder) != REMOTE_CODE:
        return []
    names = [entry.rpartition(".")[2] for entry in ENTRIES]
    for name in names:  # which grows
        imported = [last for *_, last in IMPORT.findall((folder / f"{name}.py").read_text(encoding="utf-8"))]
        names += [each for each in imported if each not in names and (folder / f"{each}.py").is_file()]
    return [f"{name}.py" for name in names]
