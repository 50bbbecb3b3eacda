"""A whole training: data, model, feature cache, Trainer, the finished model folder."""

from collections.abc import Sequence
from pathlib import Path

import datasets
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers import AutoTokenizer, PreTrainedConfig, set_seed

from ..ablations import TABLE_5
from ..data import load_data_set
from ..data.checking import readable_rows
from ..data.rows import FEATURES
from ..modeling import AdaptCLIPConfig, AdaptCLIPModel
from ..pretrained import resolve_model
from ..processing import AdaptCLIPProcessor
from .arguments import AdaptCLIPTrainingArguments
from .checkpoints import checkpoints, last_complete_checkpoint
from .feature_cache import DEFAULT_FOLDER, DEFAULT_LIMIT, FeatureCache, content_digests
from .prompted_images import PromptedImages
from .record import describe_images, name_data_set
from .trainer import AdaptCLIPTrainer


def train(
    model: str,
    data: Sequence[str],
    args: AdaptCLIPTrainingArguments,
    eval_data: Sequence[str] = (),
    ablation: str = "full",
    keep_adapters: bool = False,
    cache_folder: Path | None = None,
    cache_limit: float = DEFAULT_LIMIT,
    resume: bool = False,
    **config,
) -> AdaptCLIPTrainer | None:
    """Trains the adapters and writes the complete model to `args.output_dir`.

    Args:
        model: folder or Hub id of a CLIP, or of an AdaptCLIP model, whose CLIP is taken.
        data: specs of [`load_data_set`]; their test splits are learned from, their train splits compared with.
        eval_data: likewise, to evaluate on as `args.eval_strategy` says.
        ablation: a row of the paper's table 5.
        keep_adapters: go on from the adapters of an AdaptCLIP model.
        cache_folder, cache_limit: where features are kept, and how many GB at most.
        resume: go on from the last complete checkpoint in the output folder.
        config: fields of [`AdaptCLIPConfig`], such as `image_size`.

    Raises:
        FileNotFoundError, ValueError: name the file, field or folder and what was expected.
    """
    output = Path(args.output_dir)
    checkpoint = checkpoint_to_resume(output, resume)
    state = PartialState()

    def say(line: str):
        if state.is_main_process:
            print(line, flush=True)

    parts = load_parts(data, say)
    dataset = join_parts(parts, data)
    eval_datasets = split_categories(join_parts(load_parts(eval_data, say), eval_data)) if eval_data else {}
    set_seed(args.seed)
    built, processor = build_model(model, TABLE_5[ablation] | config, keep_adapters)
    if not any(parameter.requires_grad for parameter in built.parameters()):
        say(f"row {ablation!r} has no adapter: nothing is trained")
        built.save_pretrained(output)
        processor.save_pretrained(output)
        return None

    with_prompts = built.prompt_query_adapter is not None
    queries = PromptedImages(dataset, processor, args.seed, with_prompts)
    evaluated = {name: PromptedImages(each, processor, args.seed, with_prompts) for name, each in eval_datasets.items()}
    cache = FeatureCache(cache_folder or DEFAULT_FOLDER, built, processor, torch.bfloat16 if args.bf16 else None)
    compute_features_once([queries, *evaluated.values()], cache, cache_limit, args.device, say)
    trainer = AdaptCLIPTrainer(
        built, args, train_dataset=queries, eval_dataset=evaluated or None, processing_class=processor
    )
    say(describe(trainer, ablation, checkpoint))
    trainer.data_sets = [name_data_set(spec, part) for spec, part in zip(data, parts, strict=True)]
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.save_model()
    trainer.save_state()
    state.wait_for_everyone()
    say(f"written: {output}")
    return trainer


def checkpoint_to_resume(output: Path, resume: bool) -> Path | None:
    """The checkpoint to go on from; nothing that was trained before is overwritten unasked."""
    if output.is_file():
        raise ValueError(f"--output {output} is a file; expected a folder.")
    if not resume:
        if checkpoints(output):
            raise ValueError(f"{output} holds checkpoints of another run: go on with --resume, or name another folder.")
        return None
    checkpoint = last_complete_checkpoint(output)
    if checkpoint is None:
        raise FileNotFoundError(f"No complete checkpoint in {output} to resume from: start without --resume.")
    return checkpoint


def load_parts(specs: Sequence[str], say) -> list[datasets.Dataset]:
    """The readable rows of each data set; one process opens the files, all hear the result."""
    parts = []
    for spec in specs:
        part = load_data_set(spec, lambda line: say(f"! {line}"))
        kept = [None]
        if PartialState().is_main_process:
            kept = [readable_rows(part, lambda line: say(f"! {line}"))]
        parts.append(part.select(broadcast_object_list(kept)[0]))
    return parts


def join_parts(parts: list[datasets.Dataset], specs: Sequence[str]) -> datasets.Dataset:
    """One data set; categories of the same name in several get the data set's name before theirs."""
    names = [set(part.unique("category")) for part in parts]
    if len(set().union(*names)) == sum(map(len, names)):
        return datasets.concatenate_datasets(parts)
    renamed = []
    for part, spec in zip(parts, specs, strict=True):
        categories = [f"{Path(spec.partition(':')[2] or spec).name}/{each}" for each in part["category"]]
        renamed.append(part.remove_columns("category").add_column("category", categories).cast(FEATURES))
    return datasets.concatenate_datasets(renamed)


