"""What transformers' common tests import and its source distribution does not hold; ours, as little as they need."""

import json
import os
import sys
from pathlib import Path
from types import ModuleType

import transformers


class ExportTesterMixin:
    """Tests of exporters, which are not distributed."""


class GenerationTesterMixin:
    """Tests of generation, which are not distributed, and are of no model here."""


def installed_transformers(path) -> ModuleType:
    """Not the copy in the source, whose classes would be others."""
    return transformers


def local_path(url: str) -> str:
    """Nothing is fetched: a test that opens it fails for want of a network."""
    return url


MODULES = {
    "tests.exporters.test_export": {"ExportTesterMixin": ExportTesterMixin},
    "tests.generation.test_utils": {"GenerationTesterMixin": GenerationTesterMixin},
    "tests.utils.test_configuration_utils": {"config_common_kwargs": {}},
    "fetch_hub_objects_for_ci": {"url_to_local_path": local_path},
}


def install(source: Path, tiny_models: Path, models: dict):
    """Makes `tests` the folder of the source, and its missing modules those above.

    Args:
        source: of [`fetch_sdist.transformers_source`].
        tiny_models: a folder of small models in place of those on the Hub.
        models: the classes of their tokenizers and processors.
    """
    sys.path.insert(0, str(source))
    for name, members in MODULES.items():
        module = ModuleType(name)
        vars(module).update(members)
        sys.modules[name] = module
        package = name.rpartition(".")[0]
        if package and package not in sys.modules:
            sys.modules[package] = ModuleType(package)
            sys.modules[package].__path__ = []
    transformers.utils.direct_transformers_import = installed_transformers
    summary = tiny_models / "reports" / "tiny_model_summary.json"
    summary.parent.mkdir(parents=True, exist_ok=True)
    summary.write_text(json.dumps(models))
    os.environ["TRANSFORMERS_TINY_MODEL_PATH"] = str(tiny_models)
