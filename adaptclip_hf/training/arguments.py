"""transformers' training arguments with the method's recipe as their defaults."""

import os
from dataclasses import dataclass, field

import torch
from transformers import TrainingArguments


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
