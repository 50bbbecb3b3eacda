"""What scores photos fastest on this machine, among what is installed: a verdict in words, with the commands for it."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

import torch
from tqdm.auto import tqdm

from .benchmarking import describe_machine, seconds_of
from .detector import AnomalyDetector
from .export import export_model
from .export.parity import sample_images
from .loading import choose_device, choose_dtype
from .model_files import EXPORT_FILE, is_exported
from .modeling.checksums import CHECKSUMS_FILE
from .processing.image_loading import load_image
from .product_rates import name_of
from .reporting import Report, print_nothing
from .runtimes.description import Description
from .runtimes.formats import BFLOAT16, EXPORT_FORMATS, FLOAT32, INT8

TORCH, SHOWN = "torch", {"torch": "torch", "onnx": "ONNX Runtime", "openvino": "OpenVINO"}
NORMALS = 2  # images in the bank that the others are compared with
FEWEST_FOR_INT8 = 8
EXPORTS = (("openvino", FLOAT32), ("onnx", FLOAT32), ("openvino", INT8), ("onnx", INT8))
ROUNDS = (3, 30)  # at least, at most
OF_BUDGET = 0.2  # the share of the time that is kept for the rounds and for comparing scores
TO_COMPARE = 0.05
AS_FAST = 1.1  # times as long as the fastest at most: a busy machine tells such choices no better apart
# of an export, seconds for each layer of the encoder and for the rest; the gate encodes five images twice
A_LAYER, THE_REST, ENCODED = 2.0, 8.0, 10


@dataclass
class Choice:
    """One way to score photos.

    Attributes:
        runtime, dtype: what computes it.
        commands: that get it; `None` of them for what `adaptclip detect` does by itself.
        milliseconds: for one photo that was read, compared with two normal images; the median.
        photos_per_second, times_default: that follow from it.
        score_difference: from torch in float32, the largest.
        flipped_pairs, pairs: of photos whose scores are in the other order than torch's in float32, and all.
    """

    runtime: str
    dtype: str
    commands: list[str]
    milliseconds: float = 0.0
    photos_per_second: float = 0.0
    times_default: float = 0.0
    score_difference: float = 0.0
    flipped_pairs: int = 0
    pairs: int = 0

    @property
    def name(self) -> str:
        return f"{SHOWN[self.runtime]} {self.dtype}"


def find_fastest(
    model: str | Path,
    device: str | None = None,
    images: Sequence[str] = (),
    budget: float = 120.0,
    report: Report = print_nothing,
    progress: bool = False,
) -> dict:
    """Tries what is installed, in turn, so that other programs on the machine slow down all alike.

    Args:
        model: "adaptclip-tiny", a folder or a Hub id; no export.
        device: such as "cpu" or "cuda:0"; a GPU where there is one by default, and then torch alone is tried.
        images: real ones, on which scores are compared; with eight, int8 is tried too.
        budget: seconds; what cannot be exported within them is left out.
        report: called with a line for each choice, and those of the verdict.
        progress: show a bar.

    Returns:
        `{"machine", "model", "default", "choices", "left_out": {choice: reason}, "verdict", "commands"}`; the choices
        have the fields of [`Choice`], the fastest first.

    Raises:
        ValueError: the model is an export.
    """
    begun = time.monotonic()
    if is_exported(str(model)):
        raise ValueError(f"{model} is an export: name the model that it came from, which is tried in every runtime.")
    on = choose_device(device)
    pictures = sample_images(images)
    left_out: dict[str, str] = {}
    fast = choose_dtype(on)
    count = 1 + (fast is not None) + (len(EXPORTS) + 1 if on.type == "cpu" else 0)  # OpenVINO computes one twice
    with tempfile.TemporaryDirectory() as aside, tqdm(total=count, unit="choice", disable=not progress) as bar:
        bar.set_description(f"{SHOWN[TORCH]} {FLOAT32}")
        exact = AnomalyDetector.from_pretrained(model, device=on, dtype=FLOAT32)
        opened = [(Choice(TORCH, FLOAT32, [detect_command(model, dtype=FLOAT32)]), exact)]
        if fast is not None:
            detector = AnomalyDetector.from_pretrained(model, device=on, dtype=fast)
            opened.append((Choice(TORCH, name_of(fast), [detect_command(model, dtype=name_of(fast))]), detector))
        default = opened[-1][0]
        calls = [Scoring(detector, pictures) for _, detector in opened]
        bar.update(len(opened))
        if on.type == "cpu":
            one = min(seconds_of(calls[0].one_photo, on) for _ in range(2))
            estimate = (
                A_LAYER * exact.model.config.clip_config.vision_config.num_hidden_layers + THE_REST + ENCODED * one
            )

            def left() -> float:
                return begun + (1 - OF_BUDGET) * budget - time.monotonic()

            for choice, folder in exported(model, exact, images, Path(aside), left, estimate, left_out, bar):
                detector = AnomalyDetector.from_pretrained(folder, device="cpu")
                opened.append((choice, detector))
                calls.append(Scoring(detector, pictures))
                bar.update()
            bar.total = len(opened)  # without what was left out
        bar.set_description("timing in turn")
        measure(calls, [choice for choice, _ in opened], on, begun + (1 - TO_COMPARE) * budget - time.monotonic())
    choices = [choice for choice, _ in opened]
    compare(calls, choices, default)
    choices.sort(key=lambda choice: choice.milliseconds)
    given, ours = len(images), len(pictures) - len(images)
    report(
        f"timed in turn, one photo at a time; scores compared with those of torch in float32 on {given} photos of "
        f"--images and {ours} of the package's own, less {NORMALS} in the bank"
    )
    for choice in choices:
        report(line_of(choice))
    for name, reason in left_out.items():
        report(f"not tried: {name}: {reason}")
    near = [each for each in choices if each.milliseconds <= AS_FAST * choices[0].milliseconds]
    best = default if default in near else choices[0]
    verdict = words(best, default, [each.name for each in near if each is not best])
    for line in (verdict, *(f"  {command}" for command in best.commands)):
        report(line)
    return {
        "machine": describe_machine(on),
        "model": str(model),
        "default": default.name,
        "choices": [{"name": choice.name, **asdict(choice)} for choice in choices],
        "left_out": left_out,
        "verdict": verdict,
        "commands": best.commands,
    }


class Scoring:
    """Photos on their way to a detector's scores, against a bank of its own."""

    def __init__(self, detector: AnomalyDetector, pictures: Sequence):
        self.detector, self.text = detector, detector.encode_text()
        kind = {"device": detector.device, "dtype": detector.model.dtype}
        self.pixel_values = [detector.pixel_values(load_image(picture)).to(**kind) for picture in pictures]
        self.bank = detector.remember(pictures[:NORMALS], augment="none")

    def score(self, pixel_values: torch.Tensor) -> float:
        return float(self.detector.score(self.detector.encode(pixel_values), self.bank, self.text)[0])

    def one_photo(self) -> float:
        return self.score(self.pixel_values[-1])

    def scores(self) -> list[float]:
        """Of the photos that are not in the bank."""
        return [self.score(each) for each in self.pixel_values[NORMALS:]]


