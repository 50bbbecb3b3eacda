"""AdaptCLIP: three small adapters on a frozen CLIP that find anomalies in objects never seen."""

import re
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoTokenizer, CLIPModel, PreTrainedModel
from transformers import initialization as init
from transformers.utils import CONFIG_NAME, ModelOutput, cached_file, logging
from transformers.utils.hub import extract_commit_hash

from .adapters_file import ADAPTERS_FILE, load_adapters
from .alignment import Pool, cosine_distance, nearest_tokens
from .checks import (
    LEARNED_TEXT,
    TEXT_TOWER,
    can_look_at,
    check_finite,
    check_labels,
    check_pixel_values,
    on_one_device,
    require_all_weights,
    sound_images,
)
from .configuration_adaptclip import TEXT_FIELDS, AdaptCLIPConfig
from .fingerprint import contents_key, weights_digest
from .fusion import fuse
from .hooks import hook
from .loss import adapter_loss
from .precision import align_weights
from .prompt_bank import PromptBank, is_bank
from .prompt_query_adapter import PromptQueryPrediction, unit_patch_tokens
from .text_encoder import TextEmbeds, check_tokenizer, encode_sentences, frame_token_ids, unit
from .textual_adapter import TextualAdapter
from .variants import build_adapter
from .vision_encoder import ImageFeatures, encode_image
from .weights_file import WEIGHTS_FILE, read_weights

logger = logging.get_logger(__name__)

PROMPTS_AT_ONCE = 8
GLANCED_ROWS = 16  # of which one is looked at
# the adapters that a prediction is made with
ADAPTERS_OF = {
    "visual": {"visual_adapter"},
    "textual": {"textual_adapter"},
    "joint": {"visual_adapter", "textual_adapter"},
    "prompt_query": {"prompt_query_adapter"},
}
HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token")
# of transformers' own loading, without a meaning for adapters alone
LOADER_OPTIONS = ("adapter_kwargs", "code_revision", "trust_remote_code", "use_safetensors", "weights_only")


@dataclass
class AdaptCLIPOutput(ModelOutput):
    """
    Output of [`AdaptCLIPModel`]; all in float32.

    Args:
        loss (`torch.FloatTensor` of shape `()`, *optional*, with `labels` or `mask_labels`): the sum over the adapters.
        anomaly_scores (`torch.FloatTensor` of shape `(B,)`): in [0, 1].
        anomaly_maps (`torch.FloatTensor` of shape `(B, S, S)`): in [0, 1].
        losses (`dict[str, torch.FloatTensor]`, *optional*): the loss of each adapter by its name.
        details (`dict`, *optional*, with `output_details=True`): every intermediate result by its name: `image_embeds`
            (B, d), `patch_embeds` (for each layer (B, 1 + L, d)), `text_embeds` and `learned_text_embeds` (2, d, unit
            length), `alignment_maps` (n, B, S, S), and for each adapter its `*_logits` (B, 2) and `*_maps` (B, S, S),
            those of the prompt-query adapter a list over the layers.
    """

    loss: torch.FloatTensor | None = None
    anomaly_scores: torch.FloatTensor | None = None
    anomaly_maps: torch.FloatTensor | None = None
    losses: dict[str, torch.FloatTensor] | None = None
    details: dict | None = None


@dataclass
class AdapterPrediction:
    """What one adapter says: image logits (B, 2) and two-class probabilities (B, 2, h, w), not yet resized."""

    logits: torch.Tensor
    probabilities: torch.Tensor


class AdaptCLIPPreTrainedModel(PreTrainedModel):
    config: AdaptCLIPConfig
    config_class = AdaptCLIPConfig
    base_model_prefix = "clip"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False
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
        elif isinstance(module, AdaptCLIPModel):
            init.constant_(module.static_text_embeds, float("nan"))
            if module.textual_adapter is not None:
                init.constant_(module.learned_text_embeds, float("nan"))
        else:
            super()._init_weights(module)


