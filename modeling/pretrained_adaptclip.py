"""All of a model but the method: how it is initialised, loaded, saved, published and identified by its weights."""

import math
import re
from copy import deepcopy
from pathlib import Path
from typing import Self

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_INDEX_NAME, cached_file
from transformers.utils.hub import extract_commit_hash

from .adapters_file import ADAPTERS_FILE, load_adapters
from .checks import (
    ADAPTERS,
    LEARNED_TEXT,
    TEXT_EMBEDS,
    TEXT_TOWER,
    is_encoded,
    require_all_weights,
)
from .checksums import CHECKSUMS_FILE
from .config_file import check_clip, chosen_clip
from .configuration_adaptclip import TEXT_FIELDS, AdaptCLIPConfig, config_file
from .damage import clip_shapes, require_finite, require_undamaged, shapes_of, weights_files, write_weights_checksums
from .fingerprint import ContentMemo, Part, contents_key, versions_key, weights_digest
from .hooks import hook
from .placement import on_one_device
from .precision import align_weights
from .text_encoder import check_tokenizer, frame_token_ids
from .textual_adapter import TextualAdapter
from .weights_file import WEIGHTS_FILE, read_weights
from .weights_fit import require_clip_fit, require_fit

PIPELINE_CODE = "pipeline.py"
SAMPLED_EVERY = 16  # rows of a weight, of which a sampled fingerprint reads one
HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token")
# arguments of transformers' own loading that mean nothing for a folder of adapters
LOADER_OPTIONS = (
    "adapter_kwargs",
    "code_revision",
    "low_cpu_mem_usage",
    "offload_buffers",
    "offload_folder",
    "trust_remote_code",
    "use_safetensors",
    "weights_only",
)


class AdaptCLIPPreTrainedModel(PreTrainedModel):
    """The flags and the initialisation of everything that has an [`AdaptCLIPConfig`], also of exported models."""

    config: AdaptCLIPConfig
    config_class = AdaptCLIPConfig
    base_model_prefix = "clip"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False
    backend = "torch"  # what computes the scores; exported models name another one
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    @torch.no_grad()
    def _init_weights(self, module):
        """torch's own initialisation for the heads, N(0, 0.02) for the learned prompts."""
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            init.kaiming_uniform_(module.weight, a=5**0.5)
            if module.bias is not None:
                fan_in = module.weight[0].numel()
                init.uniform_(module.bias, -(fan_in**-0.5), fan_in**-0.5)
        elif isinstance(module, TextualAdapter):
            init.normal_(module.normal_prompt, std=0.02)
            init.normal_(module.anomalous_prompt, std=0.02)
        elif isinstance(module, StoredAdaptCLIPModel):
            # two directions in place of sentences, for a CLIP of random weights
            init.copy_(module.static_text_embeds, torch.eye(*module.static_text_embeds.shape))
            if module.textual_adapter is not None:
                init.zeros_(module.learned_text_embeds)
        else:
            super()._init_weights(module)


