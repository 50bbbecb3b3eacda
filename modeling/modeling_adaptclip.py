"""AdaptCLIP: three small adapters on a frozen CLIP that find anomalies in objects never seen."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn import functional as F
from transformers import CLIPModel
from transformers.utils import ModelOutput, can_return_tuple, logging

from .alignment import Pool, cosine_distance, nearest_tokens
from .checks import (
    LEARNED_TEXT,
    TEXT_TOWER,
    can_look_at,
    check_finite,
    check_labels,
    check_learnable,
    check_pixel_values,
    check_prompt_pixel_values,
    finite_images,
)
from .configuration_adaptclip import AdaptCLIPConfig
from .encoder_record import asked_for
from .fingerprint import ContentMemo
from .fusion import fuse, fuse_alignment, fuse_distances
from .loss import adapter_loss
from .normal_variation import NormalComparison, NormalVariation, probability, standardised, whole_terms
from .placement import require_weights_here
from .precision import under_autocast, without_autocast
from .pretrained_adaptclip import StoredAdaptCLIPModel, initialized
from .prompt_bank import PromptBank, is_bank
from .prompt_query_adapter import unit_patch_tokens
from .text_encoder import TextEmbeds, check_tokenizer, encode_sentences, frame_token_ids, unit
from .variants import build_adapter
from .vision_encoder import ImageFeatures, encode_image

logger = logging.get_logger(__name__)

PROMPTS_AT_ONCE = 8
# the adapters that a prediction is made with
ADAPTERS_OF = {
    "visual": {"visual_adapter"},
    "textual": {"textual_adapter"},
    "joint": {"visual_adapter", "textual_adapter"},
    "prompt_query": {"prompt_query_adapter"},
}


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
        hidden_states (`tuple[torch.FloatTensor]`, *optional*, with `output_hidden_states=True`): of the embeddings and
            of each layer (B, 1 + L, D), on the path that the patch embeddings are read from.
        attentions (`tuple[torch.FloatTensor]`, *optional*, with `output_attentions=True`): of each layer (B, heads,
            1 + L, 1 + L), on the same path: where that is the second one, of the values among themselves.
    """

    loss: torch.FloatTensor | None = None
    anomaly_scores: torch.FloatTensor | None = None
    anomaly_maps: torch.FloatTensor | None = None
    losses: dict[str, torch.FloatTensor] | None = None
    details: dict | None = None
    hidden_states: tuple[torch.FloatTensor | None, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None


@dataclass
class Normals:
    """What a batch is compared with.

    Attributes:
        pools: for each layer the normal tokens.
        variations: how the normal images differ from one another, one for the batch or one for each image; empty where
            scores do not use it.
    """

    pools: Sequence[Pool]
    variations: Sequence[NormalVariation] = ()


@dataclass
class AdapterPrediction:
    """The prediction of an adapter for a batch, or of the prompt-query adapter for one layer.

    Attributes:
        logits: of the images (B, 2), normal first.
        maps: probabilities (B, C, S, S), the anomalous class last; the normal class too (C = 2) for a loss.
    """

    logits: torch.Tensor
    maps: torch.Tensor


class AdaptCLIPModel(StoredAdaptCLIPModel):
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
            config: of the model, which keeps a copy.
            clip: the frozen CLIP that `config.clip_config` describes; by default one of random weights is built.
            text_tower: whether CLIP keeps its text tower, which only encodes prompts.
        """
        # a clip keeps its own config, which may be a part of this one
        super().__init__(deepcopy(config, {} if clip is None else {id(clip.config): clip.config}))
        config = self.config
        config.adapters_only = False  # true of a folder only: here the adapters have their CLIP
        self.clip = CLIPModel._from_config(config.clip_config) if clip is None else initialized(clip)
        if clip is not None and clip.config._attn_implementation is None:  # a config put into another one loses it
            clip.set_attn_implementation(config._attn_implementation)
        for part in (config.clip_config, config.clip_config.text_config, config.clip_config.vision_config):
            # loading sets these too: a new model and a loaded one are saved with the same config
            part.dtype = part.dtype or self.clip.dtype
        if not text_tower:
            self.clip.text_model = self.clip.text_projection = None
            self._keys_to_ignore_on_load_unexpected = [*TEXT_TOWER]
        self.visual_adapter = build_adapter("visual_adapter", config)
        self.textual_adapter = build_adapter("textual_adapter", config)
        self.prompt_query_adapter = build_adapter("prompt_query_adapter", config)
        self.register_buffer("static_text_embeds", torch.eye(2, config.clip_config.projection_dim))
        if config.textual_adapter:
            self.register_buffer(LEARNED_TEXT, torch.zeros_like(self.static_text_embeds))
        self.object_name = config.object_name
        self._memo = ContentMemo()
        self.post_init()
        if clip is not None:  # it can read: what stands for sentences beside random weights would be nonsense here
            self.static_text_embeds.fill_(torch.nan)
        self.to(self.clip.dtype)
        self.freeze_clip()

    @can_return_tuple
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
        output_hidden_states: bool | int | Sequence[int] | None = None,
        output_attentions: bool | None = None,
    ) -> AdaptCLIPOutput:
        """Scores a batch: zero-shot without normal images, few-shot with them.

        A model without a trained adapter scores by CLIP's static prompts, and few-shot by alignment too: each patch's
        distance to its nearest normal one.

        Exports and compiles without a break (`torch.export`, a bank's length and the batch dynamic); the checks of
        banks and values are not part of the graph.

        Args:
            pixel_values: (B, 3, S, S), from [`AdaptCLIPProcessor`]; scores and maps are differentiable by pixels that
                require a gradient.
            prompt_pixel_values: (B, k, 3, S, S), the k normal images of each query, or
            prompt_bank: one [`PromptBank`] for the whole batch, or a list of B, one for each image.
            labels: (B,), 0 normal or 1 anomalous, for the loss.
            mask_labels: (B, S, S), 0 or 1, for the loss; -100 throughout for an image whose mask is not known.
            image_features: of [`~AdaptCLIPModel.image_features`] in place of `pixel_values`: encode once, use often.
            prompt_features: the same in place of `prompt_pixel_values`, of B*k images in the order of the queries.
            text_embeds: of [`~AdaptCLIPModel.encode_text`]; by default those of the model's own object name.
            output_details: also return every intermediate result.
            output_hidden_states: also return the image encoder's hidden states, or those of some numbers (0 are the
                embeddings); by default as the config says.
            output_attentions: also return its attentions, for which its backend is "eager" then.

        Raises:
            ValueError: for wrong shapes, values that are not finite (checked on a CPU only, because the check would
                stop another device: there the image's score and map are NaN), the bank of another model, or features
                without a gradient from which the image encoder is to learn.
        """
        if image_features is not None and pixel_values is None:
            features = image_features
        elif pixel_values is not None and image_features is None:
            features = self.image_features(pixel_values, output_hidden_states, output_attentions)
        else:
            raise ValueError("Give pixel_values or image_features, one of the two.")
        batch_size, finite = features.image_embeds.shape[0], finite_images(features)
        if not torch.compiler.is_compiling():
            check_finite(features, finite, pixel_values)
            check_labels(labels, mask_labels, batch_size, self.config.image_size)
            check_learnable(self, image_features)
        text = self.encode_text() if text_embeds is None else text_embeds
        normals = self._normals(batch_size, prompt_pixel_values, prompt_features, prompt_bank)

        # the loss is the sum over all adapters, the score takes only the trained ones
        wants_loss = labels is not None or mask_labels is not None
        by_distances_alone = normals is not None and not self.config.few_shot_adapters
        trained = set() if by_distances_alone else self._trained_adapters()
        asked = {name: adapter for name, adapter in self.adapters().items() if wants_loss or name in trained}
        predictions = self._zero_shot_predictions(asked, features, text, wants_loss)
        distances = None
        if normals is not None:
            compared, distances = self._compare(asked.get("prompt_query_adapter"), features, normals.pools, wants_loss)
            predictions |= {"prompt_query": compared} if compared else {}
        scored = {name: each for name, each in predictions.items() if ADAPTERS_OF[name] <= trained}
        if not scored and (not by_distances_alone or (wants_loss and not predictions)):
            embeds = (features.image_embeds, features.patch_embeds[-1])
            scored = {"clip": [self._similarity_prediction(embeds, text.static, wants_loss)]}

        losses = None
        if wants_loss:
            losses = {
                name: torch.stack([adapter_loss(each.logits, each.maps, labels, mask_labels) for each in layers]).sum()
                for name, layers in (predictions or scored).items()
            }
        fused = {} if by_distances_alone else scored
        variations = () if normals is None else normals.variations
        # scores have a gradient where the input has one, not for the sake of weights, which learn by the loss
        given = features.image_embeds if pixel_values is None else pixel_values
        with torch.set_grad_enabled(torch.is_grad_enabled() and given.requires_grad), without_autocast(given.device):
            anomaly_scores, anomaly_maps = self._fuse(fused, distances, features, variations)
        # infinity may become a number on its way through the adapters: an image that was not encoded has no score
        finite = finite & torch.isfinite(text.static).all()
        return AdaptCLIPOutput(
            loss=None if losses is None else torch.stack(list(losses.values())).sum(),
            anomaly_scores=anomaly_scores.where(finite, torch.nan),
            anomaly_maps=anomaly_maps.where(finite[:, None, None], torch.nan),
            losses=losses,
            details=self._details(features, text, predictions | scored, distances) if output_details else None,
            hidden_states=features.hidden_states,
            attentions=features.attentions,
        )

    def image_features(
        self,
        pixel_values: torch.Tensor,
        output_hidden_states: bool | int | Sequence[int] | None = None,
        output_attentions: bool | None = None,
    ) -> ImageFeatures:
        """Image and patch embeddings of pixel values (B, 3, S, S), with a gradient where the pixels or CLIP need one.

        Args:
            output_hidden_states, output_attentions: as for [`~AdaptCLIPModel.forward`].

        Raises:
            ValueError: for another shape, or weights that are elsewhere.
        """
        config = self.config
        check_pixel_values(pixel_values, config.image_size)
        require_weights_here(self, pixel_values)
        depth = config.clip_config.vision_config.num_hidden_layers
        record = asked_for(config, output_hidden_states, output_attentions, depth)
        features = encode_image(self.clip, pixel_values, config.feature_layers, config.num_dual_path_layers, record)
        if under_autocast(pixel_values.device):  # the encoder alone is to be in half precision
            layers = tuple(layer.to(self.dtype) for layer in features.patch_embeds)
            return replace(features, image_embeds=features.image_embeds.to(self.dtype), patch_embeds=layers)
        return features

    def _normals(
        self,
        batch_size: int,
        prompt_pixel_values: torch.Tensor | None,
        prompt_features: ImageFeatures | None,
        prompt_bank: PromptBank | Sequence[PromptBank] | None,
    ) -> Normals | None:
        """What to compare with; `None` for zero-shot."""
        if sum(each is not None for each in (prompt_pixel_values, prompt_features, prompt_bank)) > 1:
            raise ValueError("Give prompt_pixel_values, prompt_features or a prompt_bank, not both.")
        if prompt_bank is not None:
            return self._normals_of_banks(prompt_bank, batch_size)
        if prompt_features is not None:
            tokens = tuple(unit_patch_tokens(layer) for layer in prompt_features.patch_embeds)
        elif prompt_pixel_values is not None:
            check_prompt_pixel_values(prompt_pixel_values, batch_size, self.config.image_size)
            tokens = self._prompt_tokens(prompt_pixel_values.flatten(0, 1))
        else:
            return None
        tokens = tuple(layer.unflatten(0, (batch_size, -1)) for layer in tokens)
        variations: list[NormalVariation] = []
        if self.config.normal_variation and not self.training:
            variations = [
                NormalComparison.of(PromptBank(each, {}, {})).variation() for each in zip(*tokens, strict=True)
            ]
        return Normals(tuple(layer.flatten(1, 2) for layer in tokens), variations)

    def _normals_of_banks(self, banks: PromptBank | Sequence[PromptBank], batch_size: int) -> Normals:
        """What one bank says for the whole batch, or a bank for each image."""
        distinct = [banks] if is_bank(banks) else list({id(bank): bank for bank in banks}.values())
        if not torch.compiler.is_compiling():
            if not is_bank(banks) and len(banks) != batch_size:
                raise ValueError(f"Expected a prompt bank for each of {batch_size} images, got {len(banks)}.")
            fingerprint = self.fingerprint(sampled=True)
            for bank in distinct:
                bank.require_match(fingerprint)
        ready = {id(bank): self._ready(bank) for bank in distinct}
        pools = {name: bank.searched() for name, bank in ready.items()}
        if is_bank(banks):
            bank = ready[id(banks)]
            return Normals(pools[id(banks)], [] if bank.variation is None else [bank.variation])
        layers = [[pools[id(bank)][layer] for bank in banks] for layer in range(len(self.config.feature_layers))]
        known = [variation for bank in banks if (variation := ready[id(bank)].variation) is not None]
        return Normals(layers, known)

    def _ready(self, bank: PromptBank) -> PromptBank:
        """The bank on this device, with its variation if scores use it."""
        bank = bank.to(self.device, self.dtype)
        if not self.config.normal_variation:
            return replace(bank, variation=None)
        return bank if bank.variation is not None else bank.with_variation()

    def _prompt_tokens(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(N, 3, S, S) -> for each layer unit patch tokens (N, L, d), a few images at a time."""
        if not len(pixel_values):
            raise ValueError("At least one normal image is needed, got none.")
        parts = [
            [unit_patch_tokens(layer) for layer in self.image_features(part).patch_embeds]
            for part in pixel_values.split(PROMPTS_AT_ONCE)
        ]
        return tuple(torch.cat(layer) for layer in zip(*parts, strict=True))

    def _trained_adapters(self) -> set[str]:
        """The adapters that score: in training mode all, else the trained ones, with a warning about the others."""
        names = set(self.adapters())
        if self.training or not self.config.fresh_adapters:
            return names
        untrained = self.untrained_adapters()
        if untrained and not torch.compiler.is_compiling():
            logger.warning_once(
                f"Not trained yet, and so left out of the scores: {', '.join(sorted(untrained))}. CLIP's static "
                "prompts and alignment with the normal images score."
            )
        return {name for name in names if name not in untrained}

    def _zero_shot_predictions(
        self, asked: dict[str, nn.Module], features: ImageFeatures, text: TextEmbeds, both_classes: bool
    ) -> dict[str, list[AdapterPrediction]]:
        """The predictions of the asked adapters without normal images, each in a list of one."""
        embeds = (features.image_embeds, features.patch_embeds[-1])
        predictions = {}
        if self.config.joint_learning:
            if ADAPTERS_OF["joint"] <= asked.keys():
                adapted = asked["visual_adapter"](*embeds)
                predictions["joint"] = [self._similarity_prediction(adapted, text.learned, both_classes)]
            return predictions
        if "visual_adapter" in asked:
            adapted = asked["visual_adapter"](*embeds)
            predictions["visual"] = [self._similarity_prediction(adapted, text.static, both_classes)]
        if "textual_adapter" in asked:
            predictions["textual"] = [self._similarity_prediction(embeds, text.learned, both_classes)]
        return predictions

    def _similarity_prediction(
        self, embeds: tuple[torch.Tensor, torch.Tensor], text_embeds: torch.Tensor, both_classes: bool
    ) -> AdapterPrediction:
        """Image and patch embeddings against two text embeddings (paper, equations 1 and 2)."""
        with without_autocast(text_embeds.device):
            image_logits, patch_logits = (unit(each) @ text_embeds.T / self.config.temperature for each in embeds)
        grid = self.config.grid_size
        probabilities = patch_logits[:, 1:].softmax(-1).transpose(1, 2).unflatten(2, (grid, grid))
        return AdapterPrediction(image_logits, self._class_maps(probabilities, both_classes))

    def _compare(
        self, adapter: nn.Module | None, features: ImageFeatures, pools: Sequence[Pool], both_classes: bool
    ) -> tuple[list[AdapterPrediction], torch.Tensor]:
        """Each layer's prediction of the prompt-query adapter, if it is asked, and distances (B, n, g, g): each
        patch's to its nearest normal one."""
        tokens, grid = [unit_patch_tokens(layer) for layer in features.patch_embeds], self.config.grid_size
        predictions = []
        if adapter is not None:
            comparisons = adapter(tokens, pools)
            distances = [each.alignment for each in comparisons]
            for each in comparisons:
                predictions.append(AdapterPrediction(each.logits, self._class_maps(each.probabilities, both_classes)))
        else:
            pairs = zip(tokens, pools, strict=True)
            aligned = [cosine_distance(query, nearest_tokens(query, pool)) for query, pool in pairs]
            distances = [each.unflatten(1, (grid, grid)) for each in aligned]
        return predictions, torch.stack(distances, dim=1)

    def _class_maps(self, probabilities: torch.Tensor, both_classes: bool) -> torch.Tensor:
        """(B, 2, h, w) -> (B, 2, S, S), or of the anomalous class only (B, 1, S, S)."""
        return self._resize(probabilities if both_classes else probabilities[:, 1:])

    def _resize(self, maps: torch.Tensor) -> torch.Tensor:
        """(B, C, h, w) -> (B, C, S, S)."""
        size = (self.config.image_size, self.config.image_size)
        return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)

    def _fuse(
        self,
        predictions: dict[str, list[AdapterPrediction]],
        distances: torch.Tensor | None,
        features: ImageFeatures,
        variations: Sequence[NormalVariation],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores (B,) and maps (B, S, S): of each adapter the mean over its predictions, fused with the distances.

        Args:
            distances: (B, n, g, g) to the nearest normal tokens; `None` without normal images.
            variations: of the normal images; empty where the distances enter the scores as they are.
        """
        scores, maps = [], []
        for layers in predictions.values():
            scores.append(torch.stack([each.logits.softmax(-1)[:, 1] for each in layers]).mean(0))
            maps.append(torch.stack([each.maps[:, -1] for each in layers]).mean(0))
        config = self.config
        alignment = None
        if distances is not None and variations:
            beyond = standardised(distances.flatten(2), variations).view_as(distances[:, 0])
            beyond, near = self._resize(torch.stack([beyond, distances.mean(1)], 1)).unbind(1)
            if not predictions:
                whole = whole_terms([unit_patch_tokens(layer) for layer in features.patch_embeds], variations)
                fused_map, score = fuse_distances(beyond, near, whole, config.smoothing_sigma, config.peak_share)
                return score, fused_map
            alignment = probability(beyond, near)[None]
        elif distances is not None:
            alignment = self._resize(distances).transpose(0, 1)
            if not predictions:
                fused_map, score = fuse_alignment(alignment, config.smoothing_sigma, config.peak_share)
                return score, fused_map
        if alignment is not None and config.score_fusion == "mean" and "prompt_query" not in predictions:
            # without the prompt-query adapter alignment counts as one more adapter, as in the paper's AnomalyCLIP+
            maps.append(alignment.mean(0))
            scores.append(maps[-1].amax((1, 2)))
        fused_map, score = fuse(maps, scores, alignment, config.score_fusion, config.smoothing_sigma, config.peak_share)
        return score, fused_map

    def _details(
        self,
        features: ImageFeatures,
        text: TextEmbeds,
        predictions: dict[str, list[AdapterPrediction]],
        distances: torch.Tensor | None,
    ) -> dict:
        """Every intermediate result by its name, see [`AdaptCLIPOutput`]."""
        logits = {name: [each.logits for each in layers] for name, layers in predictions.items()}
        maps = {name: [each.maps[:, -1] for each in layers] for name, layers in predictions.items()}
        details = {
            "image_embeds": features.image_embeds,
            "patch_embeds": features.patch_embeds,
            "text_embeds": text.static,
            "learned_text_embeds": text.learned,
            "alignment_maps": None if distances is None else self._resize(distances).transpose(0, 1),
            "prompt_query_logits": logits.pop("prompt_query", []),
            "prompt_query_maps": maps.pop("prompt_query", []),
        }
        for name in logits:
            [details[f"{name}_logits"]], [details[f"{name}_maps"]] = logits[name], maps[name]
        return details

    def encode_text(self, object_name: str | None = None, tokenizer=None) -> TextEmbeds:
        """Text embeddings to score with: a value, made once and used any number of times.

        Args:
            object_name: the word for the object in the static prompts; the model's own by default.
            tokenizer: the one that belongs to the CLIP; needed for another name than the model's own.

        Raises:
            ValueError: another name without tokenizer or text tower, or too long for the text tower; another CLIP's
                tokenizer; static prompts that were never encoded.
        """
        if self.config.object_name != self.object_name:
            raise ValueError(
                f"config.object_name was set to {self.config.object_name!r}, and the model knows the prompts of "
                f"{self.object_name!r}: call set_object_name(name, tokenizer)."
            )
        static = self.static_text_embeds
        if object_name not in (None, self.object_name):
            if tokenizer is None:
                raise ValueError(f"The object name {object_name!r} needs the CLIP's tokenizer (processor.tokenizer).")
            static = self._encode_static_prompts(object_name, tokenizer)
        elif can_look_at(static) and not static.isfinite().all():
            raise ValueError("The static prompts are not encoded yet: call set_object_name(name, tokenizer).")
        return TextEmbeds(static=unit(static), learned=self._learned_text())

    def _encode_static_prompts(self, object_name: str, tokenizer) -> torch.Tensor:
        """(2, d), not normalised."""
        if self.clip.text_model is None:
            raise ValueError(
                f"This model was loaded without its text tower, and knows the prompts of {self.object_name!r} alone: "
                f"load it with its text tower to encode those of {object_name!r}."
            )
        check_tokenizer(tokenizer, self.config.clip_config, getattr(tokenizer, "name_or_path", "hand"))
        if (frame := frame_token_ids(tokenizer)) != self.config.prompt_token_ids:
            raise ValueError(f"This tokenizer frames '.' as {frame}, the model's as {self.config.prompt_token_ids}.")
        prompts = self.config.text_prompts(object_name)
        return torch.stack([encode_sentences(self.clip, tokenizer, each) for each in prompts])

    def _learned_text(self) -> torch.Tensor | None:
        """(2, d) of the learned prompts: those of the file while the weights are the file's, computed otherwise."""
        if (adapter := self.textual_adapter) is None:
            return None
        if self.clip.text_model is None:
            return unit(self.learned_text_embeds)
        if torch.compiler.is_compiling() or torch.is_grad_enabled():  # a graph and a gradient need the computation
            return unit(adapter(self.clip))
        embeds = self._memo.value(LEARNED_TEXT, self.text_key(), lambda: adapter(self.clip))
        return unit(embeds.to(self.device))

    def set_object_name(self, object_name: str, tokenizer):
        """Makes another word for the object the model's own, which is saved with it ("object" by default).

        To score with other words without a change of the model see [`~AdaptCLIPModel.encode_text`].

        Args:
            object_name: one or several words, such as "bottle" or "metal nut".
            tokenizer: the one that belongs to the CLIP (`processor.tokenizer`).

        Raises:
            ValueError: for another CLIP's tokenizer, a name too long for the text tower, or a model that was loaded
                without it.
        """
        self.static_text_embeds = self._encode_static_prompts(object_name, tokenizer)
        self.config.object_name = self.object_name = object_name

    @torch.no_grad()
    def encode_prompts(self, pixel_values: torch.Tensor, preprocessing: dict[str, str] | None = None) -> PromptBank:
        """Encodes normal images, to compare any number of queries with them; a bank holds values and no gradient.

        Args:
            pixel_values: (k, 3, S, S), k >= 1.
            preprocessing: how the pixel values were made (`processor.image_processor.fingerprint()`), kept in the bank.

        Returns:
            [`PromptBank`]: on the model's device, in its dtype.
        """
        bank = PromptBank(self._prompt_tokens(pixel_values), self.fingerprint(), preprocessing or {})
        return bank.with_variation() if self.config.normal_variation else bank


__all__ = ["AdaptCLIPModel", "AdaptCLIPOutput"]
