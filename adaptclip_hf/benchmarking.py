"""How fast a model is on this machine: one table of its computations in every installed runtime."""

import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
from PIL import Image
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from .detector import AnomalyDetector
from .loading import choose_dtype
from .modeling import AdaptCLIPModel, PromptBank
from .product_rates import name_of, processor_name
from .reporting import Report, print_nothing

ENCODER, PLAIN, ZERO_SHOT, FEW_SHOT = "encoder", "CLIP's own image tower", "zero-shot", "few-shot"
TORCH, COMPILED, ONNX, OPENVINO = RUNTIMES = ("torch", "compiled", "onnx", "openvino")
SIDES = {"cpu": 2048, "cuda": 8192}  # of the matrices whose product measures the machine's rate
WARM_UP = 2


@dataclass
class Measurement:
    """One row of the table.

    Attributes:
        what: the encoder, HF's own tower without the second path, or zero-shot or few-shot scoring of pixel values.
        runtime, dtype: what computes it.
        batch, normals: number of images at a time, and in the bank.
        milliseconds: median time of a batch.
        images_per_second: the rate that follows from it.
        peak: largest memory of the process, or of the GPU, in MiB; `None` where the system does not tell.
        share: the encoder's rate of matrix products, as a share of the machine's rate in that dtype.
    """

    what: str
    runtime: str
    dtype: str
    batch: int
    normals: int
    milliseconds: float
    images_per_second: float
    peak: float | None
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
        runtimes: some of `RUNTIMES`; on a GPU only those of torch are measured.
        batches: numbers of images at a time.
        normals: sizes of the few-shot banks, which are measured with the first batch size.
        seconds: the least time to spend on each row.
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
    """The model in each runtime; only one is in memory at a time."""
    device = detector.device
    for dtype in dtypes:
        if TORCH in runtimes:
            yield TORCH, dtype, AnomalyDetector.from_pretrained(model, device=device, dtype=dtype)
        if COMPILED in runtimes:
            compiled = AnomalyDetector.from_pretrained(model, device=device, dtype=dtype)
            # the instance's attribute hides the method, which a type checker does not let one assign
            setattr(compiled.model, "image_features", torch.compile(compiled.model.image_features))  # noqa: B010
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
    """What is measured: (what, batch, number of normal images, the call)."""
    model, size = detector.model, detector.model.config.image_size
    text, generator = detector.encode_text(), torch.Generator().manual_seed(0)

    def pixel_values(count: int) -> torch.Tensor:
        return torch.randn(count, 3, size, size, generator=generator).to(detector.device, model.dtype)

    def score(pixels: torch.Tensor, bank: PromptBank | None):
        return detector.score(detector.encode(pixels), bank, text)

    for batch in batches:
        pixels = pixel_values(batch)
        if isinstance(model, AdaptCLIPModel) and with_plain:
            yield PLAIN, batch, 0, partial(model.clip.vision_model, pixels, interpolate_pos_encoding=True)
        yield ENCODER, batch, 0, partial(detector.encode, pixels)
        yield ZERO_SHOT, batch, 0, partial(score, pixels, None)
    one, pixels = detector.remember([Image.new("RGB", (size, size))]), pixel_values(batches[0])
    for count in normals:
        layers = tuple(
            torch.nn.functional.normalize(torch.randn(count, *layer.shape[1:], generator=generator), dim=-1)
            for layer in one.features
        )
        bank = PromptBank(layers, one.fingerprint, {}).to(detector.device, model.dtype)
        if model.config.normal_variation:  # that of a few takes as long to score with as that of all
            bank = replace(bank, variation=bank.select(range(min(count, 4))).with_variation().variation)
        yield FEW_SHOT, batches[0], count, partial(score, pixels, bank)


@torch.inference_mode()
def measure(call: Callable[[], object], seconds: float, device: torch.device) -> tuple[float, float | None]:
    """Median milliseconds of a call, and the largest memory in MiB."""
    for _ in range(WARM_UP):
        seconds_of(call, device)
    reset_peak(device)
    times: list[float] = []
    while sum(times) < seconds or len(times) < 3:
        times.append(seconds_of(call, device))
    return 1e3 * statistics.median(times), peak_of(device)


def seconds_of(call: Callable[[], object], device: torch.device) -> float:
    """How long a call takes; a GPU is idle when it begins and when it ends."""
    settle = torch.cuda.synchronize if device.type == "cuda" else (lambda: None)
    settle()
    start = time.perf_counter()
    call()
    settle()
    return time.perf_counter() - start


def reset_peak(device: torch.device):
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")  # Linux: resets the largest value


def peak_of(device: torch.device) -> float | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


@torch.inference_mode()
def product_rate(dtype: torch.dtype, device: torch.device) -> float:
    """FLOP/s of large matrix products, the fastest of eight."""
    side = SIDES.get(device.type, 2048)
    one, other = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / min(seconds_of(lambda: one @ other, device) for _ in range(8))


def encoder_flops(detector: AnomalyDetector) -> int:
    """FLOP of the products that encoding an image takes, in both paths and in attention."""
    size = detector.model.config.image_size
    pixels = torch.zeros(1, 3, size, size, device=detector.device)
    # the counter does not know the fused attention of a CPU
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        detector.encode(pixels)
    return counter.get_total_flops()


def describe_machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor_name()}, {torch.get_num_threads()} threads"


def peak_in(row: Measurement) -> str:
    return "?" if row.peak is None else f"{row.peak:.0f}"


def line_of(row: Measurement) -> str:
    normal = f", {row.normals} normal" if row.normals else ""
    share = "" if row.share is None else f", {100 * row.share:.0f} % of the product rate"
    return (
        f"{row.what}{normal}, batch {row.batch}, {row.runtime} {row.dtype}: {row.milliseconds:.1f} ms, "
        f"{row.images_per_second:.1f} images/s, {peak_in(row)} MiB{share}"
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
            f"{row.milliseconds:.1f} | {row.images_per_second:.1f} | {peak_in(row)} | {share} |"
        )
    return "\n".join(lines) + "\n"