def split_categories(dataset: datasets.Dataset) -> dict[str, datasets.Dataset]:
    categories = list(dataset["category"])
    return {
        name: dataset.select([row for row, each in enumerate(categories) if each == name])
        for name in dict.fromkeys(categories)
    }


def build_model(name: str, config: dict, keep_adapters: bool) -> tuple[AdaptCLIPModel, AdaptCLIPProcessor]:
    """Adapters on the CLIP of a folder or Hub id, in float32, and the processor."""
    name = resolve_clip(name)
    model_type = PreTrainedConfig.get_config_dict(name)[0].get("model_type")
    tokenizer = AutoTokenizer.from_pretrained(name)
    if model_type == "clip":
        if keep_adapters:
            raise ValueError(f"--keep-adapters: {name} is a plain CLIP, which has none.")
        model = AdaptCLIPModel.from_clip_pretrained(name, tokenizer, dtype=torch.float32, **config)
    elif model_type == AdaptCLIPConfig.model_type:
        model = AdaptCLIPModel.from_pretrained(name, dtype=torch.float32, **(config if keep_adapters else {}))
        if not keep_adapters:
            model = with_fresh_adapters(model, AdaptCLIPConfig.from_pretrained(name, **config))
    else:
        raise ValueError(f"{name} is a model of type {model_type!r}; expected a CLIP or an AdaptCLIP model.")
    return model, AdaptCLIPProcessor.for_model(model.config, tokenizer)


def resolve_clip(name: str) -> str:
    """A plain CLIP's folder as it is, anything else as [`resolve_model`] has it."""
    return name if (Path(name) / "config.json").is_file() else resolve_model(name)


def with_fresh_adapters(model: AdaptCLIPModel, config: AdaptCLIPConfig) -> AdaptCLIPModel:
    fresh = AdaptCLIPModel(config)
    fresh.clip = model.clip
    fresh.static_text_embeds = model.static_text_embeds
    fresh.freeze_clip()
    return fresh


def compute_features_once(
    image_sets: list[PromptedImages], cache: FeatureCache, limit: float, device: torch.device, say
) -> None:
    """Fills the cache, each process its share, and lets the images be read from it; says why where it is not used."""
    state = PartialState()
    used = [(each, each.used_rows()) for each in image_sets]
    count = sum(len(rows) for _, rows in used)
    if refused := cache.refusal(count, 0, limit):
        say(f"feature cache: off, {refused}. CLIP runs again in every epoch.")
        return
    wanted: dict[str, dict] = {}
    for images, rows in used:
        pictures = [images.rows[row]["image"] for row in rows]
        digests = content_digests(pictures, state.is_main_process)
        images.digests = dict(zip(rows, digests, strict=True))
        wanted |= dict(zip(digests, pictures, strict=True))
    missing = cache.missing(wanted)
    size = cache.bytes_per_image()
    say(
        f"feature cache: {len(wanted)} images, {len(wanted) * size / 2**30:.2f} GB ({size / 2**20:.2f} MB each), "
        f"{len(missing)} to be encoded, in {cache.folder}"
    )
    if refused := cache.refusal(count, len(missing), limit):
        say(f"feature cache: off, {refused}. CLIP runs again in every epoch.")
        return
    state.wait_for_everyone()
    share = dict(list(missing.items())[state.process_index :: state.num_processes])
    cache.fill(share, device, state.is_main_process)
    state.wait_for_everyone()
    if absent := cache.missing(wanted):
        raise ValueError(f"{cache.folder} lacks {len(absent)} images after encoding: all processes must share it.")
    for images, _ in used:
        images.read_features_from(cache, images.digests)


def describe(trainer: AdaptCLIPTrainer, ablation: str, checkpoint: Path | None) -> str:
    """What is about to be trained, in a few lines."""
    queries: PromptedImages = trainer.train_dataset
    images = describe_images(queries)
    trained = sum(parameter.numel() for parameter in trainer.model.parameters() if parameter.requires_grad)
    without = len(queries) - sum(map(queries.has_prompt, range(len(queries))))
    lines = [
        f"training: {images['images']} images ({images['anomalous']} anomalous) of {len(images['categories'])} "
        f"categories, beside {images['normal_images']} normal images",
        f"model: {trained:,} parameters in the adapters ({ablation}), {trainer.model.config.image_size} px",
        f"recipe: {trainer.args.num_train_epochs:g} epochs, {trainer.images_a_step} images a step"
        + (
            f" x {trainer.args.gradient_accumulation_steps} accumulated"
            * (trainer.args.gradient_accumulation_steps > 1)
        ),
    ]
    if without and trainer.model.prompt_query_adapter is not None:
        lines.append(
            f"{without} images have no normal image to compare with: the prompt-query adapter does not see them"
        )
    if checkpoint:
        lines.append(f"going on from {checkpoint}")
    return "\n".join(lines)
