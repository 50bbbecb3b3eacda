"""Plug-ins: the user's own Python code, which registers layouts of data sets and variants of adapters.

A plug-in is a file, or a module that an installed package names in the entry point group `adaptclip_hf.plugins`. It is
run when it is named, and at no other time: a model or a data set never brings one along.
"""

import hashlib
import importlib.util
import sys
from importlib.metadata import entry_points
from pathlib import Path

GROUP = "adaptclip_hf.plugins"


def load_plugin(name: str | Path):
    """Runs a plug-in, which calls [`register_layout`] and [`register_adapter`]; a second time nothing happens.

    Args:
        name: a Python file, or the name of an installed one.

    Raises:
        FileNotFoundError: no such file, and none installed of that name.
        ValueError: it cannot be run; says why.
    """
    file = Path(name)
    try:
        if file.suffix == ".py":
            load_file(file)
            return
        installed = {each.name: each for each in entry_points(group=GROUP)}
        if str(name) not in installed:
            known = ", ".join(sorted(installed)) or "none"
            raise FileNotFoundError(f"No plug-in {name}: expected a .py file, or an installed one (here: {known}).")
        installed[str(name)].load()
    except (FileNotFoundError, ValueError):
        raise
    except Exception as error:
        raise ValueError(f"The plug-in {name} cannot be run: {type(error).__name__}: {error}") from error


def load_file(file: Path):
    if not file.is_file():
        raise FileNotFoundError(f"No plug-in at {file}.")
    path = file.resolve()
    module_name = f"adaptclip_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if module_name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None  # every .py file has both
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise


__all__ = ["load_plugin"]
