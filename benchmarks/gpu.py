"""All that is to be known of a GPU, in one call: how fast models score there, how far from the numbers of the authors'
program they are, and whether training that was stopped goes on with the same weights.

    python benchmarks/gpu.py                          on the GPU of this machine
    python benchmarks/gpu.py --only speed             a part: speed, reference or training, each a few minutes
    python benchmarks/gpu.py --device cpu --small     a walk through all of it in seconds, without a GPU

speed: a ViT-L/14@336 of random weights at 518 px and adaptclip-tiny in bfloat16, from pixel values on the device to
    scores and maps on it, by batch, without and with `torch.compile`; zero-shot, and with 1, 4 and 16 normal images,
    whose ratio to zero-shot is of calls that alternate. "photos" are a batch of photos through
    `AnomalyScorer.score_images`, to results in the processor's memory.
reference: the cases in `--reference`, by the largest difference of a score and of a map, in float32 and bfloat16.
training: the same steps twice, once stopped in the middle and resumed from the checkpoint: which weights differ, and by
    how much.
"""

import argparse
import io
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image
from random_vitl import random_model
from safetensors.torch import load_file
from torch.nn.functional import normalize
from transformers import CLIPConfig
from transformers.trainer_utils import set_seed

from adaptclip_hf import DEFAULT_MODEL, AdaptCLIPConfig, AdaptCLIPModel, AnomalyDetector
from adaptclip_hf.benchmarking import describe_machine, peak_of, product_rate, reset_peak, seconds_of
from adaptclip_hf.cli import main as adaptclip
from adaptclip_hf.data import load_data_set
from adaptclip_hf.engine import PlainReference
from adaptclip_hf.loading import choose_device
from adaptclip_hf.modeling import PromptBank
from adaptclip_hf.synthetic import write_dataset
from adaptclip_hf.training import AdaptCLIPTrainer, AdaptCLIPTrainingArguments, PromptedImages

