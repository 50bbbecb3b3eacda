"""A model folder in three flavours: complete, the adapters alone, or with the code that loads it."""

import json
import re
from copy import deepcopy
from itertools import chain
from pathlib import Path

from huggingface_hub import HfApi

from .. import engine, model_files, modeling, pipeline, processing
from ..files import write_json
from ..model_files import ADAPTERS, COMPLETE, FLAVOURS, REMOTE_CODE
from ..modeling import AdaptCLIPModel
from ..modeling.adapters_file import save_adapters
from ..processing import AdaptCLIPProcessor
from ..reporting import first_line
from . import HUB_ERRORS

# where the Auto classes and the pipeline find theirs in a folder that brings its code
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
PACKAGE_IMPORT = re.compile(r"^(\s*from )\.+(?:engine|modeling|processing)?\.?(?=\w+ import )", re.MULTILINE)


def save_flavour(
    model: AdaptCLIPModel,
    processor: AdaptCLIPProcessor,
    folder: str | Path,
    flavour: str = COMPLETE,
    clip: str | None = None,
    clip_revision: str | None = None,
):
    """Writes a model folder.

    Args:
        flavour: "complete": all weights, for users of this package. "adapters": a few MB without the CLIP, which is
            named by its Hub id and revision and fetched when the model is loaded. "remote-code": complete, and with
            the code, so that `trust_remote_code=True` loads it where this package is not installed.
        clip, clip_revision: of the adapters' CLIP, where the model does not record them.

    Raises:
        ValueError: an unknown flavour, or adapters whose CLIP is not known.
    """
    folder = Path(folder)
    if flavour == REMOTE_CODE and model.config.adapter_variants:
        raise ValueError(
            f"The adapters {', '.join(model.config.adapter_variants)} are a plug-in's, whose code does not go along: "
            "push without --flavour remote-code."
        )
    if flavour == ADAPTERS:
        save_adapters_only(model, folder, clip, clip_revision)
    elif flavour in FLAVOURS:
        model.save_pretrained(folder)
    else:
        raise ValueError(f"There is no flavour {flavour!r}; there are {', '.join(FLAVOURS)}.")
    processor.save_pretrained(folder)
    if flavour == REMOTE_CODE:
        add_code(folder)
    else:
        name_code(folder, {}, {}, {})


def save_adapters_only(model: AdaptCLIPModel, folder: Path, clip: str | None, clip_revision: str | None):
    """Writes the adapters and a config that names the CLIP; its newest revision where none is known."""
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
    """Puts the code of model, processor and pipeline into a folder, flat, as transformers loads it, and names it."""
    packages = [Path(package.__file__).parent.glob("[!_]*.py") for package in (modeling, processing, engine)]
    for file in (*chain(*packages), Path(pipeline.__file__), Path(model_files.__file__)):
        code = PACKAGE_IMPORT.sub(r"\1.", file.read_text(encoding="utf-8"))
        (folder / file.name).write_text(code, encoding="utf-8")
    name_code(folder, MODEL_CODE, PROCESSOR_CODE, IMAGE_PROCESSOR_CODE)


def name_code(folder: Path, model_code: dict, processor_code: dict, image_processor_code: dict):
    """Says in a folder's JSON files where its code is; with nothing to say, what another flavour said goes."""

    def renamed(content: dict, code: dict) -> dict:
        return {key: value for key, value in content.items() if key not in MODEL_CODE} | code

    for name, code in (("config.json", model_code), ("processor_config.json", processor_code)):
        content = renamed(json.loads((folder / name).read_text(encoding="utf-8")), code)
        if "image_processor" in content:
            content["image_processor"] = renamed(content["image_processor"], image_processor_code)
        write_json(folder / name, content)


def flavour_of(folder: Path) -> str:
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return ADAPTERS if settings.get("adapters_only") else REMOTE_CODE if "auto_map" in settings else COMPLETE


def code_files(folder: Path) -> list[str]:
    """The code that belongs to a folder of the remote-code flavour; empty for the others."""
    if flavour_of(folder) != REMOTE_CODE:
        return []
    entries = (MODEL_CODE["auto_map"], PROCESSOR_CODE["auto_map"], IMAGE_PROCESSOR_CODE["auto_map"])
    waiting = ["pipeline", *(name.partition(".")[0] for each in entries for name in each.values())]
    found = []
    while waiting:
        file = f"{waiting.pop()}.py"
        if file not in found and (folder / file).is_file():
            found.append(file)
            waiting += re.findall(r"^\s*from \.(\w+) import", (folder / file).read_text(encoding="utf-8"), re.MULTILINE)
    return found