def exported(
    model: str | Path,
    detector: AnomalyDetector,
    images: Sequence[str],
    aside: Path,
    left: Callable[[], float],
    estimate: float,
    left_out: dict[str, str],
    bar: tqdm,
) -> Iterator[tuple[Choice, Path]]:
    """The exports that can be made in time, each in a folder.

    Args:
        left: the seconds that exports may still take.
        estimate: the seconds that the first takes; those after it are expected to take as long as the slowest did.
        left_out: gets what is not tried, and why.
    """
    for name, precision in EXPORTS:
        export_format, folder = EXPORT_FORMATS[name], aside / f"{name}-{precision}"
        choice = Choice(name, precision, export_commands(model, name, precision))
        if precision == INT8 and len(images) < FEWEST_FOR_INT8:
            left_out[choice.name] = f"it is calibrated with {FEWEST_FOR_INT8} photos (--images)"
            continue
        try:
            export_format.require(*export_format.to_write, *export_format.to_run)
            if estimate > left():
                left_out[choice.name] = f"its export takes about {estimate:.0f} s, more than is left (--budget)"
                continue
            bar.set_description(f"exporting for {choice.name}")
            begun = time.monotonic()
            export_model(detector, folder, name, precision, images=images if precision == INT8 else ())
            estimate = max(estimate, time.monotonic() - begun)  # a busy machine takes longer
        except (ImportError, ValueError) as error:
            left_out[choice.name] = str(error)
            continue
        yield choice, folder
        if name == "openvino" and precision == FLOAT32 and export_format.multiplies(BFLOAT16):
            yield Choice(name, BFLOAT16, export_commands(model, name, BFLOAT16)), in_bfloat16(folder)


