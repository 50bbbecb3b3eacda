"""The graphs of an export: one that encodes images, and two that score the features."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.export import Dim

from ..modeling.bank_content import VARIATION
from ..modeling.modeling_adaptclip import AdaptCLIPModel
from ..modeling.normal_variation import NormalVariation
from ..modeling.pretrained_adaptclip import AdaptCLIPPreTrainedModel
from ..modeling.prompt_bank import PromptBank
from ..modeling.text_encoder import TextEmbeds
from ..modeling.vision_encoder import ImageFeatures, encode_image
from ..runtimes.formats import ENCODE, FEW_SHOT, ZERO_SHOT

MOST_AT_ONCE, MOST_NORMAL_IMAGES = 1024, 65536


class Encode(AdaptCLIPPreTrainedModel):
    """`pixel_values` (B, 3, S, S) -> `image_embeds` (B, d) and `patch_embeds`, for each layer (B, 1 + L, d)."""

    def __init__(self, model: AdaptCLIPModel):
        super().__init__(model.config)
        # CLIP without its text tower, which is no part of the graph
        self.vision_model, self.visual_projection = model.clip.vision_model, model.clip.visual_projection

    def forward(self, pixel_values):
        config = self.config
        features = encode_image(self, pixel_values, config.feature_layers, config.num_dual_path_layers)
        return {"image_embeds": features.image_embeds, "patch_embeds": list(features.patch_embeds)}


class Score(AdaptCLIPPreTrainedModel):
    """The outputs of `Encode`, and of normal images the `bank`, for each layer (k, L, d), and if scores use it the
    `variation`, how they differ from one another -> `anomaly_scores` (B,) and `anomaly_maps` (B, S, S), both in [0, 1].
    The text embeddings are constants of it."""

    def __init__(self, model: AdaptCLIPModel, text_embeds: TextEmbeds):
        super().__init__(model.config)
        self.adapters = nn.ModuleList(model.adapters().values())
        self.static = nn.Buffer(text_embeds.static)
        self.learned = None if text_embeds.learned is None else nn.Buffer(text_embeds.learned)
        self.whole = (model,)  # in a tuple: the image encoder's weights are no part of this graph

    @property
    def device(self) -> torch.device:
        """Of the text embeddings: without adapters there is no parameter to ask."""
        return self.static.device

    @property
    def dtype(self) -> torch.dtype:
        return self.static.dtype

    def forward(self, image_embeds, patch_embeds, bank=None, variation=None):
        known = None if variation is None else NormalVariation(**variation)
        output = self.whole[0](
            image_features=ImageFeatures(image_embeds, tuple(patch_embeds)),
            prompt_bank=None if bank is None else PromptBank(tuple(bank), {}, {}, known),
            text_embeds=TextEmbeds(self.static, self.learned),
        )
        return {"anomaly_scores": output.anomaly_scores, "anomaly_maps": output.anomaly_maps}


@dataclass
class Graph:
    """A module, what it is traced with, and which lengths may vary."""

    name: str
    module: AdaptCLIPPreTrainedModel
    inputs: dict
    dynamic_shapes: dict


@torch.no_grad()
def graphs_of(model: AdaptCLIPModel, text_embeds: TextEmbeds) -> Iterator[Graph]:
    """All graphs of a model."""
    batch, normal = Dim("batch", min=1, max=MOST_AT_ONCE), Dim("normal_images", min=1, max=MOST_NORMAL_IMAGES)
    size, generator = model.config.image_size, torch.Generator().manual_seed(0)
    pixel_values = torch.randn(2, 3, size, size, generator=generator)
    yield Graph(ENCODE, Encode(model).eval(), {"pixel_values": pixel_values}, {"pixel_values": {0: batch}})
    features, layers = model.image_features(pixel_values), len(model.config.feature_layers)
    inputs = {"image_embeds": features.image_embeds, "patch_embeds": list(features.patch_embeds)}
    shapes = {"image_embeds": {0: batch}, "patch_embeds": [{0: batch}] * layers}
    yield Graph(ZERO_SHOT, Score(model, text_embeds).eval(), inputs, shapes)
    bank = model.encode_prompts(torch.randn(3, 3, size, size, generator=generator))
    inputs, shapes = inputs | {"bank": list(bank.features)}, shapes | {"bank": [{0: normal}] * layers}
    if bank.variation is not None:
        # a bank may hold tokens of turned copies too, and then more blocks than images
        known, images = (
            bank.select([0, 1, 2, 0]).known_variation().tensors(),
            Dim("images", min=1, max=MOST_NORMAL_IMAGES),
        )
        inputs = inputs | {VARIATION: known}
        shapes = shapes | {VARIATION: {name: {0: images} if name == "whole" else {} for name in known}}
    yield Graph(FEW_SHOT, Score(model, text_embeds).eval(), inputs, shapes)
