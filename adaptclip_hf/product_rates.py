"""How fast this machine multiplies matrices: measured, and for the choice of a dtype measured once and kept."""

import hashlib
import json
import platform
import time
from contextlib import suppress
from pathlib import Path

import torch
from huggingface_hub.constants import HF_HOME
from torch import nn

from .engine.fast_layers import FusedLinear, has_fused_products
from .files import write_json
from .validation import FileContent

FOLDER = Path(HF_HOME) / "adaptclip"
SHAPE = (442, 384, 1536)  # tokens, width and inner width of the smallest model, which gains the least
ROUNDS = 32
# bfloat16 is taken where it multiplies so many times as fast: a model gains less than its products, the smallest about
# 1.2 times, and larger ones 1.4
CLEARLY = 1.6
POSSIBLE = 1e8, 1e15  # FLOP/s of a processor


class KeptRates(FileContent):
    """What was measured, and what it depends on."""

    machine: dict[str, str | int]
    rates: dict[str, float]


def bfloat16_gain(folder: Path = FOLDER) -> float:
    """How many times as fast as float32 this processor multiplies bfloat16, with the number of threads that torch has.

    0 where it has no products in bfloat16, which are then slow.

    Args:
        folder: where rates are kept; one that cannot be written keeps none.
    """
    if not has_fused_products():
        return 0.0
    rates = kept_rates(folder)
    return rates["bfloat16"] / rates["float32"]


def kept_rates(folder: Path) -> dict[str, float]:
    """FLOP/s in float32 and bfloat16; measured where none are kept for this machine, or in a damaged file."""
    machine = describe_processor()
    key = hashlib.sha256(json.dumps(machine, sort_keys=True).encode()).hexdigest()[:16]
    file = folder / f"product-rates-{key}.json"  # a folder may be shared by machines
    with suppress(OSError, ValueError):
        kept = KeptRates.read(file, "It is measured again.")
        found = [kept.rates.get(name, 0.0) for name in ("float32", "bfloat16")]
        if kept.machine == machine and all(POSSIBLE[0] < rate < POSSIBLE[1] for rate in found):
            return kept.rates
    rates = layer_rates()
    with suppress(OSError):
        write_json(file, {"machine": machine, "rates": rates})
    return rates


def layer_rates() -> dict[str, float]:
    """FLOP/s of a linear layer of the model in float32 and bfloat16, as it computes them.

    Processor seconds are counted, and the dtypes take turns: what else runs here takes from both alike.
    """
    tokens, width, inner = SHAPE
    layers: dict[str, tuple[nn.Linear, torch.Tensor]] = {}
    for dtype, kind in ((torch.float32, nn.Linear), (torch.bfloat16, FusedLinear)):
        layer = nn.utils.skip_init(kind, width, inner, dtype=dtype).requires_grad_(False)  # which draws no numbers
        for weights in layer.parameters():
            weights.fill_(0.5)
        layers[name_of(dtype)] = (layer, torch.ones(tokens, width, dtype=dtype))
    seconds = dict.fromkeys(layers, 0.0)
    with torch.inference_mode():
        for layer, inputs in layers.values():
            layer(inputs)  # the first call prepares
        for _ in range(ROUNDS):
            for name, (layer, inputs) in layers.items():
                start = time.thread_time()
                layer(inputs)
                seconds[name] += time.thread_time() - start
    return {name: 2 * tokens * width * inner * ROUNDS / max(each, 1e-6) for name, each in seconds.items()}


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def describe_processor() -> dict[str, str | int]:
    """What the rates of products depend on; a virtual machine may hide the processor's name, or what it can do."""
    can = f"{torch.backends.cpu.get_cpu_capability()}{' AMX' if torch.cpu._is_amx_tile_supported() else ''}"
    threads = torch.get_num_threads()
    return {"processor": processor_name(), "computes_with": can, "torch": torch.__version__, "threads": threads}


def processor_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine() or "CPU"
