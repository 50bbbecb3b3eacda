"""How fast a model is on this machine: one table of what it does, in every runtime that is there, from one run."""

import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from .detector import AnomalyDetector
from .loading import choose_dtype
from .modeling import PromptBank
from .reporting import Report, print_nothing

ENCODER, PLAIN, ZERO_SHOT, FEW_SHOT = "encoder", "CLIP's own image tower", "zero-shot", "few-shot"
TORCH, COMPILED, ONNX, OPENVINO = RUNTIMES = ("torch", "compiled", "onnx", "openvino")
SIDES = {"cpu": 2048, "cuda": 8192}  # of the matrices whose product gives the machine's rate
WARM_UP = 2


@dataclass
class Measurement:
    """One row.

    Attributes:
        what: the encoder alone, HF's own tower without the second path, zero-shot or few-shot scoring of pixel values.
        runtime, dtype: that computes it.
        batch, normals: images at a time, and in the bank.
        milliseconds: of a batch, the median.
        images_per_second: that follow.
        peak: MiB of the process, or of a GPU, meanwhile.
        share: of the machine's product rate in that dtype, of the encoder's products.
    """

    what: str
    runtime: str
    dtype: str
    batch: int
    normals: int
    milliseconds: float
    images_per_second: float
    peak: float
    share: float | None


def benchmark(
    model: str | Path,
    device: str | None = None,
    runtimes: Sequence[str] = RUNTIMES,
    batches: Sequence[int] = (1, 8),
    normals: Sequence[int] = (1, 4, 64, 256),
    seconds: float = 2.0,
    report: Report = print_nothing,
) -> dict:
    """Measures a model in every runtime that is installed.

    Args:
        model: "adaptclip-tiny", a folder or a Hub id.
        device: such as "cpu" or "cuda:0"; a GPU where there is one by default.
        runtimes: of `RUNTIMES`; a GPU is measured with torch's alone.
        batches: images at a time.
        normals: of the few-shot banks, which are measured with the first batch size.
        seconds: that each row takes at least.
        report: called with a line for each row.

    Returns:
        `{"machine": ..., "rates": {dtype: FLOP/s}, "rows": [...]}`, the fields of [`Measurement`].
    """
    detector = AnomalyDetector.from_pretrained(model, device=device, dtype="float32")
    on = detector.device
    dtypes = [torch.float32, *filter(None, [choose_dtype(on)])]
    rates = {name_of(dtype): product_rate(dtype, on) for dtype in dtypes}
    report(", ".join(f"{name} products: {rate / 1e9:,.0f} GFLOP/s" for name, rate in rates.items()))
    flops = encoder_flops(detector)
    rows = []
    for runtime, dtype, opened in open_all(model, detector, runtimes, dtypes):
        for what, batch, count, call in calls(opened, batches, normals, runtime == TORCH):
            milliseconds, peak = measure(call, seconds, on)
            share = None
            if what == ENCODER:
                share = batch * flops / (milliseconds / 1e3) / rates[name_of(dtype)]
            rate = batch / milliseconds * 1e3
            rows.append(Measurement(what, runtime, name_of(dtype), batch, count, milliseconds, rate, peak, share))
            report(line_of(rows[-1]))
    return {"machine": describe_machine(on), "model": str(model), "rates": rates, "rows": [asdict(row) for row in rows]}


def open_all(
    model: str | Path, detector: AnomalyDetector, runtimes: Sequence[str], dtypes: Sequence[torch.dtype]
) -> Iterator[tuple[str, torch.dtype, AnomalyDetector]]:
    """Each runtime with the model in it, one at a time in memory."""
    device = detector.device
    for dtype in dtypes:
        if TORCH in runtimes:
            yield TORCH, dtype, AnomalyDetector.from_pretrained(model, device=device, dtype=dtype)
        if COMPILED in runtimes:
            compiled = AnomalyDetector.from_pretrained(model, device=device, dtype=dtype)
            compiled.model.image_features = torch.compile(compiled.model.image_features)
            yield COMPILED, dtype, compiled
    for name in (ONNX, OPENVINO):
        library = "onnxruntime" if name == ONNX else name
        if name in runtimes and device.type == "cpu" and find_spec(library) is not None:
            from .export import export_model

            with tempfile.TemporaryDirectory() as folder:
                export_model(detector, Path(folder, name), name)
                gc.collect()
                yield name, torch.float32, AnomalyDetector.from_pretrained(Path(folder, name), device="cpu")


