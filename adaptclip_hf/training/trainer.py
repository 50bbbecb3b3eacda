"""transformers' Trainer with the additions that AdaptCLIP needs."""

import re
import statistics
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import Trainer
from transformers.utils import logging

from ..files import write_whole
from ..hub.cards import model_card
from ..hub.publishing import publish
from ..model_files import CARD
from ..modeling import AdaptCLIPModel
from ..modeling.adapters_file import load_adapters, save_adapters, without_wrapper
from ..reporting import first_line
from .arguments import refuse_unsupported
from .batch_norm import synchronize_batch_norm
from .prompted_images import PromptedImages, collate_prompted
from .samplers import PromptedSampler
from .training_record import training_record, write_record
from .validation import CategoryMetrics

logger = logging.get_logger(__name__)


@contextmanager
def naming_what_is_lost(folder: Path) -> Iterator[None]:
    """Turns what safetensors and torch raise where a disk is full into an error that names the folder."""
    try:
        yield
    except (SafetensorError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not re.search("PytorchStreamWriter|inline_container", str(error)):
            raise
        raise OSError(
            f"{folder} cannot be written ({first_line(error)}): make room there, and continue with --resume."
        ) from error


class AdaptCLIPTrainer(Trainer):
    """Trains the adapters, and what else of the model requires a gradient: the image tower, or what PEFT adds to it.

    Takes the arguments of [`~transformers.Trainer`].

    - Queries with and without a normal image of their category are in separate batches, in an order drawn from (seed,
      epoch).
    - The log has the loss of each adapter: `loss_visual`, `loss_textual`, `loss_prompt_query`.
    - Checkpoints hold only the adapters, and what is trained of CLIP; `save_model` writes the complete model. With PEFT
      both write the same, and PEFT's own files beside it.
    - Features of a cache are not used where the image encoder is trained.
    - With several processes the batch norms see the batch of all processes, as one process would.
    - `save_model` also writes a record of the run for the model's card. `push_to_hub` pushes the complete model and its
      card in one commit; `save_model` does so too with `args.push_to_hub`. Checkpoints are never pushed: without the
      CLIP they are of no use to others.
    - `eval_dataset={category: PromptedImages}` gives `eval_<category>_image_auroc` and so on, and their means as
      `eval_image_auroc`, ...: 1-shot, each image with a fixed normal image of its category. One data set gives the
      latter alone.

    Raises:
        ValueError: a batch has one image, from which the adapters' batch norms cannot learn; an argument that this
            trainer does not support; a model with PEFT is to be pushed.
    """

    def __init__(self, model: AdaptCLIPModel, args, **kwargs):
        refuse_unsupported(args)
        if args.push_to_hub and has_peft(model):
            raise ValueError(
                "A model with PEFT is not pushed by the trainer: call its own push_to_hub, or merge it first."
            )
        kwargs.setdefault("data_collator", collate_prompted)
        if kwargs.get("compute_metrics") is None:
            kwargs["compute_metrics"] = CategoryMetrics()
            args.batch_eval_metrics = True  # which they need
        # kept from Trainer, which would write the tokenizer's special tokens into the model's config
        self.processor = kwargs.pop("processing_class", None)
        super().__init__(model, args, **kwargs)
        self.model.config.__dict__.pop("use_cache", None)  # for text generation; Trainer may set it on any model
        self.data_sets: list[tuple[str, bool]] = []  # of [`name_data_set`], for the record
        self.images_a_step = self.args.train_batch_size * self.args.world_size
        if self.images_a_step < 2:
            raise ValueError("The adapters' batch norms need at least 2 images a step: raise the batch size.")
        if self.args.world_size > 1:
            synchronize_batch_norm(self.model)
        self._adapter_losses: dict[str, list[torch.Tensor]] = defaultdict(list)

    def _get_train_sampler(self, train_dataset=None):
        dataset = self.train_dataset if train_dataset is None else train_dataset
        if not isinstance(dataset, PromptedImages):
            return super()._get_train_sampler(train_dataset)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return PromptedSampler(dataset, self.images_a_step, seed)

    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **kwargs)
        if model.training:
            for name, each in outputs.losses.items():
                self._adapter_losses[name].append(each.detach())
        return (loss, outputs) if return_outputs else loss

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """Evaluates one batch: (loss, (scores, maps), (labels, masks))."""
        inputs = self._prepare_inputs(inputs)
        with self.compute_loss_context_manager(), torch.inference_mode():
            output = self.model(**inputs)
        scores_and_maps = None if prediction_loss_only else (output.anomaly_scores, output.anomaly_maps)
        return output.loss, scores_and_maps, (inputs["labels"], inputs["mask_labels"])

    def log(self, logs: dict[str, float], *args, **kwargs):
        if "loss" in logs:
            for name, losses in self._adapter_losses.items():
                mean = torch.stack(losses).mean()
                logs[f"loss_{name}"] = self.accelerator.reduce(mean, "mean").item()
            self._adapter_losses.clear()
        super().log(logs, *args, **kwargs)

    def train(self, *args, **kwargs):
        self._read_pixels(self.train_dataset)
        self._read_pixels(self.eval_dataset)
        return super().train(*args, **kwargs)

    def _read_pixels(self, datasets):
        """Turns the feature cache of data sets off where the image encoder is trained, and so gives other features."""
        for each in datasets.values() if isinstance(datasets, dict) else [datasets]:
            if isinstance(each, PromptedImages) and each.cache is not None and self.model.trains_encoder():
                logger.warning_once("feature cache: off, the image encoder is trained")
                each.cache = None

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix: str = "eval") -> dict[str, float]:
        self._read_pixels(self.eval_dataset if eval_dataset is None or isinstance(eval_dataset, str) else eval_dataset)
        metrics = super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        datasets = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(datasets, dict):
            means = {}
            for name in ("loss", "image_auroc", "image_ap", "pixel_auroc", "pixel_ap"):
                keys = [f"{metric_key_prefix}_{category}_{name}" for category in datasets]
                if values := [metrics[key] for key in keys if key in metrics]:
                    means[f"{metric_key_prefix}_{name}"] = statistics.fmean(values)
            self.log(dict(means))
            metrics |= means
        return metrics

    def predict(self, test_dataset, *args, **kwargs):
        self._read_pixels(test_dataset)
        return super().predict(test_dataset, *args, **kwargs)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False):
        """Writes the complete model and its processor; for the checkpoints of Trainer only what is trained."""
        folder = Path(output_dir or self.args.output_dir)
        with naming_what_is_lost(folder):
            if self.args.should_save and (_internal_call or has_peft(self.model)):
                save_adapters(self.model, folder)
            if self.args.should_save and has_peft(self.model):
                self.model.save_pretrained(folder)
            if self.args.should_save and not _internal_call:
                self._save_complete(folder)
        if self.args.push_to_hub and not _internal_call and self.is_world_process_zero():
            self._push(folder, "Model save")

    def _save_checkpoint(self, *args, **kwargs):
        with naming_what_is_lost(Path(self.args.output_dir)):
            super()._save_checkpoint(*args, **kwargs)

    def _save_complete(self, folder: Path):
        if not has_peft(self.model):
            self.model.save_pretrained(folder)
        if self.processor is not None:
            self.processor.save_pretrained(folder)
        if isinstance(self.train_dataset, PromptedImages):
            write_record(training_record(self, self.data_sets), folder)

    def push_to_hub(
        self, commit_message="End of training", blocking=True, token=None, revision=None, private=None, **kwargs
    ) -> str | None:
        """Pushes the complete model, its processor and its card in one commit; returns the commit's URL.

        Args:
            blocking: has no effect; the call always waits for the upload.
            kwargs: have no effect; [`~transformers.Trainer.push_to_hub`] takes them for its card.
        """
        token = token or self.args.hub_token
        if self.hub_model_id is None:
            self.init_hf_repo(token=token, private=private)
        if not self.is_world_process_zero():
            return None
        folder = Path(self.args.output_dir)
        self._save_complete(folder)
        return self._push(folder, commit_message or "End of training", private, revision, token)

    def _push(self, folder: Path, message: str, private=None, revision=None, token=None) -> str:
        self._write_card(folder)
        revision, token = revision or self.args.hub_revision, token or self.args.hub_token
        options = {"private": private, "revision": revision, "token": token}
        return publish(folder, self.hub_model_id, commit_message=message, **options)

    def create_model_card(self, *args, **kwargs):
        """Writes the trained model's card to the output folder, instead of the generic one."""
        if self.is_world_process_zero():
            self._write_card(Path(self.args.output_dir))

    def _write_card(self, folder: Path):
        write_whole(folder / CARD, model_card(folder, self.hub_model_id or folder.name).encode(errors="replace"))

    def _push_from_checkpoint(self, checkpoint_folder: str):
        """Does nothing: checkpoints hold adapters without their CLIP."""

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None):
        load_adapters(self.model if model is None else model, resume_from_checkpoint)

    def _load_best_model(self):
        load_adapters(self.model, Path(self.state.best_model_checkpoint))


def has_peft(model: torch.nn.Module) -> bool:
    """Whether PEFT wrapped the model, or transformers added PEFT's layers to it; saving it saves those alone."""
    return without_wrapper(model) is not model or getattr(model, "_hf_peft_config_loaded", False)
