"""Reads the tensors of a TorchScript archive, the format of OpenAI's CLIPs, and runs none of its code.

`torch.jit.load` would run that code (a module's `__setstate__`). Here the archive's pickle may name tensors, storages
and plain containers; its modules are read as their attributes. Anything else is refused.
"""

import pickle
import zipfile
from collections import OrderedDict
from io import BytesIO
from pathlib import Path

import torch

STORAGES = {
    "BFloat16Storage": torch.bfloat16,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "ShortStorage": torch.int16,
}


class ScriptModule:
    """A module of the archive: its parameters, buffers and submodules as attributes."""


class ArchiveUnpickler(pickle.Unpickler):
    """Reads an archive's `data.pkl`; refuses every name but those of tensors, containers and the archive's modules."""

    def __init__(self, archive: zipfile.ZipFile, folder: str):
        super().__init__(BytesIO(archive.read(f"{folder}/data.pkl")))
        self.archive, self.folder = archive, folder

    def find_class(self, module: str, name: str):
        if module.startswith("__torch__"):
            return ScriptModule
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        known = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
            ("torch._utils", "_rebuild_parameter"): lambda tensor, *more: tensor,
        }
        if (module, name) in known:
            return known[module, name]
        if module == "torch.jit._pickle" and name.startswith("build_"):
            return list
        raise pickle.UnpicklingError(f"it names {module}.{name}, which no checkpoint needs")

    def persistent_load(self, reference) -> torch.Tensor:
        """The flat tensor of a storage."""
        kind, dtype, key, *_ = reference
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not str(key).isdigit():
            raise pickle.UnpicklingError(f"it refers to {kind} {key}, expected a storage")
        content = self.archive.read(f"{self.folder}/data/{key}")
        return torch.frombuffer(bytearray(content), dtype=dtype) if content else torch.empty(0, dtype=dtype)


def rebuild_tensor(storage: torch.Tensor, offset: int, size: tuple, stride: tuple, *more) -> torch.Tensor:
    return storage.as_strided(size, stride, offset).clone()


def is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_torchscript(path: Path) -> dict[str, torch.Tensor]:
    """The state dict of an archive's module.

    Raises:
        ValueError: it is damaged, or holds anything but tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            [data] = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
            module = ArchiveUnpickler(archive, data.partition("/")[0]).load()
    except Exception as error:  # a damaged pickle can raise anything
        raise ValueError(f"{path} cannot be read as a TorchScript archive: {error}") from error
    if not isinstance(module, ScriptModule):
        raise ValueError(f"{path} holds a {type(module).__name__}; expected a module with weights.")
    return dict(named_tensors(module))


def named_tensors(module: ScriptModule, prefix: str = ""):
    for name, value in vars(module).items():
        if isinstance(value, torch.Tensor):
            yield f"{prefix}{name}", value
        elif isinstance(value, ScriptModule):
            yield from named_tensors(value, f"{prefix}{name}.")
