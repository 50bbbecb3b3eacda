"""AdaptCLIP model configuration."""

import math
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError
from transformers import CLIPConfig, PreTrainedConfig
from transformers.utils import CONFIG_NAME

from .config_file import check_clip, chosen_clip, chosen_fields

VIT_L_14_336 = {
    "projection_dim": 768,
    "text_config": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "projection_dim": 768},
    "vision_config": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "image_size": 336,
        "patch_size": 14,
        "projection_dim": 768,
    },
}

NORMAL_STATES = (
    "{}",
    "flawless {}",
    "perfect {}",
    "unblemished {}",
    "{} without flaw",
    "{} without defect",
    "{} without damage",
)
ANOMALOUS_STATES = ("damaged {}", "{} with flaw", "{} with defect", "{} with damage")

# "jpeg corrupted" is there twice, as in the reference ("Text"): it counts double in the mean of the embeddings.
PROMPT_TEMPLATES = (
    "a cropped photo of the {}.",
    "a close-up photo of a {}.",
    "a close-up photo of the {}.",
    "a bright photo of a {}.",
    "a bright photo of the {}.",
    "a dark photo of the {}.",
    "a dark photo of a {}.",
    "a jpeg corrupted photo of the {}.",
    "a jpeg corrupted photo of the {}.",
    "a blurry photo of the {}.",
    "a blurry photo of a {}.",
    "a photo of a {}.",
    "a photo of the {}.",
    "a photo of a small {}.",
    "a photo of the small {}.",
    "a photo of a large {}.",
    "a photo of the large {}.",
    "a photo of the {} for visual inspection.",
    "a photo of a {} for visual inspection.",
    "a photo of the {} for anomaly detection.",
    "a photo of a {} for anomaly detection.",
)

LABELS = {0: "normal", 1: "anomalous"}
SCORE_FUSIONS = ("harmonic", "mean")
LARGEST_IMAGE = 4096  # pixels of a side, of which 14 make a patch, and each patch attends to all
SMALLEST_TEMPERATURE = 1e-6
# the fields that the static text embeddings depend on
TEXT_FIELDS = ("object_name", "normal_states", "anomalous_states", "prompt_templates")


