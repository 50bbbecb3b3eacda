"""Where a model is loaded to: always whole, on one device, because its encoder reads single weights, and the hooks that
would load them from elsewhere work on whole modules."""

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

CHOSEN_FOR_US = ("auto", "balanced", "balanced_low_0", "sequential")
UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def on_one_device(device_map: Any, max_memory: dict | None, size: Callable[[], int]) -> Any:
    """A `device_map` that puts all of the model on one device.

    Args:
        device_map: as transformers takes it; "auto" and the like mean the GPU, or the CPU without one.
        max_memory: as transformers takes it, for "auto" and the like.
        size: the bytes of the model.

    Raises:
        ValueError: it would spread the model over devices or a disk, or no device has room for it.
    """
    if isinstance(device_map, str) and device_map in CHOSEN_FOR_US:
        return {"": default_device() if max_memory is None else device_with_room(max_memory, size())}
    if device_map is None:
        return None
    if not isinstance(device_map, dict):
        require_device(device_map)
        return device_map
    devices = {device_name(each): each for each in device_map.values()}
    if len(devices) != 1 or "disk" in devices:
        raise ValueError(
            f"device_map={device_map} would leave parts of the model elsewhere, which it cannot run with: load it "
            "whole, on one device (device_map='cuda:0', or model.to(device) afterwards)."
        )
    [device] = devices.values()
    require_device(device)
    return {"": device}


def require_device(device: Any):
    """Raises a ValueError for a device that this machine does not have."""
    try:
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError) as error:  # the former where torch is built without that kind
        raise ValueError(f"device_map names {device}, which is not here: {str(error).splitlines()[0]}") from error


def is_here(device: Any) -> bool:
    try:
        require_device(device)
    except ValueError:
        return False
    return True


def default_device() -> torch.device:
    here = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return torch.device("cpu") if here is None else here


def device_name(device: Any) -> str:
    """The same for 0, "cuda" and "cuda:0" on a machine with CUDA."""
    kind = default_device().type if torch.accelerator.is_available() else "cuda"
    name = f"{kind}:{device}" if isinstance(device, int) or str(device).isdigit() else str(device)
    return f"{name}:0" if name == kind != "cpu" else name


def device_with_room(max_memory: dict, size: int) -> str:
    """The first device of this machine, the CPU last, that may hold this many bytes."""
    allowed = {device_name(device): bytes_of(amount) for device, amount in max_memory.items()}
    for device in sorted(allowed, key=lambda name: (name == "cpu", name)):
        if device != "disk" and allowed[device] >= size and is_here(device):
            return device
    raise ValueError(
        f"max_memory={max_memory} leaves no device room for the whole model of {size / 2**20:.0f} MiB, and it cannot "
        "be spread over several."
    )


def bytes_of(amount: float | str) -> float:
    """Of a number, or of a text such as "10GiB" or "500MB"."""
    if not isinstance(amount, str):
        return amount
    found = re.fullmatch(r"([\d.]+)\s*([KMGT]i?B)", amount.strip(), re.IGNORECASE)
    if not found:
        raise ValueError(f"max_memory holds {amount!r}: expected bytes, or a text such as '10GiB'.")
    return int(float(found[1]) * UNITS[found[2].upper()])


def require_weights_here(model: nn.Module, pixel_values: torch.Tensor):
    """Refuses weights that hooks would bring for whole modules.

    Raises:
        ValueError: names what took them away.
    """
    if model.device.type == "meta" and pixel_values.device.type != "meta":
        raise ValueError(
            "The weights are on the meta device, as after accelerate's cpu_offload or disk_offload, which this model "
            "does not support: load it whole, on one device (device_map='cuda:0', or model.to(device) afterwards)."
        )