class AdaptCLIPModel(AdaptCLIPPreTrainedModel):
    """
    AdaptCLIP (Gao et al., AAAI 2026): scores how anomalous an image and each of its pixels are, from no example or
    from some normal images, without training on the object at hand.

    Example:

    ```python
    >>> import torch
    >>> from adaptclip_hf import DEFAULT_MODEL, AdaptCLIPModel

    >>> model = AdaptCLIPModel.from_pretrained(DEFAULT_MODEL)
    >>> size = model.config.image_size
    >>> normal = model.encode_prompts(torch.randn(4, 3, size, size))
    >>> output = model(torch.randn(2, 3, size, size), prompt_bank=normal)
    >>> output.anomaly_scores.shape, output.anomaly_maps.shape == (2, size, size)
    (torch.Size([2]), True)
    ```
    """

    def __init__(self, config: AdaptCLIPConfig, clip: CLIPModel | None = None, text_tower: bool = True):
        """
        Args:
            config: of the model.
            clip: the frozen CLIP that `config.clip_config` describes; one of random weights is built without.
            text_tower: whether it has CLIP's text tower, which no image is scored with.
        """
        super().__init__(config)
        config.adapters_only = False  # of a folder: here they are put to their CLIP
        self.clip = CLIPModel._from_config(config.clip_config) if clip is None else initialized(clip)
        if clip is not None and clip.config._attn_implementation is None:  # a config put into another one loses it
            clip.set_attn_implementation(self.config._attn_implementation)
        for part in (config.clip_config, config.clip_config.text_config, config.clip_config.vision_config):
            # loading fills these in: a model saved fresh and one saved after loading have the same config
            part.dtype = part.dtype or self.clip.dtype
        if not text_tower:
            self.clip.text_model = self.clip.text_projection = None
            self._keys_to_ignore_on_load_unexpected = [*TEXT_TOWER]
        self.visual_adapter = build_adapter("visual_adapter", config)
        self.textual_adapter = build_adapter("textual_adapter", config)
        self.prompt_query_adapter = build_adapter("prompt_query_adapter", config)
        unknown = torch.full((2, config.clip_config.projection_dim), float("nan"))
        self.register_buffer("static_text_embeds", unknown)
        if config.textual_adapter:  # those of the learned prompts, as they were when the model was saved
            self.register_buffer("learned_text_embeds", unknown.clone())
        self._learned_key: tuple[int, ...] | None = None  # of what they were made of
        self._loaded_from: tuple[str | Path, dict] | None = None
        self._encoded_name = config.object_name
        self._digests: dict[tuple[str, bool], tuple] = {}
        self.post_init()
        self.to(self.clip.dtype)
        self.freeze_clip()

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path,
        *args,
        output_loading_info: bool = False,
        text_tower: bool = True,
        **kwargs,
    ):
        """Loads a model, as [`~PreTrainedModel.from_pretrained`] does; adapters alone get the CLIP that they name.

        Fields of the config may be given too: adapters may be switched off, and the static prompts are encoded anew for
        another `object_name`.

        Args:
            text_tower: without it less is loaded (of ViT-L/14 123 of 428 million parameters), and what a score needs of
                it comes from the file. Asked for another object name, it is loaded for as long as that takes. Such a
                model cannot be trained or saved. Where the file lacks its text embeddings, it is loaded all the same.

        Raises:
            OSError: there is no such model, its weights cannot be read, or the CLIP that adapters alone belong to is
                not at hand.
            TypeError: an argument that there is not.
            ValueError: weights are missing, so that nothing ever runs on a part initialised at random, or do not
                belong to the model; the CLIP is not the one that adapters alone belong to; a `device_map` that leaves
                parts on a disk or on several devices.
        """
        if "device_map" in kwargs:
            kwargs["device_map"] = on_one_device(kwargs["device_map"])
        name, config = pretrained_model_name_or_path, kwargs.get("config") or pretrained_model_name_or_path
        hub = {key: kwargs[key] for key in HUB_ARGUMENTS if key in kwargs}
        if isinstance(config, str | Path):
            adapters_only = cls.config_class.get_config_dict(config, **hub)[0].get("adapters_only")
        else:
            adapters_only = config.adapters_only
        if adapters_only:
            model = cls._from_adapters(name, **kwargs)
            info = {"missing_keys": set(), "unexpected_keys": set()}
        elif not text_tower and (file := weights_file(name, **hub)):
            model, info = cls._without_text_tower(name, file, **kwargs)
        else:
            model, info = super().from_pretrained(name, *args, output_loading_info=True, **kwargs)
        require_all_weights(model, info, name)
        stored = cls.config_class.get_config_dict(name, **hub)[0]
        other_prompts = any(
            stored.get(field, getattr(model.config, field)) != getattr(model.config, field) for field in TEXT_FIELDS
        )
        if model.clip.text_model is None and (other_prompts or LEARNED_TEXT in info["missing_keys"]):
            return cls.from_pretrained(name, *args, output_loading_info=output_loading_info, **kwargs)
        model.freeze_clip()
        align_weights(model)
        if model.textual_adapter is not None and model.learned_text_embeds.isfinite().all():
            model._learned_key = model.text_key()
        model._loaded_from = (name, {**kwargs, "dtype": model.dtype})
        if other_prompts:
            model._encode_other_prompts(name, **hub)
        return (model, info) if output_loading_info else model

    @classmethod
    def _without_text_tower(cls, name, file: str, config=None, dtype="auto", **kwargs):
        """A model and what its loading says, with what scores images alone in memory, once."""
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
    def _from_adapters(cls, name, config=None, dtype="auto", attn_implementation=None, device_map=None, **kwargs):
        """The adapters of a folder or repository on the CLIP that its config names."""
        hub = {key: kwargs.pop(key) for key in HUB_ARGUMENTS if key in kwargs}
        if device_map is not None:
            raise ValueError(f"{name} holds adapters alone, which take no device_map: load the model, then move it.")
        if config is None or isinstance(config, str | Path):
            config = cls.config_class.from_pretrained(config or name, **hub)
        config = deepcopy(config)
        fields = {key: value for key, value in kwargs.items() if key not in LOADER_OPTIONS and key[0] != "_"}
        if unknown := [key for key in fields if not hasattr(config, key)]:
            raise TypeError(f"from_pretrained takes no {', '.join(unknown)}, and AdaptCLIPConfig has no such field.")
        config.update(fields)
        place = {key: value for key, value in hub.items() if key not in ("revision", "subfolder")}
        place["revision"] = config.clip_revision or "main"
        named = config.clip_name + (f" (revision {config.clip_revision})" if config.clip_revision else "")
        try:
            cached_file(config.clip_name, CONFIG_NAME, **place)  # fails at once where the weights' search takes minutes
            clip = CLIPModel.from_pretrained(
                config.clip_name, config=config.clip_config, attn_implementation=attn_implementation, **place
            )
        except OSError as error:
            raise OSError(
                f"{name} holds adapters alone. The CLIP that they belong to, {named}, is not at hand: {error}"
            ) from error
        if dtype == "auto":
            dtype = config.dtype or clip.dtype
        model = cls(config, clip)
        load_adapters(model, Path(cached_file(name, ADAPTERS_FILE, **hub)).parent)
        config.name_or_path = str(name)
        return model.to(getattr(torch, dtype) if isinstance(dtype, str) else dtype).eval()

    @classmethod
    def from_clip_pretrained(cls, clip, tokenizer=None, dtype: torch.dtype | None = None, **config) -> "AdaptCLIPModel":
        """Fresh adapters on a pretrained CLIP.

        They are there to be trained. Until they are, images are scored without them: by CLIP's static prompts, and
        beside normal images by alignment alone (see [`~AdaptCLIPModel.untrained_adapters`]).

        Args:
            clip: an HF CLIP's folder or Hub id, or a `CLIPModel`.
            tokenizer: its tokenizer; needed with a `CLIPModel`, otherwise loaded from beside the CLIP.
            dtype: of the weights; the CLIP's own by default.
            config: fields of [`AdaptCLIPConfig`], and the usual arguments of a download (`revision`, `token`, ...).

        Raises:
            ValueError: for a configuration or tokenizer that does not fit the CLIP.
        """
        hub = {name: config.pop(name) for name in HUB_ARGUMENTS if name in config}
        origin, source = {}, "hand"
        if isinstance(clip, str | Path):
            origin, source = clip_origin(clip, **hub), str(clip)
            tokenizer = tokenizer or AutoTokenizer.from_pretrained(clip, **hub)
            clip = CLIPModel.from_pretrained(clip, dtype=dtype or "auto", **hub)
        if tokenizer is None:
            raise ValueError("from_clip_pretrained needs the tokenizer that belongs to the CLIPModel.")
        check_tokenizer(tokenizer, clip.config, source)
        attention = clip.config._attn_implementation
        config = {**origin, "prompt_token_ids": frame_token_ids(tokenizer), "attn_implementation": attention, **config}
        model = cls(cls.config_class(clip_config=clip.config, **config), clip.to(dtype or clip.dtype))
        model.set_object_name(model.config.object_name, tokenizer)
        model.config.fresh_adapters = {
            name: [weights_digest(adapter), weights_digest(deepcopy(adapter).half())]
            for name, adapter in model.adapters().items()
        }
        return model.eval()

    @classmethod
    def from_released(cls, source: str | Path | None = None, **options) -> "AdaptCLIPModel":
        """A checkpoint as the authors released it, converted once and kept.

        Args:
            source: Hub id of the repository (the authors' own by default), or a local folder or file.
            options: of [`adaptclip_hf.hub.released.load_released`], such as `trained_on="mvtec"` and `clip`.

        Raises:
            FileNotFoundError: no such source, checkpoint or CLIP.
            ValueError: the choice is not clear, with what was found; or as [`adaptclip_hf.conversion.convert`].
        """
        return hook("load_released", "from_released")(cls, source, **options)

    def push_to_hub(self, repo_id: str, **options) -> str:
        """Pushes model, processor and card to the Hub, in one commit: it loads in one line elsewhere.

        Args:
            repo_id: `OWNER/NAME`; made if it is not there.
            options: of [`adaptclip_hf.hub.publishing.publish`]: `processor`, `flavour`, `results`, `private`,
                `revision`, `token`, ...

        Returns:
            `str`: the commit's URL.
        """
        return hook("publish", "push_to_hub")(self, repo_id, **options)

    def save_pretrained(self, save_directory, **kwargs):
        """Saves a complete model, as [`~PreTrainedModel.save_pretrained`] does.

        Where the class came from an installed package, no code goes along, and none is named that was loaded from.
        """
        if self.clip.text_model is None:
            raise ValueError("This model was loaded without its text tower: load it whole to save it.")
        if self._auto_class is None:
            for name in ("auto_map", "custom_pipelines"):
                self.config.__dict__.pop(name, None)
        untrained = self.untrained_adapters()
        known = self.config.fresh_adapters or {}
        self.config.fresh_adapters = {name: known[name] for name in sorted(untrained)} or None
        self._store_learned_text(kwargs.get("state_dict"))
        super().save_pretrained(save_directory, **kwargs)

    def adapters(self) -> dict[str, nn.Module]:
        """The adapters that there are, by the names of the config's fields."""
        names = ("visual_adapter", "textual_adapter", "prompt_query_adapter")
        return {name: adapter for name in names if (adapter := getattr(self, name)) is not None}

    @torch.compiler.disable  # a graph would keep what it was when it was traced
    def untrained_adapters(self) -> frozenset[str]:
        """Names of the adapters that are still as [`~AdaptCLIPModel.from_clip_pretrained`] made them.

        A model in eval mode scores without them. It is their weights that tell, whoever trained them.
        """
        fresh = self.config.fresh_adapters or {}
        return frozenset(
            name for name, each in self.adapters().items() if name in fresh and self._digest(name, each) in fresh[name]
        )

    def freeze_clip(self):
        """CLIP is a service: never trained, always in eval mode."""
        self.clip.requires_grad_(False).eval()

    def train(self, mode: bool = True):
        """Sets the adapters' mode; CLIP stays in eval mode."""
        super().train(mode)
        self.clip.eval()
        return self

    def set_object_name(self, object_name: str, tokenizer):
        """Makes another word for the object the model's own, with which it is saved ("object" by default).

        To score with other words without a change of the model see [`~AdaptCLIPModel.encode_text`].

        Args:
            object_name: one or several words, such as "bottle" or "metal nut".
            tokenizer: the one that belongs to the CLIP (`processor.tokenizer`).

        Raises:
            ValueError: for another CLIP's tokenizer, or a name too long for the text tower.
        """
        self.static_text_embeds = self._encode_static_prompts(object_name, tokenizer)
        self.config.object_name = self._encoded_name = object_name

    def encode_text(self, object_name: str | None = None, tokenizer=None) -> TextEmbeds:
        """Text embeddings to score with: a value, made once and used any number of times.

        Args:
            object_name: the word for the object in the static prompts; the model's own by default.
            tokenizer: the one that belongs to the CLIP; needed for another name than the model's own.

        Raises:
            ValueError: another name without tokenizer or too long for the text tower, another CLIP's tokenizer, or
                static prompts that were never encoded.
        """
        if self.config.object_name != self._encoded_name:
            raise ValueError(
                f"config.object_name was set to {self.config.object_name!r}, and the model knows the prompts of "
                f"{self._encoded_name!r}: call set_object_name(name, tokenizer)."
            )
        static = self.static_text_embeds
        if object_name not in (None, self.config.object_name):
            if tokenizer is None:
                raise ValueError(f"The object name {object_name!r} needs the CLIP's tokenizer (processor.tokenizer).")
            if self.clip.text_model is None:
                return self._whole().encode_text(object_name, tokenizer)
            static = self._encode_static_prompts(object_name, tokenizer)
        elif can_look_at(static) and not static.isfinite().all():
            raise ValueError("The static prompts are not encoded yet: call set_object_name(name, tokenizer).")
        return TextEmbeds(static=unit(static), learned=self._learned_text())

    def _learned_text(self) -> torch.Tensor | None:
        """(2, d) of the learned prompts: those of the file, as long as they are the file's."""
        if self.textual_adapter is None:
            return None
        stored = self._learned_key is not None and not torch.compiler.is_compiling() and not torch.is_grad_enabled()
        if self.clip.text_model is None or (stored and self._learned_key == self.text_key()):
            return unit(self.learned_text_embeds)
        return unit(self.textual_adapter(self.clip))

    @torch.no_grad()
    def _store_learned_text(self, state_dict: dict | None = None):
        """Keeps the embeddings of the learned prompts, with which the model is saved."""
        if self.textual_adapter is not None and self.static_text_embeds.isfinite().all():
            self.learned_text_embeds = self.textual_adapter(self.clip).to(self.static_text_embeds)
            self._learned_key = self.text_key()
            if state_dict is not None:
                state_dict[LEARNED_TEXT] = self.learned_text_embeds

    def _whole(self) -> "AdaptCLIPModel":
        """This model with its text tower, from where it was loaded.

        Raises:
            OSError, ValueError: it is no longer there, or another one is.
        """
        name, options = self._loaded_from
        whole = type(self).from_pretrained(name, **options).to(self.device)
        if whole.weights_digest() != self.weights_digest():
            raise ValueError(f"{name} is no longer the model that was loaded from there: load it anew.")
        return whole

    def text_key(self) -> tuple[int, ...]:
        """Changes with what text embeddings depend on."""
        parts = (self.clip.text_model, self.clip.text_projection, self.textual_adapter)
        return contents_key(*(part for part in parts if part is not None))

    def _encode_static_prompts(self, object_name: str, tokenizer) -> torch.Tensor:
        """(2, d), not normalised."""
        check_tokenizer(tokenizer, self.config.clip_config, getattr(tokenizer, "name_or_path", "hand"))
        if (frame := frame_token_ids(tokenizer)) != self.config.prompt_token_ids:
            raise ValueError(f"This tokenizer frames '.' as {frame}, the model's as {self.config.prompt_token_ids}.")
        prompts = self.config.text_prompts(object_name)
        return torch.stack([encode_sentences(self.clip, tokenizer, each) for each in prompts])

    def _encode_other_prompts(self, name: str | Path, **hub):
        """Encodes the static prompts of a config that differs from the stored one."""
        try:
            tokenizer = AutoTokenizer.from_pretrained(name, **hub)
            self.set_object_name(self.config.object_name, tokenizer)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"The prompts of object_name={self.config.object_name!r} cannot be encoded with what lies at {name}: "
                f"{error}"
            ) from error

    def image_features(self, pixel_values: torch.Tensor) -> ImageFeatures:
        """Image and patch embeddings of pixel values (B, 3, S, S).

        Raises:
            ValueError: for another shape.
        """
        check_pixel_values(pixel_values, self.config.image_size)
        with torch.no_grad():
            return encode_image(self.clip, pixel_values, self.config.feature_layers, self.config.num_dual_path_layers)

    def fingerprint(self, glance: bool = False) -> dict[str, str]:
        """What a prompt bank depends on: the settings and a digest of the frozen image encoder.

        Args:
            glance: see by one weight row in 16 whether the weights are still those of the digest, as every forward with
                a bank does; otherwise by all.
        """
        config = self.config
        return {
            "weights": self._digest("encoder", self.clip.vision_model, self.clip.visual_projection, glance=glance),
            "hidden_act": config.clip_config.vision_config.hidden_act,
            "image_size": str(config.image_size),
            "feature_layers": str(config.feature_layers),
            "num_dual_path_layers": str(config.num_dual_path_layers),
        }

    def weights_digest(self) -> str:
        """Of all weights that images are scored with, by which models are told apart; the text tower's speak through
        the static text embeddings."""
        encoder = (self.clip.vision_model, self.clip.visual_projection)
        untrained = self.untrained_adapters()  # made at random, and of no score
        adapters = [each for name, each in self.adapters().items() if name not in untrained]
        return self._digest("model", *encoder, *adapters, self.static_text_embeds)

    def clip_digest(self) -> str:
        """Of the whole CLIP, to which adapters belong."""
        return self._digest("clip", self.clip)

    def _digest(self, name: str, *parts: nn.Module | torch.Tensor, glance: bool = False) -> str:
        """[`weights_digest`] of the parts, computed anew when what they hold is not what it was computed of."""
        key = contents_key(*parts, every=GLANCED_ROWS if glance else 1)
        kept = self._digests.get((name, glance))
        if kept is None or kept[0] != key:
            self._digests[name, glance] = kept = (key, weights_digest(*parts))
        return kept[1]

    def encode_prompts(self, pixel_values: torch.Tensor, preprocessing: dict[str, str] | None = None) -> PromptBank:
        """Remembers normal images, to compare any number of queries with them.

        Args:
            pixel_values: (k, 3, S, S), k >= 1.
            preprocessing: how the pixel values were made (`processor.image_processor.fingerprint()`), kept in the bank.

        Returns:
            [`PromptBank`]: on the model's device, in its dtype.
        """
        return PromptBank(self._prompt_tokens(pixel_values), self.fingerprint(), preprocessing or {})

    def _prompt_tokens(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(N, 3, S, S) -> for each layer unit patch tokens (N, L, d), a few images at a time."""
        if not len(pixel_values):
            raise ValueError("At least one normal image is needed, got none.")
        parts = [
            [unit_patch_tokens(layer) for layer in self.image_features(part).patch_embeds]
            for part in pixel_values.split(PROMPTS_AT_ONCE)
        ]
        return tuple(torch.cat(layer) for layer in zip(*parts, strict=True))

    def _prompt_pools(
        self,
        batch_size: int,
        prompt_pixel_values: torch.Tensor | None,
        prompt_features: ImageFeatures | None,
        prompt_bank: PromptBank | Sequence[PromptBank] | None,
    ) -> Sequence[Pool] | None:
        """The normal tokens to compare with, for each layer; `None` for zero-shot."""
        given = [each for each in (prompt_pixel_values, prompt_features, prompt_bank) if each is not None]
        if not given:
            return None
        if len(given) > 1:
            raise ValueError("Give prompt_pixel_values, prompt_features or a prompt_bank, not both.")
        if prompt_bank is not None:
            return self._pools_of_banks(prompt_bank, batch_size)
        if prompt_features is not None:
            tokens = [unit_patch_tokens(layer) for layer in prompt_features.patch_embeds]
        else:
            size = self.config.image_size
            if prompt_pixel_values.ndim != 5 or prompt_pixel_values.shape[0] != batch_size:
                raise ValueError(
                    f"Expected prompt_pixel_values of shape ({batch_size}, k, 3, {size}, {size}), got "
                    f"{tuple(prompt_pixel_values.shape)}. Normal images for the whole batch go through encode_prompts."
                )
            tokens = self._prompt_tokens(prompt_pixel_values.flatten(0, 1))
        return tuple(layer.unflatten(0, (batch_size, -1)).flatten(1, 2) for layer in tokens)

    def _pools_of_banks(self, banks: PromptBank | Sequence[PromptBank], batch_size: int) -> Sequence[Pool]:
        """For each layer the pool of one bank, or those of a bank for each image."""
        one = is_bank(banks)
        distinct = [banks] if one else list({id(bank): bank for bank in banks}.values())
        if not torch.compiler.is_compiling():
            if not one and len(banks) != batch_size:
                raise ValueError(f"Expected a prompt bank for each of {batch_size} images, got {len(banks)}.")
            fingerprint = self.fingerprint(glance=True)
            for bank in distinct:
                bank.require_match(fingerprint)
        pools = {id(bank): bank.to(self.device, self.dtype).pools() for bank in distinct}
        if one:
            return pools[id(banks)]
        return [[pools[id(bank)][layer] for bank in banks] for layer in range(len(self.config.feature_layers))]

    def _left_out(self) -> frozenset[str]:
        """The untrained adapters; says so where there are any."""
        if not self.config.fresh_adapters:
            return frozenset()
        untrained = self.untrained_adapters()
        if untrained and not torch.compiler.is_compiling():
            logger.warning_once(
                f"Not trained yet, and so left out of the scores: {', '.join(sorted(untrained))}. CLIP's static "
                "prompts and alignment with the normal images score."
            )
        return untrained

    def _compare(
        self, features: ImageFeatures, pools: Sequence[Pool], with_adapter: bool
    ) -> tuple[list[PromptQueryPrediction], torch.Tensor]:
        """What the prompt-query adapter says of each layer, if there is one and it is asked, and the alignment maps
        (n, B, S, S): each patch's distance to its nearest normal one."""
        tokens, grid = [unit_patch_tokens(layer) for layer in features.patch_embeds], self.config.grid_size
        comparisons: list[PromptQueryPrediction] = []
        if with_adapter and self.prompt_query_adapter is not None:
            comparisons = self.prompt_query_adapter(tokens, pools)
            distances = [each.alignment for each in comparisons]
        else:
            pairs = zip(tokens, pools, strict=True)
            aligned = [cosine_distance(query, nearest_tokens(query, pool)) for query, pool in pairs]
            distances = [each.unflatten(1, (grid, grid)) for each in aligned]
        return comparisons, self._resize(torch.stack(distances, dim=1)).transpose(0, 1)

    def _similarity_prediction(
        self, image_embeds: torch.Tensor, patch_embeds: torch.Tensor, text_embeds: torch.Tensor
    ) -> AdapterPrediction:
        """Image and patch embeddings against two text embeddings (paper, equations 1 and 2)."""

        def logits(embeds):
            return unit(embeds) @ text_embeds.T / self.config.temperature

        grid = self.config.grid_size
        patches = logits(patch_embeds)[:, 1:].softmax(-1)
        return AdapterPrediction(logits(image_embeds), patches.transpose(1, 2).unflatten(2, (grid, grid)))

    def _resize(self, maps: torch.Tensor) -> torch.Tensor:
        """(B, C, h, w) -> (B, C, S, S)."""
        size = (self.config.image_size, self.config.image_size)
        return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)

    def _zero_shot_predictions(self, features: ImageFeatures, text: TextEmbeds) -> dict[str, AdapterPrediction]:
        """The adapters that need no normal image."""
        image_embeds, patch_embeds = features.image_embeds, features.patch_embeds[-1]
        if self.config.joint_learning:
            image, patches = self.visual_adapter(image_embeds, patch_embeds)
            return {"joint": self._similarity_prediction(image, patches, text.learned)}
        predictions = {}
        if self.visual_adapter is not None:
            image, patches = self.visual_adapter(image_embeds, patch_embeds)
            predictions["visual"] = self._similarity_prediction(image, patches, text.static)
        if self.textual_adapter is not None:
            predictions["textual"] = self._similarity_prediction(image_embeds, patch_embeds, text.learned)
        return predictions

    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        prompt_pixel_values: torch.Tensor | None = None,
        prompt_bank: PromptBank | Sequence[PromptBank] | None = None,
        labels: torch.Tensor | None = None,
        mask_labels: torch.Tensor | None = None,
        image_features: ImageFeatures | None = None,
        prompt_features: ImageFeatures | None = None,
        text_embeds: TextEmbeds | None = None,
        output_details: bool = False,
    ) -> AdaptCLIPOutput:
        """Scores a batch: zero-shot without normal images, few-shot with them.

        Without trained adapters it is CLIP that scores, by its static prompts, and few-shot by alignment alone beside
        them: each patch's distance to its nearest normal one.

        Exports and compiles without a break (`torch.export`, a bank's length and the batch dynamic); the checks of
        banks and values are not part of the graph.

        Args:
            pixel_values: (B, 3, S, S), from [`AdaptCLIPProcessor`].
            prompt_pixel_values: (B, k, 3, S, S), the k normal images of each query, or
            prompt_bank: one [`PromptBank`] for the whole batch, or a list of B, one for each image.
            labels: (B,), 0 normal or 1 anomalous, for the loss.
            mask_labels: (B, S, S), 0 or 1, for the loss; -100 throughout for an image whose mask is not known.
            image_features: of [`~AdaptCLIPModel.image_features`] in place of `pixel_values`: encode once, use often.
            prompt_features: likewise in place of `prompt_pixel_values`, those of B*k images in the queries' order.
            text_embeds: of [`~AdaptCLIPModel.encode_text`]; encoded anew, for the model's own object name, without.
            output_details: also return every intermediate result.

        Raises:
            ValueError: for wrong shapes, values that are not finite (on a CPU; elsewhere a look would stop the device,
                and the image's score and map are NaN), or the bank of another model.
        """
        if (pixel_values is None) == (image_features is None):
            raise ValueError("Give pixel_values or image_features, one of the two.")
        features = self.image_features(pixel_values) if image_features is None else image_features
        batch_size, sound = features.image_embeds.shape[0], sound_images(features)
        if not torch.compiler.is_compiling():
            check_finite(features, sound, pixel_values)
            check_labels(labels, mask_labels, batch_size, self.config.image_size)
        text = self.encode_text() if text_embeds is None else text_embeds
        pools = self._prompt_pools(batch_size, prompt_pixel_values, prompt_features, prompt_bank)
        # the loss is of all adapters, and reads both classes' maps; the scores the anomalous one's alone
        learning = labels is not None or mask_labels is not None
        classes = slice(None) if learning else slice(1, None)
        left_out = frozenset() if self.training else self._left_out()
        predictions = self._zero_shot_predictions(features, text)
        learned, scored = [*predictions], [name for name in predictions if not ADAPTERS_OF[name] & left_out]
        comparisons, alignment, compares = [], None, False
        if pools is not None:
            compares = self.prompt_query_adapter is not None and not ADAPTERS_OF["prompt_query"] & left_out
            comparisons, alignment = self._compare(features, pools, compares or learning)
        if not scored and not compares:
            embeds = (features.image_embeds, features.patch_embeds[-1])
            predictions["clip"] = self._similarity_prediction(*embeds, text.static)
            scored, learned = ["clip"], learned or ["clip"] * (not comparisons)
        predictions = {name: each for name, each in predictions.items() if learning or name in scored}
        maps = {name: self._resize(each.probabilities[:, classes]) for name, each in predictions.items()}
        compared_maps = [self._resize(each.probabilities[:, classes]) for each in comparisons]

        losses = None
        if learning:
            losses = {name: adapter_loss(predictions[name].logits, maps[name], labels, mask_labels) for name in learned}
            if comparisons:
                parts = zip(comparisons, compared_maps, strict=True)
                layers = [adapter_loss(each.logits, its_maps, labels, mask_labels) for each, its_maps in parts]
                losses["prompt_query"] = torch.stack(layers).sum()
        with torch.no_grad():
            anomalous = [maps[name][:, -1] for name in scored]
            scores = [predictions[name].logits.softmax(-1)[:, 1] for name in scored]
            if compares:
                anomalous.append(torch.stack([each[:, -1] for each in compared_maps]).mean(0))
                scores.append(torch.stack([each.logits.softmax(-1)[:, 1] for each in comparisons]).mean(0))
            elif alignment is not None and self.config.score_fusion == "mean":
                # the average of what prompts and normal images say, as the paper's AnomalyCLIP+
                anomalous.append(alignment.mean(0))
                scores.append(anomalous[-1].amax((1, 2)))
            anomaly_maps, anomaly_scores = fuse(
                anomalous,
                scores,
                alignment,
                self.config.score_fusion,
                self.config.smoothing_sigma,
                self.config.peak_share,
            )
            # fusion makes 0 of what is not finite, and an image that could not be encoded is no normal one
            sound = sound & text.static.isfinite().all()
            anomaly_scores = anomaly_scores.where(sound, torch.nan)
            anomaly_maps = anomaly_maps.where(sound[:, None, None], torch.nan)
        return AdaptCLIPOutput(
            loss=None if losses is None else torch.stack(list(losses.values())).sum(),
            anomaly_scores=anomaly_scores,
            anomaly_maps=anomaly_maps,
            losses=losses,
            details=self._details(features, text, predictions, comparisons, alignment) if output_details else None,
        )

    def _details(
        self,
        features: ImageFeatures,
        text: TextEmbeds,
        predictions: dict[str, AdapterPrediction],
        comparisons: Sequence[PromptQueryPrediction],
        alignment: torch.Tensor | None,
    ) -> dict:
        details = {
            "image_embeds": features.image_embeds,
            "patch_embeds": features.patch_embeds,
            "text_embeds": text.static,
            "learned_text_embeds": text.learned,
            "alignment_maps": alignment,
            "prompt_query_logits": [each.logits for each in comparisons],
            "prompt_query_maps": [self._resize(each.probabilities)[:, 1] for each in comparisons],
        }
        for name, each in predictions.items():
            details |= {f"{name}_logits": each.logits, f"{name}_maps": self._resize(each.probabilities)[:, 1]}
        return details


def initialized(clip: CLIPModel) -> CLIPModel:
    """A CLIP whose weights transformers leaves as they are."""
    for module in clip.modules():
        module._is_hf_initialized = True
    return clip


def weights_file(name: str | Path, **hub) -> str | None:
    """The one file of a model's weights, if it is not in shards."""
    return cached_file(name, WEIGHTS_FILE, _raise_exceptions_for_missing_entries=False, **hub)


def clip_origin(clip: str | Path, **hub) -> dict[str, str]:
    """Hub id and commit of a CLIP, as fields of the config; where a folder came from is not known."""
    if Path(clip).exists():
        return {}
    commit = extract_commit_hash(cached_file(str(clip), CONFIG_NAME, **hub), None)
    return {"clip_name": str(clip), "clip_revision": commit}


__all__ = ["AdaptCLIPModel", "AdaptCLIPOutput", "AdaptCLIPPreTrainedModel"]
