"""transformers' training arguments with the method's recipe as their defaults."""

import os
from collections.abc import Sequence
from dataclasses import MISSING, Field, dataclass, field, fields

import torch
from transformers import TrainingArguments

# for text, for another loss or sampler, or of models shared out over devices, which checkpoints here do not know
UNSUPPORTED = (
    "auto_find_batch_size",
    "deepspeed",
    "fsdp",
    "include_for_metrics",
    "include_num_input_tokens_seen",
    "label_names",
    "label_smoothing_factor",
    "liger_kernel_config",
    "neftune_noise_alpha",
    "parallelism_config",
    "train_sampling_strategy",
    "use_cache",
    "use_liger_kernel",
)
FIXED = ("batch_eval_metrics", "remove_unused_columns")


def workers() -> int:
    """Several on a GPU, which one process that decodes images keeps waiting; none on a CPU, whose cores are busy."""
    return min(4, os.cpu_count() or 1) if torch.cuda.is_available() else 0


@dataclass
class AdaptCLIPTrainingArguments(TrainingArguments):
    """[`~transformers.TrainingArguments`] with the recipe of the reference ("Training") as defaults: Adam (the same as
    AdamW without decay) at a constant 1e-3 with betas (0.5, 0.999), batches of 8, 15 epochs, no clipping."""

    per_device_train_batch_size: int = field(default=8, metadata={"help": "Images in a step of a process."})
    per_device_eval_batch_size: int = field(default=8, metadata={"help": "Images at a time in evaluation."})
    num_train_epochs: float = field(default=15, metadata={"help": "Passes over the training images."})
    learning_rate: float = field(default=1e-3, metadata={"help": "Learning rate."})
    lr_scheduler_type: str = field(default="constant", metadata={"help": "Schedule of the learning rate."})
    optim: str = field(default="adamw_torch", metadata={"help": "Optimiser; AdamW without decay is Adam."})
    adam_beta1: float = field(default=0.5, metadata={"help": "Adam's beta1."})
    weight_decay: float = field(default=0.0, metadata={"help": "Weight decay."})
    max_grad_norm: float = field(default=0.0, metadata={"help": "Largest gradient norm; 0 does not clip."})
    save_strategy: str = field(default="epoch", metadata={"help": "When to keep a checkpoint: no, steps or epoch."})
    save_total_limit: int | None = field(default=2, metadata={"help": "Number of checkpoints to keep."})
    logging_steps: float = field(default=20, metadata={"help": "Steps between two lines of the log."})
    # HfArgumentParser needs the alternatives in this order
    report_to: None | str | list[str] = field(  # noqa: RUF036
        default="none", metadata={"help": "Such as tensorboard or wandb."}
    )
    remove_unused_columns: bool = field(default=False, metadata={"help": "Must stay off: queries carry their prompts."})
    dataloader_num_workers: int = field(default_factory=workers, metadata={"help": "Processes that load images."})
    dataloader_pin_memory: bool = field(
        default_factory=torch.cuda.is_available, metadata={"help": "Copy batches to a GPU from pinned memory."}
    )
    # maps of a whole data set would not fit into memory
    batch_eval_metrics: bool = field(default=True, metadata={"help": "Must stay on: metrics take batch after batch."})

    def __post_init__(self):
        refuse_unsupported(self, (*UNSUPPORTED, *FIXED))  # before an argument asks for a package that is not there
        super().__post_init__()


def refuse_unsupported(args: TrainingArguments, names: Sequence[str] = UNSUPPORTED):
    """Refuses arguments that training here would not heed, or fail with.

    Args:
        names: of the arguments that must keep their defaults.

    Raises:
        ValueError: names all that do not, and their defaults.
    """
    defaults = {each.name: default_of(each) for each in fields(args)}
    given = {name: getattr(args, name) for name in names if name in defaults}
    if changed := [name for name, value in given.items() if or_none(value) != or_none(defaults[name])]:
        options = [f"--{name.replace('_', '-')} {given[name]} (leave it at {defaults[name]})" for name in changed]
        raise ValueError(f"Training does not support {', '.join(options)}.")


def or_none(value):
    """The value of an argument, or `None` for all that says it is off."""
    return None if str(value).lower() in ("no", "none", "false") else value or None


def default_of(argument: Field):
    return argument.default if argument.default_factory is MISSING else argument.default_factory()
