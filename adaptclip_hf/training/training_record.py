"""The record of a training run, kept beside the model for its card."""

import hashlib
import math
import platform
from collections.abc import Sequence
from pathlib import Path

import datasets
from transformers import Trainer

from ..data.specs import HUB, resolve_spec
from ..evaluation.data_sets import add_rows
from ..evaluation.published import published_name
from ..files import write_json
from ..model_files import TRAINING_RECORD
from ..versions import package_versions
from .prompted_images import PromptedImages


def name_data_set(spec: str, dataset: datasets.Dataset) -> tuple[str, bool]:
    """A data set's name in the paper, or its folder's name, or its Hub id; and whether it is a Hub id."""
    layout, root = resolve_spec(spec)
    if layout == HUB and not Path(root).exists():
        return root, True
    return published_name(layout, dataset.unique("category")) or Path(root).name, False


def training_record(trainer: Trainer, data_sets: Sequence[tuple[str, bool]] = ()) -> dict:
    """The data and recipe of a finished run.

    Args:
        trainer: after `train`, with [`PromptedImages`] as its training data.
        data_sets: results of [`name_data_set`].
    """
    args, state, queries = trainer.args, trainer.state, trainer.train_dataset
    losses = [each["train_loss"] for each in state.log_history if "train_loss" in each]
    versions = {"Python": platform.python_version(), **package_versions("torch", "transformers")}
    return {
        "data_sets": [name for name, _ in data_sets],
        "hub_data_sets": [name for name, is_hub_id in data_sets if is_hub_id],
        **describe_images(queries),
        "clip": trainer.model.config.clip_name,
        "epochs": round(state.epoch or 0, 2),
        "steps": state.global_step,
        "batch_size": args.train_batch_size * args.world_size * args.gradient_accumulation_steps,
        "optimizer": str(getattr(args.optim, "value", args.optim)),
        "learning_rate": args.learning_rate,
        "schedule": str(getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type)),
        "seed": args.seed,
        "precision": "bfloat16" if args.bf16 else "float16" if args.fp16 else "float32",
        "processes": args.world_size,
        "loss": round(losses[-1], 4) if losses and math.isfinite(losses[-1]) else None,
        "versions": ", ".join(f"{name} {number}" for name, number in versions.items()),
    }


def describe_images(queries: PromptedImages) -> dict:
    labels = queries.rows.select_columns("label")[queries.queries]["label"]
    return {
        "categories": sorted({category for category, _ in queries.groups}),
        "images": len(labels),
        "anomalous": sum(labels),
        "normal_images": sum(map(len, queries.normals.values())),
    }


def write_record(record: dict, folder: str | Path):
    write_json(Path(folder) / TRAINING_RECORD, record)


def listing_digest(dataset: datasets.Dataset) -> str:
    """A digest of all rows; files count by the last three parts of their paths, since the data may have been moved."""
    digest = hashlib.sha256()
    add_rows(digest, dataset, ("label", "split", "category", "view"), lambda path: Path(path).parts[-3:])
    return digest.hexdigest()