def calls(
    detector: AnomalyDetector, batches: Sequence[int], normals: Sequence[int], with_plain: bool
) -> Iterator[tuple[str, int, int, Callable[[], object]]]:
    """What is measured: (what, batch, normal images, the call)."""
    model, size = detector.model, detector.model.config.image_size
    text, generator = detector.encode_text(), torch.Generator().manual_seed(0)

    def pixel_values(count: int) -> torch.Tensor:
        return torch.randn(count, 3, size, size, generator=generator).to(detector.device, model.dtype)

    def score(pixels: torch.Tensor, bank: PromptBank | None):
        return detector.score(detector.encode(pixels), bank, text)

    for batch in batches:
        pixels = pixel_values(batch)
        if with_plain:
            yield PLAIN, batch, 0, partial(model.clip.vision_model, pixels, interpolate_pos_encoding=True)
        yield ENCODER, batch, 0, partial(detector.encode, pixels)
        yield ZERO_SHOT, batch, 0, partial(score, pixels, None)
    one, pixels = model.encode_prompts(pixel_values(1)), pixel_values(batches[0])
    for count in normals:
        layers = tuple(
            torch.nn.functional.normalize(torch.randn(count, *layer.shape[1:], generator=generator), dim=-1)
            for layer in one.features
        )
        bank = PromptBank(layers, one.fingerprint, {}).to(detector.device, model.dtype)
        yield FEW_SHOT, batches[0], count, partial(score, pixels, bank)


@torch.inference_mode()
def measure(call: Callable[[], object], seconds: float, device: torch.device) -> tuple[float, float]:
    """Median milliseconds of a call, and the peak of memory in MiB."""
    settle = torch.cuda.synchronize if device.type == "cuda" else (lambda: None)
    for _ in range(WARM_UP):
        call()
    settle()
    reset_peak(device)
    times, start = [], time.perf_counter()
    while time.perf_counter() - start < seconds or len(times) < 3:
        before = time.perf_counter()
        call()
        settle()
        times.append(time.perf_counter() - before)
    return 1e3 * statistics.median(times), peak_of(device)


def reset_peak(device: torch.device):
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the high-water mark begins anew


def peak_of(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


@torch.inference_mode()
def product_rate(dtype: torch.dtype, device: torch.device) -> float:
    """FLOP/s of large matrix products, the best of some."""
    side = SIDES.get(device.type, 2048)
    one, other = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    fastest = min(measure_once(one, other, device) for _ in range(8))
    return 2 * side**3 / fastest


def measure_once(one: torch.Tensor, other: torch.Tensor, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    before = time.perf_counter()
    one @ other
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - before


def encoder_flops(detector: AnomalyDetector) -> int:
    """Of the products that encoding an image takes, both paths, attention's among them."""
    size = detector.model.config.image_size
    pixels = torch.zeros(1, 3, size, size, device=detector.device)
    # the counter knows the products of attention, and not the fused kernel of a CPU
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        detector.encode(pixels)
    return counter.get_total_flops()


def describe_machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else 'CPU'}, {torch.get_num_threads()} threads"


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def line_of(row: Measurement) -> str:
    normal = f", {row.normals} normal" if row.normals else ""
    share = "" if row.share is None else f", {100 * row.share:.0f} % of the product rate"
    return (
        f"{row.what}{normal}, batch {row.batch}, {row.runtime} {row.dtype}: {row.milliseconds:.1f} ms, "
        f"{row.images_per_second:.1f} images/s, {row.peak:.0f} MiB{share}"
    )


def table(results: dict) -> str:
    """The results as Markdown."""
    rates = ", ".join(f"{name} {rate / 1e9:,.0f} GFLOP/s" for name, rate in results["rates"].items())
    lines = [
        f"{results['model']} on {results['machine']}; products: {rates}.",
        "",
        "| what | normal images | batch | runtime | dtype | ms | images/s | peak MiB | share of products |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in (Measurement(**each) for each in results["rows"]):
        share = "" if row.share is None else f"{100 * row.share:.0f} %"
        lines.append(
            f"| {row.what} | {row.normals or '-'} | {row.batch} | {row.runtime} | {row.dtype} | "
            f"{row.milliseconds:.1f} | {row.images_per_second:.1f} | {row.peak:.0f} | {share} |"
        )
    return "\n".join(lines) + "\n"