def in_bfloat16(folder: Path) -> Path:
    """An export in float32, whose products its runtime is to compute in bfloat16: what its own export computes, from
    weights that are rounded when it is opened."""
    other = folder.with_name(f"{folder.name}-as-{BFLOAT16}")
    other.mkdir()
    for file in folder.iterdir():
        if file.name not in (EXPORT_FILE, CHECKSUMS_FILE):
            (other / file.name).symlink_to(file)
    about = Description.load(folder)
    made_by = about.made_by.model_copy(update={"fingerprint": about.made_by.fingerprint | {"precision": BFLOAT16}})
    about.model_copy(update={"precision": BFLOAT16, "made_by": made_by}).save(other)
    return other


@torch.inference_mode()
def measure(calls: Sequence[Scoring], choices: Sequence[Choice], device: torch.device, seconds: float):
    """Fills in the times: a photo in each choice, one after the other, again and again for some seconds."""
    times: list[list[float]] = [[] for _ in calls]
    until = time.monotonic() + min(seconds, ROUNDS[1])
    for number in range(1 + ROUNDS[1]):
        if number > ROUNDS[0] and time.monotonic() > until:
            break
        for call, taken in zip(calls, times, strict=True):
            taken.append(seconds_of(call.one_photo, device))
    for choice, taken in zip(choices, times, strict=True):
        choice.milliseconds = 1e3 * statistics.median(taken[1:])  # the first one warms up
        choice.photos_per_second = 1e3 / choice.milliseconds


def compare(calls: Sequence[Scoring], choices: Sequence[Choice], default: Choice):
    """Fills in how much faster than the default a choice is, and what it changes."""
    exact = calls[0].scores()
    pairs = list(combinations(range(len(exact)), 2))
    for call, choice in zip(calls, choices, strict=True):
        found = call.scores()
        choice.times_default = default.milliseconds / choice.milliseconds
        choice.score_difference = max(abs(one - other) for one, other in zip(found, exact, strict=True))
        choice.flipped_pairs = sum((found[i] - found[j]) * (exact[i] - exact[j]) < 0 for i, j in pairs)
        choice.pairs = len(pairs)


def detect_command(model: str | Path, **options: str) -> str:
    words = [f"--{name} {value}" for name, value in {"model": model, **options}.items()]
    return " ".join(["adaptclip detect PHOTOS --output RESULTS", *words])


def export_commands(model: str | Path, name: str, precision: str) -> list[str]:
    folder = f"{Path(model).name}-{name}-{precision}/"
    calibrated = " --images PHOTOS" if precision == INT8 else ""
    export = f"adaptclip export --model {model} --format {name} --precision {precision}{calibrated} --output {folder}"
    # profiles of the model itself are refused by an export in a lower precision
    fit = [] if precision == FLOAT32 else [f"adaptclip fit --normal GOOD --model {folder} --output PROFILE"]
    profile = {"profile": "PROFILE"} if fit else {}
    return [export, *fit, detect_command(folder, **profile)]


def line_of(choice: Choice) -> str:
    return (
        f"{choice.name}: {choice.photos_per_second:.1f} photos/s, {choice.times_default:.2f} times the default; "
        f"{changes(choice)}"
    )


def changes(choice: Choice) -> str:
    return (
        f"scores differ by up to {choice.score_difference:.1e}, {choice.flipped_pairs} of {choice.pairs} pairs of "
        "photos change their order"
    )


def words(best: Choice, default: Choice, as_fast: Sequence[str]) -> str:
    """The verdict, in one line.

    Args:
        as_fast: others that take about as long.
    """
    others = f"; about as fast: {', '.join(as_fast)}" if as_fast else ""
    rate = f"on this machine: {best.name}, {best.photos_per_second:.1f} photos/s"
    if best is default:
        return f"{rate}, as `adaptclip detect` does by itself; nothing tried is clearly faster{others}; command:"
    lowered = best.runtime != TORCH and best.dtype != FLOAT32
    own = "; it refuses profiles of the model itself and has its own" if lowered else ""
    times = f"{best.times_default:.1f} times the default ({default.name})"
    return f"{rate}, {times}; {changes(best)}{others}{own}; commands:"