@strict
class AdaptCLIPConfig(PreTrainedConfig):
    r"""
    Configuration of an [`AdaptCLIPModel`]. The defaults are those of the released ViT-L/14@336 model; the fields whose
    default is `None` follow the depth and patch size of `clip_config`.

    Args:
        clip_config (`dict` or `CLIPConfig`, *optional*): the frozen CLIP; defaults to ViT-L/14@336.
        image_size (`int`, *optional*): side of the square input in pixels, a multiple of the patch size. Defaults to
            the multiple nearest to 518 (518 for patch 14, 512 for patches 16 and 32).
        feature_layers (`list[int]`, *optional*): 1-based encoder layers whose patch tokens are compared with the
            normal images. Defaults to the four quarters of the depth ([6, 12, 18, 24] of 24).
        num_dual_path_layers (`int`, *optional*): how many of the last layers run the value-value patch path beside the
            ordinary one. Defaults to 19 of 24, 9 of 12, and in that proportion elsewhere.
        prompt_length (`int`): learned tokens for each class (r in the paper).
        visual_adapter_reduction (`int`): the visual adapter's bottleneck is projection_dim / this.
        prompt_query_hidden_size (`int`): width h of the prompt-query adapter's heads.
        prompt_query_context (`bool`): whether the joint feature keeps the query token (paper, equation 6).
        temperature (`float`): tau, divides the cosine similarities.
        pooling_top_k (`int`): the image head averages this many largest values of a channel (10 in the released
            program; 1 is the maximum of the paper, equation 8).
        smoothing_sigma (`float`): sigma in pixels of the Gaussian filter over a fused map.
        peak_share (`float`): the share of a fused map's pixels, the largest ones, whose mean enters the score beside
            the image heads (0, the maximum, in the released program).
        score_fusion (`str`): `"harmonic"` (released) or `"mean"` (paper).
        normal_variation (`bool`): few-shot, correct the distances by how the normal images differ from one another
            (False in the released program).
        few_shot_adapters (`bool`): few-shot, the adapters score beside the distances (True in the released program);
            False: the distances score alone, and the adapters only without normal images.
        object_name (`str`): the word that the static prompts put in place of the object.
        visual_adapter, textual_adapter, prompt_query_adapter (`bool`): which adapters there are (paper, table 5).
            Without any, plain CLIP is scored (table 5, line 0), with normal images by alignment alone beside it.
        adapter_variants (`dict[str, str]`, *optional*): names of registered variants in place of published adapters,
            such as {"prompt_query_adapter": "signed-residual"} (see [`register_adapter`]).
        fresh_adapters (`dict[str, list[str]]`, *optional*): digests of the adapters' random initial weights. An adapter
            that still has them was never trained.
        joint_learning (`bool`): score adapted tokens against learned prompts (table 5, line 3).
        normal_states, anomalous_states, prompt_templates (`list[str]`): the static prompts, `{}` for the object.
        prompt_token_ids (`list[int]`): ids of start, full stop and end, the frame of the learned prompts.
        clip_name, clip_revision (`str`, *optional*): Hub id and commit of the CLIP, where it came from the Hub.
        adapters_only (`bool`): the folder holds the adapters alone; the CLIP of that name and revision is loaded with
            them.

    Raises:
        ValueError: for a combination that cannot work; the message says what would fit.
    """

    model_type = "adaptclip"
    sub_configs_defaults = {"clip_config": CLIPConfig}
    keys_to_ignore_at_inference = ["losses", "details", "hidden_states", "attentions"]

    if TYPE_CHECKING:  # what a config holds: __post_init__ has filled in the fields that were not given
        clip_config: CLIPConfig
        image_size: int
        feature_layers: list[int]
        num_dual_path_layers: int
    else:  # what may be given
        clip_config: dict | CLIPConfig | None = None
        image_size: int | None = None
        feature_layers: list[int] | None = None
        num_dual_path_layers: int | None = None
    prompt_length: int = 12
    visual_adapter_reduction: int = 4
    prompt_query_hidden_size: int = 128
    prompt_query_context: bool = True
    temperature: float = 0.07
    pooling_top_k: int = 10
    smoothing_sigma: float = 4.0
    peak_share: float = 0.0
    score_fusion: str = "harmonic"
    normal_variation: bool = False
    few_shot_adapters: bool = True
    object_name: str = "object"
    visual_adapter: bool = True
    textual_adapter: bool = True
    prompt_query_adapter: bool = True
    adapter_variants: dict[str, str] | None = None
    fresh_adapters: dict[str, list[str]] | None = None
    joint_learning: bool = False
    normal_states: list[str] = field(default_factory=lambda: list(NORMAL_STATES))
    anomalous_states: list[str] = field(default_factory=lambda: list(ANOMALOUS_STATES))
    prompt_templates: list[str] = field(default_factory=lambda: list(PROMPT_TEMPLATES))
    prompt_token_ids: list[int] = field(default_factory=lambda: [49406, 269, 49407])
    clip_name: str | None = None
    clip_revision: str | None = None
    adapters_only: bool = False

    def __post_init__(self, **kwargs):
        if self.clip_config is None:
            self.clip_config = CLIPConfig(**VIT_L_14_336)
        elif isinstance(self.clip_config, dict):
            self.clip_config = CLIPConfig(**self.clip_config)
        check_clip(self.clip_config)
        self.clip_config._name_or_path = ""  # it may be a folder of the machine that made the model; see clip_name
        vision = self.clip_config.vision_config
        depth, patch_size = vision.num_hidden_layers, vision.patch_size
        if self.image_size is None:
            self.image_size = round(518 / patch_size) * patch_size
        if self.feature_layers is None:
            self.feature_layers = sorted({max(1, round(depth * quarter / 4)) for quarter in (1, 2, 3, 4)})
        if self.num_dual_path_layers is None:
            self.num_dual_path_layers = depth - (5 * depth + 23) // 24
        if self.id2label is None and kwargs.get("num_labels", len(LABELS)) == len(LABELS):
            self.id2label = dict(LABELS)
            self.label2id = {name: number for number, name in LABELS.items()}
        super().__post_init__(**kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, **kwargs):
        """Reads the configuration of a folder or repository; its JSON may choose what [`chosen_fields`] lists.

        Raises:
            OSError: there is none.
            ValueError: names the file, the field that is wrong and what was expected.
        """
        named = "name_or_path" in kwargs
        kwargs.setdefault("name_or_path", str(pretrained_model_name_or_path))
        loaded = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        if not named:  # it was for the errors: a config has the name of its model once that is loaded
            (loaded[0] if isinstance(loaded, tuple) else loaded).name_or_path = ""
        return loaded

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path, **kwargs):
        """The content of the file and the arguments that were not used; see [`~PreTrainedConfig.get_config_dict`].

        Raises:
            ValueError: it is no JSON of names and values.
        """
        where = config_file(pretrained_model_name_or_path)
        try:
            content, unused = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        except RecursionError as error:
            raise ValueError(f"{where} is nested too deep: expected what save_pretrained wrote.") from error
        except (TypeError, AttributeError, KeyError) as error:
            raise ValueError(f"{where} is no configuration: expected what save_pretrained wrote.") from error
        if not isinstance(content, dict):
            raise ValueError(f"{where} is no configuration: expected what save_pretrained wrote.")
        return content, unused

    @classmethod
    def from_dict(cls, config_dict, **kwargs):
        """A configuration of what a file holds; `kwargs` are the caller's and may choose anything."""
        where = config_file(kwargs.get("name_or_path"))
        model_type = config_dict.get("model_type", cls.model_type)
        if model_type != cls.model_type:
            raise ValueError(
                f"{where}: model_type is {model_type!r}, not that of an AdaptCLIP model. To put fresh adapters on a "
                "CLIP use AdaptCLIPModel.from_clip_pretrained; to convert a released checkpoint, `adaptclip convert`."
            )
        try:
            chosen = chosen_fields(config_dict, cls, where)
            if chosen.get("clip_config") is not None:
                chosen["clip_config"] = chosen_clip(chosen["clip_config"], f"{where}: clip_config")
            return super().from_dict(chosen, **kwargs)
        except StrictDataclassError as error:
            raise ValueError(f"{where}: {' '.join(str(error.__cause__ or error).split())}") from error
        except (ValueError, TypeError, RecursionError) as error:
            message = " ".join(str(error).split())
            raise ValueError(message if message.startswith(where) else f"{where}: {message}") from error

    @property
    def grid_size(self) -> int:
        """Patches along one side of the input (g in the reference)."""
        return self.image_size // self.clip_config.vision_config.patch_size

    def get_text_config(self, decoder=None, encoder=None):
        """That of the CLIP's text tower, where transformers looks for the size of the vocabulary."""
        return self.clip_config.get_text_config(decoder, encoder)

    def text_prompts(self, object_name: str | None = None) -> tuple[list[str], list[str]]:
        """The static prompts of the normal and of the anomalous class (147 and 84 sentences by default)."""
        object_name = self.object_name if object_name is None else object_name

        def sentences(states):
            return [
                template.format(state.format(object_name)) for state in states for template in self.prompt_templates
            ]

        return sentences(self.normal_states), sentences(self.anomalous_states)

    def validate_backbone(self):
        """Part of `@strict`-powered validation: the sizes against the CLIP they are used with."""
        vision = self.clip_config.vision_config
        depth, patch_size = vision.num_hidden_layers, vision.patch_size
        if not 1 <= self.image_size <= LARGEST_IMAGE:
            raise ValueError(f"image_size {self.image_size} must lie in 1..{LARGEST_IMAGE}.")
        if self.image_size < patch_size or self.image_size % patch_size:
            below = self.image_size // patch_size * patch_size
            fitting = " or ".join(str(size) for size in (below, below + patch_size) if size)
            raise ValueError(
                f"image_size {self.image_size} is not a multiple of patch size {patch_size}: use {fitting}."
            )
        if not self.feature_layers or any(not 1 <= layer <= depth for layer in self.feature_layers):
            raise ValueError(f"feature_layers {self.feature_layers} must lie in 1..{depth}, the layers of this CLIP.")
        if self.feature_layers != sorted(set(self.feature_layers)):
            raise ValueError(f"feature_layers {self.feature_layers} must be increasing, each layer once.")
        if not 0 <= self.num_dual_path_layers <= depth:
            raise ValueError(
                f"num_dual_path_layers {self.num_dual_path_layers} must lie in 0..{depth}, the layers of this CLIP."
            )
        if self.prompt_length < 1 or self.prompt_length + 3 > self.clip_config.text_config.max_position_embeddings:
            raise ValueError(
                f"prompt_length {self.prompt_length} must lie in "
                f"1..{self.clip_config.text_config.max_position_embeddings - 3}, what the text tower can read."
            )

    def validate_adapters(self):
        """Part of `@strict`-powered validation: the sizes and choices of the adapters."""
        self.validate_backbone()  # the sizes that those of the adapters follow
        projection_dim = self.clip_config.projection_dim
        if self.visual_adapter_reduction < 1 or projection_dim % self.visual_adapter_reduction:
            raise ValueError(
                f"visual_adapter_reduction {self.visual_adapter_reduction} must divide projection_dim {projection_dim}."
            )
        if self.prompt_query_hidden_size < 2 or self.prompt_query_hidden_size % 2:
            raise ValueError(f"prompt_query_hidden_size must be even, got {self.prompt_query_hidden_size}.")
        if not 1 <= self.pooling_top_k <= self.grid_size**2:
            raise ValueError(
                f"pooling_top_k {self.pooling_top_k} must lie in 1..{self.grid_size**2}, the patches of an image."
            )
        if not SMALLEST_TEMPERATURE <= self.temperature < math.inf:
            raise ValueError(f"temperature must be positive, at least {SMALLEST_TEMPERATURE}, got {self.temperature}.")
        if not 0 <= self.peak_share <= 1:
            raise ValueError(f"peak_share must lie between 0 and 1, got {self.peak_share}.")
        if not 0 <= self.smoothing_sigma <= self.image_size:
            raise ValueError(
                f"smoothing_sigma must not be negative, nor above the image side {self.image_size}, got "
                f"{self.smoothing_sigma}."
            )
        if self.score_fusion not in SCORE_FUSIONS:
            raise ValueError(f"score_fusion must be one of {SCORE_FUSIONS}, got {self.score_fusion!r}.")
        if self.joint_learning and not (self.visual_adapter and self.textual_adapter):
            raise ValueError("joint_learning scores adapted tokens against learned prompts: it needs both adapters.")
        for name in ("normal_states", "anomalous_states", "prompt_templates"):
            sentences = getattr(self, name)
            if not sentences or any("{}" not in sentence for sentence in sentences):
                raise ValueError(f"{name} must be sentences with '{{}}' where the object goes, got {sentences}.")
        vocabulary = self.clip_config.text_config.vocab_size
        if len(self.prompt_token_ids) != 3 or any(not 0 <= token < vocabulary for token in self.prompt_token_ids):
            raise ValueError(
                f"prompt_token_ids are three ids in 0..{vocabulary - 1}: start of text, full stop, end of text; got "
                f"{self.prompt_token_ids}."
            )
        if self.adapters_only and not self.clip_name:
            raise ValueError("adapters_only needs clip_name: the Hub id or folder of the CLIP that they belong to.")


def config_file(name: str | Path | None) -> str:
    """What errors call the file of a folder or repository."""
    return f"{name}/{CONFIG_NAME}" if name else CONFIG_NAME


__all__ = ["AdaptCLIPConfig"]