class StoredAdaptCLIPModel(AdaptCLIPPreTrainedModel):
    """All of [`AdaptCLIPModel`] that is not the method: loading, saving, publishing and digests of its weights.

    Attributes:
        clip: the frozen CLIP. Its text tower is `None` in a model that was loaded without it.
        visual_adapter, textual_adapter, prompt_query_adapter: the adapters; `None` where one is switched off.
        static_text_embeds: (2, d), not normalised, of the static prompts with the word `object_name`.
        learned_text_embeds: (2, d), not normalised, of the learned prompts as they were when the model was saved.
        object_name: the word that `static_text_embeds` were encoded with.
    """

    clip: CLIPModel
    visual_adapter: nn.Module | None
    textual_adapter: nn.Module | None
    prompt_query_adapter: nn.Module | None
    static_text_embeds: torch.Tensor
    learned_text_embeds: torch.Tensor
    object_name: str
    _memo: ContentMemo

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path, *args, output_loading_info: bool = False, text_tower: bool = True, **kwargs
    ):
        """Loads a model, as [`~PreTrainedModel.from_pretrained`] does; adapters alone get the CLIP that they name.

        With `None` in place of a name, all weights are those of `state_dict`, and `config` is needed.

        Fields of the config may be given too: adapters may be switched off, and the static prompts are encoded again
        for another `object_name`.

        Args:
            text_tower: without it less is loaded (of ViT-L/14 123 of 428 million parameters), and the text embeddings
                come from the file. Such a model cannot be trained or saved, and knows one object name. Where the file
                lacks its text embeddings, or another `object_name` is given here, the text tower is loaded anyway.

        Raises:
            OSError: there is no such model, its weights cannot be read, or the CLIP that adapters alone belong to is
                not available.
            TypeError: an unknown argument.
            ValueError: a file is damaged (its SHA-256 is not that of `SHA256SUMS`, values are not finite) or the
                config chooses what it may not; weights are missing, so that nothing ever runs on a part initialised at
                random, or do not belong to the model; the CLIP is not the one that adapters alone belong to; a
                `device_map` that leaves parts on a disk or on several devices, or `max_memory` that is too small.
        """
        name, config = pretrained_model_name_or_path, kwargs.get("config") or pretrained_model_name_or_path
        hub = {key: kwargs[key] for key in HUB_ARGUMENTS if key in kwargs}
        if name is None and (config is None or kwargs.get("state_dict") is None):
            raise ValueError(
                "Without a name, from_pretrained needs the model's config and, as state_dict, its weights."
            )
        if isinstance(config, str | Path):
            adapters_only = cls.config_class.get_config_dict(config, **hub)[0].get("adapters_only")
        else:
            adapters_only = config.adapters_only and name is not None
        info: dict[str, set[str]] = {"missing_keys": set(), "unexpected_keys": set()}
        if adapters_only:
            model = cls._from_adapters(name, **kwargs)
        else:
            files = [] if name is None else cls._undamaged_files(name, config, kwargs.get("variant"), **hub)
            if "device_map" in kwargs:
                dtype, given = kwargs.get("dtype", "auto"), kwargs.get("state_dict")
                kwargs["device_map"] = on_one_device(
                    kwargs["device_map"],
                    kwargs.pop("max_memory", None),
                    lambda: bytes_of_weights(files, dtype) if given is None else sum(t.nbytes for t in given.values()),
                )
            try:
                if not text_tower and len(files) == 1:  # an index has shards beside it
                    model, info = cls._without_text_tower(name, str(files[0]), **kwargs)
                else:
                    kwargs.setdefault("use_safetensors", True)  # other weights are pickles
                    model, info = super().from_pretrained(name, *args, output_loading_info=True, **kwargs)
            except RuntimeError as error:  # of shapes that no field alone decides
                if not any(word in str(error) for word in ("mismatch", "shape", "size")):  # not about a file
                    raise
                reason = str(error).strip().splitlines()[0]
                raise ValueError(f"{config_file(name)} does not fit the weights beside it: {reason}") from error
        source = "the state_dict" if name is None else name
        require_all_weights(model, info, source)
        require_finite(model.stored_weights(), source)
        files_beside = config if name is None else name
        stored = {}
        if isinstance(files_beside, str | Path):
            stored = cls.config_class.get_config_dict(files_beside, **hub)[0]
        other_prompts = any(
            stored.get(field, getattr(model.config, field)) != getattr(model.config, field) for field in TEXT_FIELDS
        )
        if model.clip.text_model is None and (other_prompts or LEARNED_TEXT in info["missing_keys"]):
            return cls.from_pretrained(name, *args, output_loading_info=output_loading_info, **kwargs)
        model.freeze_clip()
        align_weights(model)
        model._keep_learned_text()
        if other_prompts:
            try:
                tokenizer = CLIPTokenizer.from_pretrained(files_beside, **hub)
                model.set_object_name(model.config.object_name, tokenizer)
            except Exception as error:  # tokenizers raises the bare class
                raise ValueError(
                    f"The prompts of object_name={model.config.object_name!r} cannot be encoded with the files of "
                    f"{files_beside}: {error}"
                ) from error
        return (model, info) if output_loading_info else model

    @classmethod
    def _undamaged_files(cls, name, config, variant: str | None, **hub) -> list[Path]:
        """The files of the weights, which are those of their SHA-256 and have the config's sizes."""
        files = weights_files(name, variant, **hub)
        require_undamaged(files)
        if isinstance(config, str | Path):
            config = cls.config_class.from_pretrained(config, **hub)
        require_fit(config, shapes_of(files), config_file(name))
        return files

    @classmethod
    def _without_text_tower(cls, name, file: str, config=None, dtype="auto", **kwargs):
        """A model without its text tower, and what its loading reports; the weights are in memory once."""
        if config is None or isinstance(config, str | Path):
            config, kwargs = cls.config_class.from_pretrained(config or name, return_unused_kwargs=True, **kwargs)
        dtype = config.dtype if dtype == "auto" else dtype
        dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
        tower = re.compile("|".join(TEXT_TOWER))
        weights = read_weights(file, lambda key: not tower.match(key), dtype)
        options = {key: value for key, value in kwargs.items() if key not in HUB_ARGUMENTS}
        model, info = super().from_pretrained(
            None, config=config, state_dict=weights, output_loading_info=True, text_tower=False, dtype=dtype, **options
        )
        model.config.name_or_path = model.name_or_path = str(name)
        return model, info

    @classmethod
    def _from_adapters(
        cls, name, config=None, dtype="auto", attn_implementation=None, device_map=None, max_memory=None, **kwargs
    ):
        """The adapters of a folder or repository on the CLIP that its config names."""
        hub = {key: kwargs.pop(key) for key in HUB_ARGUMENTS if key in kwargs}
        if config is None or isinstance(config, str | Path):
            config = cls.config_class.from_pretrained(config or name, **hub)
        config = deepcopy(config)
        fields = {key: value for key, value in kwargs.items() if key not in LOADER_OPTIONS and key[0] != "_"}
        if unknown := [key for key in fields if not hasattr(config, key)]:
            raise TypeError(f"from_pretrained takes no {', '.join(unknown)}, and AdaptCLIPConfig has no such field.")
        config.update(fields)
        config.name_or_path = str(name)
        clip_hub = {key: value for key, value in hub.items() if key not in ("revision", "subfolder")}
        clip_hub["revision"] = config.clip_revision or "main"
        named = config.clip_name + (f" (revision {config.clip_revision})" if config.clip_revision else "")
        try:
            cached_file(config.clip_name, CONFIG_NAME, **clip_hub)  # fails fast; a search for weights does not
            clip_hub["attn_implementation"] = attn_implementation
            clip = load_clip(config.clip_name, "auto", config.clip_config, **clip_hub)
        except OSError as error:
            raise OSError(
                f"{name} holds adapters alone. The CLIP that they belong to, {named}, is not available: {error}"
            ) from error
        if dtype == "auto":
            dtype = config.dtype or clip.dtype
        model = cls(config, clip)
        load_adapters(model, Path(cached_file(name, ADAPTERS_FILE, **hub)).parent)
        model = model.to(getattr(torch, dtype) if isinstance(dtype, str) else dtype).eval()
        placed = on_one_device(device_map, max_memory, model.get_memory_footprint)
        return model if placed is None else model.to(placed[""] if isinstance(placed, dict) else placed)

    @classmethod
    def from_clip_pretrained(cls, clip, tokenizer=None, dtype: torch.dtype | None = None, **config) -> Self:
        """Fresh adapters on a pretrained CLIP.

        Fresh adapters are to be trained. Until then images are scored without them: by CLIP's static prompts, and with
        normal images by alignment too (see [`~AdaptCLIPModel.untrained_adapters`]).

        Args:
            clip: an HF CLIP's folder or Hub id, or a `CLIPModel`.
            tokenizer: its tokenizer; needed with a `CLIPModel`, otherwise loaded from the CLIP's folder.
            dtype: of the weights; the CLIP's own by default.
            config: fields of [`AdaptCLIPConfig`], and the usual arguments of a download (`revision`, `token`, ...).

        Raises:
            ValueError: for a configuration or tokenizer that does not fit the CLIP.
        """
        hub = {name: config.pop(name) for name in HUB_ARGUMENTS if name in config}
        origin, source = {}, "hand"
        if isinstance(clip, str | Path):
            origin, source = clip_origin(clip, **hub), str(clip)
            tokenizer = tokenizer or CLIPTokenizer.from_pretrained(clip, **hub)
            clip = load_clip(clip, dtype or "auto", **hub)
        if tokenizer is None:
            raise ValueError("from_clip_pretrained needs the tokenizer that belongs to the CLIPModel.")
        check_tokenizer(tokenizer, clip.config, source)
        attention = clip.config._attn_implementation
        config = {**origin, "prompt_token_ids": frame_token_ids(tokenizer), "attn_implementation": attention, **config}
        model = cls(cls.config_class(clip_config=clip.config, **config), clip.to(dtype or clip.dtype))
        model.set_object_name(model.config.object_name, tokenizer)
        model._remember_fresh_adapters()
        return model.eval()

    @classmethod
    def _from_config(cls, config, **kwargs):
        """A model of random weights, as `AutoModel.from_config` makes it; its adapters score once they are trained."""
        model = super()._from_config(deepcopy(config), **kwargs)  # whose dtype would be changed
        if model.device.type != "meta":
            model._remember_fresh_adapters()
        return model

    def _remember_fresh_adapters(self):
        self.config.fresh_adapters = {
            name: [weights_digest(adapter), weights_digest(deepcopy(adapter).half())]
            for name, adapter in self.adapters().items()
        }

    @classmethod
    def from_released(cls, source: str | Path | None = None, **options) -> Self:
        """A checkpoint as the authors released it, converted once and kept.

        Args:
            source: Hub id of the repository (the authors' own by default), or a local folder or file.
            options: of the package's `load_released`, such as `trained_on="mvtec"` and `clip`.

        Raises:
            FileNotFoundError: no such source, checkpoint or CLIP.
            ImportError: only the model's own code is here, without the package.
            ValueError: the choice is not clear (the message lists what was found), or the conversion fails.
        """
        return hook("load_released", "from_released")(cls, source, **options)

    def push_to_hub(self, repo_id: str, **options) -> str:
        """Pushes model, processor and card to the Hub, in one commit.

        Args:
            repo_id: `OWNER/NAME`; made if it is not there.
            options: those of [`~PreTrainedModel.push_to_hub`] (`commit_message`, `commit_description`, `private`,
                `token`, `revision`, `create_pr`, `max_shard_size`, `tags`), and of the package's `publish`:
                `processor`, `flavour`, `results`, ...

        Returns:
            `CommitInfo`: a `str`, the commit's URL.

        Raises:
            ImportError: only the model's own code is here, without the package.
        """
        return hook("publish", "push_to_hub")(self, repo_id, **options)

    def save_pretrained(self, save_directory, **kwargs):
        """Saves a complete model, as [`~PreTrainedModel.save_pretrained`] does.

        The model's code is saved too, and named in the config, only where the model itself was loaded by remote code;
        the pipeline's is named where it lies in the folder, as [`~AnomalyDetectionPipeline.save_pretrained`] puts it.

        Raises:
            ValueError: the model was loaded without its text tower, or holds quantised weights of several tensors.
        """
        if self.clip.text_model is None:
            raise ValueError("This model was loaded without its text tower: load it whole to save it.")
        if any(map(is_traceable_wrapper_subclass, self.parameters())):
            raise ValueError(
                "This model holds weights that were quantised in memory (as by torchao), which its file cannot hold: "
                "save it as it was before, and quantise it when it is loaded."
            )
        if self._auto_class is None:
            for name in ("auto_map", "custom_pipelines"):
                self.config.__dict__.pop(name, None)
        untrained = self.untrained_adapters()
        known = self.config.fresh_adapters or {}
        self.config.fresh_adapters = {name: known[name] for name in sorted(untrained)} or None
        self._encode_learned_prompts(kwargs.get("state_dict"))
        folder, writes = Path(save_directory), kwargs.get("is_main_process", True)
        older = written_at(folder)
        if writes:  # a stop in between leaves no sums rather than old ones
            (folder / CHECKSUMS_FILE).unlink(missing_ok=True)
        pipelines = vars(self.config).pop("custom_pipelines", None)
        if pipelines and (folder / PIPELINE_CODE).is_file():
            self.config.custom_pipelines = pipelines
        try:
            super().save_pretrained(save_directory, **kwargs)
        finally:
            if pipelines:
                self.config.custom_pipelines = pipelines
        if writes:
            remove_older(folder, older)
            write_weights_checksums(folder)

    def _upload_modified_files(self, working_dir, *args, **kwargs):
        """What save_pretrained(push_to_hub=True) uploads, with the sums of what was written."""
        write_weights_checksums(Path(working_dir))
        return super()._upload_modified_files(working_dir, *args, **kwargs)

    @torch.no_grad()
    def _encode_learned_prompts(self, state_dict: dict | None):
        """Encodes the learned prompts, with whose embeddings the model is saved."""
        if self.textual_adapter is not None and self.static_text_embeds.isfinite().all():
            self.learned_text_embeds = self.textual_adapter(self.clip).to(self.static_text_embeds)
            self._keep_learned_text()
            if state_dict is not None:
                state_dict[LEARNED_TEXT] = self.learned_text_embeds

    def _keep_learned_text(self):
        """Scores with `learned_text_embeds` as long as the weights that they were computed from stay the same."""
        if self.textual_adapter is not None and is_encoded(self.learned_text_embeds):
            self._memo.keep(LEARNED_TEXT, self.text_key(), self.learned_text_embeds)

    def stored_weights(self) -> dict[str, torch.Tensor]:
        """All weights and buffers by their names, but for text embeddings that are not known yet, all of them NaN."""
        stored = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        return {name: each for name, each in stored.items() if name not in TEXT_EMBEDS or not bool(each.isnan().all())}

    def freeze_clip(self):
        """Freezes CLIP, as it is in a new or loaded model."""
        self.clip.requires_grad_(False).eval()

    def train(self, mode: bool = True):
        """Sets the mode of CLIP and the adapters; what is frozen as a whole stays in eval mode."""
        super().train(mode)
        for part in (self.clip, *self.adapters().values()):
            parameters = list(part.parameters())
            if parameters and not any(each.requires_grad for each in parameters):
                part.eval()
        for module in self.clip.modules():
            if isinstance(module, GradientCheckpointingLayer) and module.gradient_checkpointing:
                module.training = mode  # of the layer itself, which checkpoints its activations in training only
        return self

    def _set_gradient_checkpointing(self, *args, **kwargs):
        super()._set_gradient_checkpointing(*args, **kwargs)
        self.train(self.training)

    def get_input_embeddings(self) -> nn.Module:
        """The layer that pixel values enter."""
        return self.clip.vision_model.embeddings.patch_embedding

    def trains_encoder(self) -> bool:
        """Whether the image encoder is not frozen: some of its weights, or weights added to it, require a gradient."""
        parts = (self.clip.vision_model, self.clip.visual_projection)
        return any(each.requires_grad for part in parts for each in part.parameters())

    def adapters(self) -> dict[str, nn.Module]:
        """The adapters that are switched on, by the names of the config's fields."""
        return {name: adapter for name in ADAPTERS if (adapter := getattr(self, name)) is not None}

    @torch.compiler.disable  # a graph would keep the answer of the moment when it was traced
    def untrained_adapters(self) -> frozenset[str]:
        """Names of the adapters whose weights are still the random ones of [`~AdaptCLIPModel.from_clip_pretrained`].

        A model in eval mode scores without them. Only the weights decide, so any training loop counts.
        """
        fresh = self.config.fresh_adapters or {}
        return frozenset(
            name for name, each in self.adapters().items() if name in fresh and self._digest(name, each) in fresh[name]
        )

    def fingerprint(self, sampled: bool = False) -> dict[str, str]:
        """What a prompt bank depends on: the settings and a digest of the frozen image encoder.

        Args:
            sampled: look for changed weights in one row of 16, as every forward with a bank does, not in all rows; on a
                GPU, which would wait for that, only whether torch has counted a change.
        """
        config = self.config
        return {
            "weights": self._digest("encoder", self.clip.vision_model, self.clip.visual_projection, sampled=sampled),
            "hidden_act": config.clip_config.vision_config.hidden_act,
            "image_size": str(config.image_size),
            "feature_layers": str(config.feature_layers),
            "num_dual_path_layers": str(config.num_dual_path_layers),
        }

    def weights_digest(self) -> str:
        """Of all weights that images are scored with, to tell models apart.

        Adapters that were never trained are not part of it, because no score depends on them. The text tower is not
        either: the static text embeddings stand for it.
        """
        encoder = (self.clip.vision_model, self.clip.visual_projection)
        untrained = self.untrained_adapters()
        adapters = [each for name, each in self.adapters().items() if name not in untrained]
        return self._digest("model", *encoder, *adapters, self.static_text_embeds)

    def clip_digest(self) -> str:
        """Of the CLIP to which adapters belong: all of it, or what is frozen of it where some is trained with them."""
        trained = {name for name, each in self.clip.named_parameters() if each.requires_grad}
        if not trained:
            return self._digest("clip", self.clip)
        frozen = {name: each for name, each in self.clip.state_dict().items() if name not in trained}
        return self._digest("frozen clip", frozen) if frozen else weights_digest(frozen)

    def text_key(self) -> tuple[int, ...]:
        """Changes whenever the weights change that text embeddings are computed from."""
        parts = (self.clip.text_model, self.clip.text_projection, self.textual_adapter)
        return contents_key(*(part for part in parts if part is not None))

    def _digest(self, name: str, *parts: Part, sampled: bool = False) -> str:
        """[`weights_digest`] of the parts, computed again only when their weights have changed."""

        def read() -> str:
            key = contents_key(*parts, every=SAMPLED_EVERY if sampled else 1)
            return self._memo.value((name, sampled), key, lambda: weights_digest(*parts))

        versions = versions_key(*parts) if sampled and not self._reads_at_once() else None
        return read() if versions is None else self._memo.value((name, "versions"), versions, read)

    def _reads_at_once(self) -> bool:
        """Whether values of weights can be looked at without waiting for a device."""
        return self.device.type == "cpu"