ROOT = Path(__file__).resolve().parents[1]
SPEED, REFERENCE, TRAINING = PARTS = ("speed", "reference", "training")
IMAGES_PER_SECOND, FEW_SHOT_RATIO = 300, 1.05  # goals for ViT-L/14@336 on an H100
TOLERANCE = 1e-5  # of scores and maps in float32
VIT_L, SMALL = "ViT-L/14@336", "small"
TOWER = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4}
SMALL_CLIP = {
    "projection_dim": 32,
    "vision_config": {**TOWER, "image_size": 56, "patch_size": 14, "projection_dim": 32},
    "text_config": {**TOWER, "num_hidden_layers": 1, "bos_token_id": 0, "eos_token_id": 1, "projection_dim": 32},
}


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
        models: by name.
        batches, normals: images at a time; normal images in a bank, zero for zero-shot.
        seconds: at least, of calls of each kind.
        steps, side: of training; of its images, in pixels.
        backend: of `torch.compile`.
    """

    models: tuple[str, ...] = (VIT_L, DEFAULT_MODEL)
    batches: tuple[int, ...] = (1, 8, 32, 64)
    normals: tuple[int, ...] = (0, 1, 4, 16)
    seconds: float = 1.5
    steps: int = 8
    side: int = 518
    backend: str = "inductor"


SMALLEST = Scale((SMALL,), (1, 2), (0, 1, 4), 0.0, 2, 64, "eager")  # which compiles nothing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="(%(default)s)")
    parser.add_argument("--only", choices=PARTS, help="a part of it")
    parser.add_argument("--small", action="store_true", help="a model and settings that take seconds")
    parser.add_argument(
        "--reference", type=Path, default=ROOT.parent / "shared" / "reference", metavar="FOLDER", help="(%(default)s)"
    )
    args = parser.parse_args()
    try:
        device = choose_device(args.device)
    except ValueError as error:
        print(f"{error} `--device cpu --small` goes through it without a GPU.", file=sys.stderr)
        return 1
    scale, parts = SMALLEST if args.small else Scale(), {}
    parts[SPEED] = lambda: speed(device, scale)
    parts[REFERENCE] = lambda: reference(device, args.reference)
    parts[TRAINING] = lambda: training(device, scale)
    print(f"{describe_machine(device)}, torch {torch.__version__}", flush=True)
    for name in [args.only] if args.only else PARTS:
        print(f"\n## {name}\n", flush=True)
        parts[name]()
    return 0


def opened(name: str, device: torch.device) -> AnomalyDetector:
    """A model in bfloat16."""
    if name == DEFAULT_MODEL:
        return AnomalyDetector.from_pretrained(name, device=device, dtype=torch.bfloat16)
    small = {"clip_config": CLIPConfig(**SMALL_CLIP), "image_size": 56, "feature_layers": [3, 4], "prompt_length": 4}
    model, processor = random_model(AdaptCLIPConfig(**small if name == SMALL else {}))
    return AnomalyDetector(model.to(device, torch.bfloat16), processor)


# speed


def speed(device: torch.device, scale: Scale):
    rate = product_rate(torch.bfloat16, device)
    print(f"bfloat16 products: {rate / 1e12:.1f} TFLOP/s\n")
    print("| model | runtime | batch | normal images | ms | images/s | over zero-shot | peak MiB |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    fastest, ratios = 0.0, {}
    for name in scale.models:
        detector = opened(name, device)
        for runtime in ("torch", "compiled"):
            if runtime == "compiled":
                compiled = torch.compile(detector.model.image_features, backend=scale.backend)
                setattr(detector.model, "image_features", compiled)  # noqa: B010, hides the method
            for batch in scale.batches:
                found = medians(calls(detector, batch, scale.normals), scale.seconds, device)
                for normals, (seconds, peak) in found.items():
                    ratio = seconds / found[0][0]
                    row = f"{1e3 * seconds:.1f} | {batch / seconds:.1f} | {ratio:.3f} | {peak or 0:.0f}"
                    print(f"| {name} | {runtime} | {batch} | {normals or '-'} | {row} |", flush=True)
                    if name == scale.models[0]:
                        ratios[runtime, batch, normals] = ratio
                        fastest = max(fastest, batch / seconds if normals == 0 else 0)
        batch = scale.batches[-1]
        for normals, (seconds, peak) in medians(results(detector, batch, scale.normals), scale.seconds, device).items():
            row = f"{1e3 * seconds:.1f} | {batch / seconds:.1f} | | {peak or 0:.0f}"
            print(f"| {name} | compiled, photos | {batch} | {normals or '-'} | {row} |", flush=True)
        torch.compiler.reset()
    print(f"\n{scale.models[0]} zero-shot: {fastest:.1f} images/s at most (goal on an H100: {IMAGES_PER_SECOND})")
    worst = {normals: max(ratios[key] for key in ratios if key[2] == normals) for normals in scale.normals if normals}
    told = ", ".join(f"{ratio:.3f} with {normals}" for normals, ratio in worst.items())
    print(f"few-shot over zero-shot, the worst of all batches: {told} (goal: {FEW_SHOT_RATIO})")


def calls(detector: AnomalyDetector, batch: int, normals: tuple[int, ...]) -> dict[int, Callable[[], object]]:
    """For each number of normal images what scores a batch of pixel values with them."""
    size, text = detector.model.config.image_size, detector.encode_text()
    pixels = torch.randn(batch, 3, size, size, device=detector.device, dtype=detector.model.dtype)
    banks = {count: bank_of(detector, count) for count in normals}
    return {
        count: lambda bank=bank: detector.score(detector.encode(pixels), bank, text) for count, bank in banks.items()
    }


def results(detector: AnomalyDetector, batch: int, normals: tuple[int, ...]) -> dict[int, Callable[[], object]]:
    """The same of photos that are read, to results."""
    size = detector.model.config.image_size
    photos = list(detector.reader.read_ready([Image.effect_noise((size, size), 50).convert("RGB")] * batch))
    prepared = detector.prepare(PlainReference())
    ready = {
        count: prepared if (bank := bank_of(detector, count)) is None else detector.with_bank(prepared, bank)
        for count in normals
    }
    return {
        count: lambda each=each: list(detector.score_images([(photo, each) for photo in photos]))
        for count, each in ready.items()
    }


def bank_of(detector: AnomalyDetector, count: int) -> PromptBank | None:
    """So many normal images of random features; `None` for none."""
    if not count:
        return None
    model, size = detector.model, detector.model.config.image_size
    one = detector.remember([Image.new("RGB", (size, size))])
    layers = tuple(
        normalize(torch.randn(count, *each.shape[1:], device=detector.device), dim=-1).to(model.dtype)
        for each in one.features
    )
    bank = replace(one, features=layers, variation=None, added=None, added_of=None)
    return bank.with_variation() if model.config.normal_variation else bank


@torch.inference_mode()
def medians(
    jobs: dict[int, Callable[[], object]], seconds: float, device: torch.device
) -> dict[int, tuple[float, float | None]]:
    """For each job its median seconds and its largest memory in MiB; the jobs alternate."""
    for job in [*jobs.values()] * 2:
        job()
    times: dict[int, list[float]] = {name: [] for name in jobs}
    peaks: dict[int, float | None] = dict.fromkeys(jobs)
    while sum(map(sum, times.values())) < seconds * len(jobs) or len(times[0]) < 3:
        for name, job in jobs.items():
            reset_peak(device)
            times[name].append(seconds_of(job, device))
            peaks[name] = max(peak_of(device) or 0, peaks[name] or 0) or None
    return {name: (statistics.median(times[name]), peaks[name]) for name in jobs}


# reference


@torch.inference_mode()
def reference(device: torch.device, folder: Path):
    cases = sorted(folder.glob("case_*")) if folder.is_dir() else []
    if not cases:
        print(f"{folder}: there are no cases (case_*/case.json) here; name their folder with --reference.")
        return
    print("| case | dtype | normal images | largest difference of a score | of a map | |")
    print("|---|---|---|---|---|---|")
    for case in cases:
        settings = json.loads((case / "case.json").read_text())
        inputs, expected = (
            load_file(case / f"{name}.safetensors", device=str(device)) for name in ("inputs", "expected")
        )
        with tempfile.TemporaryDirectory() as converted:
            convert(case, settings, converted)
            for dtype in (torch.float32, torch.bfloat16):
                model = AdaptCLIPModel.from_pretrained(converted, dtype=dtype).to(device).eval()
                for name, shots in (("zero_shot", 0), ("one_shot", 1), ("few_shot", settings["shots"])):
                    prompts = inputs["prompt_pixel_values"][:, :shots].to(dtype) if shots else None
                    found = model(inputs["pixel_values"].to(dtype), prompts)
                    score = largest(found.anomaly_scores - expected[f"{name}_score"])
                    map_ = largest(found.anomaly_maps - expected[f"{name}_map"])
                    verdict = ""
                    if dtype == torch.float32:
                        verdict = "as expected" if max(score, map_) <= TOLERANCE else f"above {TOLERANCE:.0e}"
                    kind = str(dtype).removeprefix("torch.")
                    print(
                        f"| {case.name} | {kind} | {shots or '-'} | {score:.1e} | {map_:.1e} | {verdict} |", flush=True
                    )


def convert(case: Path, settings: dict, output: str):
    words = ["convert", "--checkpoint", case / "adapters.pth", "--clip", case / "clip", "--output", output]
    words += ["--image-size", settings["img"], "--feature-layers", *settings["features"]]
    words += ["--num-dual-path-layers", settings["dpam_layer"] - 1]
    words += [] if settings["context"] else ["--no-prompt-query-context"]
    with redirect_stdout(io.StringIO()):
        if adaptclip([str(word) for word in words]) != 0:
            raise SystemExit(f"{case} could not be converted")


def largest(difference: torch.Tensor) -> float:
    return float(difference.abs().max())


# training


def training(device: torch.device, scale: Scale):
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_dataset(folder / "data", 2, size=scale.side, train=4, good=8, bad=8)
        data = load_data_set(folder / "data")

        def run(name: str, steps: int, resume: Path | None = None) -> tuple[AdaptCLIPModel, float, list[float]]:
            """The trained model, seconds a step and the losses."""
            set_seed(0)
            detector = opened(scale.models[0], torch.device("cpu"))
            args = AdaptCLIPTrainingArguments(
                str(folder / name),
                max_steps=steps,
                per_device_train_batch_size=8 if scale.models[0] == VIT_L else 2,
                save_strategy="steps",
                save_steps=scale.steps // 2,
                logging_steps=1,
                disable_tqdm=True,
                use_cpu=device.type == "cpu",
                bf16=device.type == "cuda",
                report_to="none",
            )
            model = detector.model.float()
            trainer = AdaptCLIPTrainer(model, args, train_dataset=PromptedImages(data, detector.processor))
            done = trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
            losses = [each["loss"] for each in trainer.state.log_history if "loss" in each]
            return model, done.metrics["train_runtime"] / (steps if resume is None else steps / 2), losses

        whole, seconds, losses = run("whole", scale.steps)
        run("stopped", scale.steps // 2)
        resumed, _, again = run("resumed", scale.steps, folder / "stopped" / f"checkpoint-{scale.steps // 2}")
    one, other = whole.state_dict(), resumed.state_dict()
    differences = {name: largest(one[name].float() - other[name].float()) for name in one}
    changed = {name: each for name, each in differences.items() if each}
    print(f"{scale.steps} steps: {seconds:.2f} s a step; losses {', '.join(f'{loss:.4f}' for loss in losses)}")
    print(f"stopped after {scale.steps // 2} and resumed: losses {', '.join(f'{loss:.4f}' for loss in again)}")
    if changed:
        name = max(changed, key=changed.__getitem__)
        print(f"{len(changed)} of {len(one)} tensors differ, {name} most, by {changed[name]:.1e}")
    else:
        print(f"all {len(one)} tensors are equal")


if __name__ == "__main__":
    sys.exit(main())
