"""A whole training run: data, model, feature cache, Trainer and the finished model folder."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import datasets
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers import set_seed

from ..ablations import TABLE_5
from ..data import load_data_set
from ..data.checking import readable_rows
from ..data.rows import FEATURES
from ..data.specs import resolve_spec, unique_name
from ..detector import AnomalyDetector
from ..model_files import resolve_model
from ..modeling import AdaptCLIPConfig, AdaptCLIPModel
from ..processing import AdaptCLIPProcessor
from ..processing.processor_files import load_tokenizer
from ..reporting import first_line, print_line, print_lines
from ..resume import keep_or_match
from .arguments import AdaptCLIPTrainingArguments
from .checkpoints import STATE_FILE, checkpoints, is_complete, last_complete_checkpoint
from .feature_cache import DEFAULT_FOLDER, DEFAULT_LIMIT, FeatureCache, content_digests
from .prompted_images import PromptedImages
from .trainer import AdaptCLIPTrainer
from .training_record import describe_images, listing_digest, name_data_set

SETTINGS_FILE = "run.json"


@dataclass
class TrainingRun:
    """A finished training run.

    Attributes:
        trainer: after training; `None` if there was nothing to train.
        unreadable: the number of images that could not be read and were left out.
    """

    trainer: AdaptCLIPTrainer | None
    unreadable: int


def train(
    model: str,
    data: Sequence[str],
    args: AdaptCLIPTrainingArguments,
    eval_data: Sequence[str] = (),
    ablation: str = "full",
    keep_adapters: bool = False,
    resume: bool = False,
    **options,
) -> TrainingRun:
    """Trains the adapters and writes the complete model to `args.output_dir`.

    Args:
        model: folder or Hub id of a CLIP, or of an AdaptCLIP model whose CLIP is used.
        data: specs of [`load_data_set`]; the adapters learn from their test splits, beside normal images of their train
            splits.
        eval_data: specs of the data sets to evaluate on, as `args.eval_strategy` says.
        ablation: a row of the paper's table 5.
        keep_adapters: start from the adapters of an AdaptCLIP model.
        resume: continue from the last complete checkpoint in the output folder.
        options: `cache_folder` and `cache_limit`, where features are kept and how many GB at most, and fields of
            [`AdaptCLIPConfig`] such as `image_size`.

    Raises:
        FileNotFoundError, ValueError: name the file, field or folder and what was expected; a run is not resumed with
            other data, model, sizes or recipe than it was started with.
    """
    cache_folder, cache_limit = options.pop("cache_folder", None), options.pop("cache_limit", DEFAULT_LIMIT)
    output, state = Path(args.output_dir), PartialState()
    given = Path(args.resume_from_checkpoint) if args.resume_from_checkpoint else None
    checkpoint = checkpoint_to_resume(output, resume, given)
    parts, unreadable = load_parts(data)
    dataset = join_parts(parts, data)
    eval_parts, eval_unreadable = load_parts(eval_data)
    eval_datasets = split_by_category(join_parts(eval_parts, eval_data)) if eval_data else {}
    set_seed(args.seed)
    built, processor = build_model(model, TABLE_5[ablation] | options, keep_adapters)
    unreadable += eval_unreadable
    if not any(parameter.requires_grad for parameter in built.parameters()):
        print_line(f"row {ablation!r} has no adapter: nothing is trained")
        built.save_pretrained(output)
        processor.save_pretrained(output)
        return TrainingRun(None, unreadable)

    if state.is_main_process:
        if checkpoint is None:
            (output / SETTINGS_FILE).unlink(missing_ok=True)
        settings = run_settings(built, processor, dataset, args, ablation, keep_adapters)
        if given and (given.parent / SETTINGS_FILE).is_file():
            keep_or_match(given.parent / SETTINGS_FILE, settings, "continue it with the same")
        keep_or_match(output / SETTINGS_FILE, settings, "continue with the same, or name another --output")
    state.wait_for_everyone()
    with_prompts = built.prompt_query_adapter is not None
    queries = PromptedImages(dataset, processor, args.seed, with_prompts)
    evaluated = {name: PromptedImages(each, processor, args.seed, with_prompts) for name, each in eval_datasets.items()}
    detector = AnomalyDetector(built, processor)
    # which refuses what it cannot do, or what is not installed, before the features take their time
    with naming_what_is_not_installed():
        trainer = AdaptCLIPTrainer(
            built, args, train_dataset=queries, eval_dataset=evaluated or None, processing_class=processor
        )
    cache = FeatureCache(cache_folder or DEFAULT_FOLDER, detector, torch.bfloat16 if args.bf16 else None)
    compute_features_once([queries, *evaluated.values()], cache, cache_limit, args.device)
    print_lines(describe(trainer, ablation, checkpoint))
    trainer.data_sets = [name_data_set(spec, part) for spec, part in zip(data, parts, strict=True)]
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.save_model()
    trainer.save_state()
    state.wait_for_everyone()
    print_line(f"written: {output}")
    return TrainingRun(trainer, unreadable)


@contextmanager
def naming_what_is_not_installed() -> Iterator[None]:
    """Turns what transformers raises where an argument needs another package into an error for people."""
    try:
        yield
    except (ImportError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "install" not in str(error):
            raise
        raise ValueError(first_line(error)) from error


def checkpoint_to_resume(output: Path, resume: bool, given: Path | None = None) -> Path | None:
    """The checkpoint to continue from.

    Args:
        resume: from the newest complete checkpoint in the output folder.
        given: a checkpoint of this run, or of another one that goes on in a new folder.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the output folder holds another run, or is a file.
    """
    if output.is_file():
        raise ValueError(f"--output {output} is a file; expected a folder.")
    if given is not None and not is_complete(given):
        raise FileNotFoundError(f"--resume-from-checkpoint {given} is no complete checkpoint: it lacks {STATE_FILE}.")
    if given is not None and given.resolve().parent == output.resolve():
        return given
    if given is not None or not resume:
        if last_complete_checkpoint(output) is not None:
            raise ValueError(
                f"{output} holds checkpoints of another run: continue it with --resume, or name another folder."
            )
        return given
    checkpoint = last_complete_checkpoint(output)
    if checkpoint is None and checkpoints(output):
        print_line(f"no checkpoint in {output} is complete: starting from the beginning")
    elif checkpoint is None:
        raise FileNotFoundError(f"No complete checkpoint in {output} to resume from: start without --resume.")
    return checkpoint


def run_settings(
    model: AdaptCLIPModel,
    processor: AdaptCLIPProcessor,
    dataset: datasets.Dataset,
    args: AdaptCLIPTrainingArguments,
    ablation: str,
    keep_adapters: bool,
) -> dict:
    """What must be the same when a run is resumed, so that it ends with the same weights; it may train more epochs."""
    described = AnomalyDetector(model, processor).describe()
    names = (
        "weights",
        "device",
        "dtype",
        "fingerprint",
    )  # they change with the adapters or do not matter; the CLIP has its own line
    recipe = ("seed", "data_seed", "learning_rate", "optim", "lr_scheduler_type", "gradient_accumulation_steps", "bf16")
    return {
        "data": listing_digest(dataset),
        "clip": model.clip_digest(),
        "ablation": ablation,
        "keep_adapters": keep_adapters,
        **{name: value for name, value in described.items() if name not in names},
        **{name: str(getattr(getattr(args, name), "value", getattr(args, name))) for name in recipe},
        "images_a_step": args.train_batch_size * args.world_size,
    }


def load_parts(specs: Sequence[str]) -> tuple[list[datasets.Dataset], int]:
    """The readable rows of each data set, and how many are not readable; one process opens the files for all."""
    parts, unreadable = [], 0

    def report(line: str):
        print_line(f"! {line}")

    for spec in specs:
        part = load_data_set(spec, report)
        [rows] = broadcast_object_list([readable_rows(part, report) if PartialState().is_main_process else None])
        unreadable += len(part) - len(rows)
        parts.append(part.select(rows))
    return parts, unreadable


def join_parts(parts: list[datasets.Dataset], specs: Sequence[str]) -> datasets.Dataset:
    """Joins data sets; if two share a category's name, all categories are prefixed with their data set's name."""
    names = [set(part.unique("category")) for part in parts]
    if len(set().union(*names)) == sum(map(len, names)):
        return datasets.concatenate_datasets(parts)
    renamed: list[datasets.Dataset] = []
    taken: list[str] = []
    for part, spec in zip(parts, specs, strict=True):
        taken.append(unique_name(resolve_spec(spec)[1], taken))
        categories = [f"{taken[-1]}/{each}" for each in part["category"]]
        renamed.append(part.remove_columns("category").add_column("category", categories).cast(FEATURES))
    return datasets.concatenate_datasets(renamed)


def split_by_category(dataset: datasets.Dataset) -> dict[str, datasets.Dataset]:
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(dataset["category"]):
        rows.setdefault(name, []).append(row)
    return {name: dataset.select(chosen) for name, chosen in rows.items()}


# what a model without adapters may have chosen otherwise: trained adapters are to score
AS_PUBLISHED = {"few_shot_adapters": True, "normal_variation": False}


def build_model(name: str, config: dict, keep_adapters: bool) -> tuple[AdaptCLIPModel, AdaptCLIPProcessor]:
    """A model in float32 with adapters on the CLIP of a folder or Hub id, and its processor."""
    name = resolve_model(name)
    model_type = AdaptCLIPConfig.get_config_dict(name)[0].get("model_type")
    tokenizer = load_tokenizer(name)
    if model_type == "clip":
        if keep_adapters:
            raise ValueError(f"--keep-adapters: {name} is a plain CLIP, which has no adapters.")
        model = AdaptCLIPModel.from_clip_pretrained(name, tokenizer, dtype=torch.float32, **config)
    elif model_type == AdaptCLIPConfig.model_type:
        model = AdaptCLIPModel.from_pretrained(name, dtype=torch.float32, **(config if keep_adapters else {}))
        if not keep_adapters:
            model = AdaptCLIPModel(AdaptCLIPConfig.from_pretrained(name, **AS_PUBLISHED | config), model.clip).eval()
            model.set_object_name(model.config.object_name, tokenizer)
    else:
        raise ValueError(f"{name} is a model of type {model_type!r}; expected a CLIP or an AdaptCLIP model.")
    return model, AdaptCLIPProcessor.for_model(model.config, tokenizer)


def compute_features_once(
    image_sets: list[PromptedImages], cache: FeatureCache, limit: float, device: torch.device
) -> None:
    """Fills the cache, each process its share, and reads features from it from then on; prints why if it is not used.

    The main process decides for all: the processes may have different disks, which fill meanwhile.
    """
    state = PartialState()
    used = [(each, each.used_rows()) for each in image_sets]
    count = sum(len(rows) for _, rows in used)

    def refused(missing: int) -> bool:
        [reason] = broadcast_object_list([cache.refusal(count, missing, limit)])
        if reason:
            print_line(f"feature cache: off, {reason}. CLIP runs again in every epoch.")
        return bool(reason)

    if refused(missing=0):
        return
    wanted: dict[str, dict] = {}
    for images, rows in used:
        pictures = [images.rows[row]["image"] for row in rows]
        digests = content_digests(pictures, state.is_main_process)
        images.digests = dict(zip(rows, digests, strict=True))
        wanted |= dict(zip(digests, pictures, strict=True))
    [missing] = broadcast_object_list([list(cache.missing(wanted))])
    size = cache.bytes_per_image()
    print_line(
        f"feature cache: {len(wanted)} images, {len(wanted) * size / 2**30:.2f} GB ({size / 2**20:.2f} MB each), "
        f"{len(missing)} to be encoded, in {cache.folder}"
    )
    if refused(len(missing)):
        return
    share = {digest: wanted[digest] for digest in missing[state.process_index :: state.num_processes]}
    cache.fill(share, device, state.is_main_process)
    state.wait_for_everyone()
    if absent := cache.missing(wanted):
        raise ValueError(f"{cache.folder} lacks {len(absent)} images after encoding: all processes must share it.")
    for images, _ in used:
        images.read_features_from(cache, images.digests)


def describe(trainer: AdaptCLIPTrainer, ablation: str, checkpoint: Path | None) -> str:
    """What will be trained, in a few lines."""
    queries: PromptedImages = trainer.train_dataset
    images = describe_images(queries)
    trained = sum(parameter.numel() for parameter in trainer.model.parameters() if parameter.requires_grad)
    without = len(queries) - sum(map(queries.has_prompt, range(len(queries))))
    lines = [
        f"training: {images['images']} images ({images['anomalous']} anomalous) of {len(images['categories'])} "
        f"categories, beside {images['normal_images']} normal images",
        f"model: {trained:,} parameters in the adapters ({ablation}), {trainer.model.config.image_size} px",
        f"recipe: {trainer.args.num_train_epochs:g} epochs, {trainer.images_a_step} images a step",
    ]
    if (accumulated := trainer.args.gradient_accumulation_steps) > 1:
        lines[-1] += f" x {accumulated} accumulated"
    if without and trainer.model.prompt_query_adapter is not None:
        lines.append(f"{without} images have no normal image to compare with: the prompt-query adapter skips them")
    if checkpoint:
        lines.append(f"resuming from {checkpoint}")
    return "\n".join(lines)