def bytes_of_weights(files: list[Path], dtype) -> int:
    """What the weights of some files take in memory, in another dtype or, with "auto", in their own."""
    if dtype in (None, "auto"):
        return sum(file.stat().st_size for file in files)
    itemsize = (getattr(torch, dtype) if isinstance(dtype, str) else dtype).itemsize
    return sum(math.prod(shape) for shape in shapes_of(files).values()) * itemsize


def written_at(folder: Path) -> dict[str, int]:
    """When the one file of all weights, or the index of their shards, was written."""
    files = [folder / name for name in (WEIGHTS_FILE, SAFE_WEIGHTS_INDEX_NAME)]
    return {file.name: file.stat().st_mtime_ns for file in files if file.is_file()}


def remove_older(folder: Path, older: dict[str, int]):
    """Removes the file of all weights, or the index, of an earlier save: of both in a folder the file would be loaded.

    Args:
        older: of [`written_at`], before the last save.
    """
    now = written_at(folder)
    if len(now) > 1:
        for name in (name for name, when in now.items() if older.get(name) == when):
            (folder / name).unlink()


def initialized(clip: CLIPModel) -> CLIPModel:
    """Marks a CLIP's weights, so that transformers does not initialise them."""
    for module in clip.modules():
        module._is_hf_initialized = True
    return clip


def load_clip(clip: str | Path, dtype: torch.dtype | str, config: CLIPConfig | None = None, **options) -> CLIPModel:
    """A plain CLIP of a folder or repository, whose files choose nothing that is code.

    Args:
        config: in place of the folder's own.
        options: of [`~CLIPModel.from_pretrained`].

    Raises:
        OSError: there is none.
        ValueError: names the file, and the field or the weight that is wrong.
    """
    where = config_file(clip)
    hub = {key: options[key] for key in HUB_ARGUMENTS if key in options}
    try:
        if config is None:
            content = AdaptCLIPConfig.get_config_dict(clip, **hub)[0]
            config = CLIPConfig(**chosen_clip(content, where))
            check_clip(config)
        require_clip_fit(config, clip_shapes(clip, **hub), where)
        model, info = CLIPModel.from_pretrained(clip, config=config, dtype=dtype, output_loading_info=True, **options)
    except StrictDataclassError as error:
        raise ValueError(f"{where}: {' '.join(str(error.__cause__ or error).split())}") from error
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"The weights of {clip} cannot be read, or do not fit {where}: {reason}") from error
    if missing := sorted(info["missing_keys"]):
        raise ValueError(f"{clip} is not a complete CLIP: {len(missing)} tensors are missing, such as {missing[0]}.")
    require_finite(dict(model.named_parameters()), clip)
    return model


def clip_origin(clip: str | Path, **hub) -> dict[str, str]:
    """Hub id and commit of a CLIP, as fields of the config; nothing for a local folder."""
    if Path(clip).exists():
        return {}
    commit = extract_commit_hash(cached_file(str(clip), CONFIG_NAME, **hub), None)
    return {"clip_name": str(clip), "clip_revision": commit}


__all__ = ["AdaptCLIPPreTrainedModel"]
