"""An exported model, which the engine uses like a torch model."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from threading import Lock
from typing import Any

import torch

from ..modeling.alignment import nearest_tokens
from ..modeling.bank_content import VARIATION
from ..modeling.checks import check_finite, check_pixel_values, finite_images
from ..modeling.configuration_adaptclip import AdaptCLIPConfig
from ..modeling.modeling_adaptclip import PROMPTS_AT_ONCE, AdaptCLIPOutput
from ..modeling.pretrained_adaptclip import AdaptCLIPPreTrainedModel
from ..modeling.prompt_bank import PromptBank, is_bank
from ..modeling.prompt_query_adapter import unit_patch_tokens
from ..modeling.text_encoder import TextEmbeds
from ..modeling.vision_encoder import ImageFeatures
from ..reporting import first_line
from .description import Description
from .formats import ENCODE, EXPORT_FORMATS, FEW_SHOT, ZERO_SHOT
from .graph_files import Runners, open_graphs
from .whole_export import require_undamaged_export


class ExportedAdaptCLIPConfig(AdaptCLIPConfig):
    """The configuration of a model whose graphs are in the same folder."""

    model_type = "adaptclip_exported"


class ExportedAdaptCLIP(AdaptCLIPPreTrainedModel):
    """Scores as [`AdaptCLIPModel`] does, by graphs of another runtime. Any number of threads may share it."""

    config_class = ExportedAdaptCLIPConfig

    def __init__(self, config: ExportedAdaptCLIPConfig, runners: Runners, description: Description):
        super().__init__(config)
        self.runners, self.description, self.backend = runners, description, description.format
        # OpenVINO's runner has one request for all calls
        self._one_at_a_time = Lock() if description.format == "openvino" else nullcontext()

    @classmethod
    def from_pretrained(cls, folder, device=None, trust_remote_code: bool = False, config=None, **options):
        """Opens what `adaptclip export` wrote. Of its files only the graphs, two descriptions and the processor are
        read, and none of them names code; `export.json` is for other programs.

        Args:
            folder: a local one.
            device: "cpu", "cuda:0", or what the format's runtime knows.
            trust_remote_code: open a `torch` export, whose loading runs code that lies in it.
            options: accepted because torch models take them; a `dtype` other than "auto" and its own is refused.

        Raises:
            ImportError: the runtime is not installed.
            ValueError: a file is missing or damaged, or the folder may not be trusted.
        """
        folder = Path(folder)
        require_undamaged_export(folder)
        description = Description.load(folder)
        export_format = EXPORT_FORMATS[description.format]
        export_format.require(*export_format.to_run)
        asked = str(options.get("dtype") or "auto").removeprefix("torch.")
        if asked not in ("auto", description.computes_in):
            raise ValueError(
                f"{folder} computes in {description.computes_in}, as it was exported, not {asked}: leave out --dtype "
                "(dtype= in Python)."
            )
        if description.format == "torch" and not trust_remote_code:
            raise ValueError(
                f"{folder} holds torch.export programs, and to load them runs code that lies in them: if you trust "
                "whoever made it, say trust_remote_code=True (--model FOLDER --trust-remote-code)."
            )
        config = config or cls.config_class.from_pretrained(folder)
        export_format.tell_missing_products(description.precision)
        runners = open_graphs(folder, export_format, description.precision, config, device)
        model = cls(config, runners, description).eval()
        model.config.name_or_path = model.name_or_path = str(folder)
        return model

    @property
    def device(self) -> torch.device:
        return self.runners[ENCODE].device

    @property
    def computes_in(self) -> str:
        """A dtype's name, or "int8"."""
        return self.description.computes_in

    @property
    def dtype(self) -> torch.dtype:
        """Of inputs and outputs."""
        return torch.float32

    def to(self, device=None, *args, **kwargs) -> "ExportedAdaptCLIP":
        """Itself: where a graph runs is chosen when it is opened.

        Raises:
            ValueError: another device.
        """
        if isinstance(device, str | int | torch.device) and torch.device(device).type != self.device.type:
            raise ValueError(f"This export runs on {self.device}: open it with device={str(device)!r}.")
        return self

    def save_pretrained(self, save_directory, **kwargs):
        raise ValueError(f"An exported model is its folder: copy {self.name_or_path}.")

    def fingerprint(self, sampled: bool = False) -> dict[str, str]:
        """What a prompt bank depends on; that of the torch model, if the weights are the same."""
        return self.description.made_by.fingerprint

    def weights_digest(self) -> str:
        return self.description.made_by.weights

    def untrained_adapters(self) -> frozenset[str]:
        """None: adapters that were never trained are not exported."""
        return frozenset()

    def text_key(self) -> tuple:
        return ()

    def encode_text(self, object_name: str | None = None, tokenizer=None) -> TextEmbeds:
        """Empty: the text embeddings are constants of the graphs.

        Raises:
            ValueError: another object name than theirs.
        """
        self.description.require_object_name(object_name)
        return TextEmbeds()

    @torch.no_grad()
    def image_features(self, pixel_values: torch.Tensor) -> ImageFeatures:
        """As [`AdaptCLIPModel.image_features`]."""
        check_pixel_values(pixel_values, self.config.image_size)
        encoded = self._run(ENCODE, pixel_values=pixel_values.float())
        return ImageFeatures(encoded["image_embeds"], tuple(encoded["patch_embeds"]))

    def encode_prompts(self, pixel_values: torch.Tensor, preprocessing: dict[str, str] | None = None) -> PromptBank:
        """As [`AdaptCLIPModel.encode_prompts`]."""
        if not len(pixel_values):
            raise ValueError("At least one normal image is needed, got none.")
        parts = [self.image_features(part).patch_embeds for part in pixel_values.split(PROMPTS_AT_ONCE)]
        features = tuple(torch.cat([unit_patch_tokens(each) for each in layer]) for layer in zip(*parts, strict=True))
        bank = PromptBank(features, self.fingerprint(), preprocessing or {})
        return bank.with_variation() if self.config.normal_variation else bank

    @torch.no_grad()
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        image_features: ImageFeatures | None = None,
        prompt_bank: PromptBank | Sequence[PromptBank] | None = None,
        text_embeds: TextEmbeds | None = None,
    ) -> AdaptCLIPOutput:
        """Scores and maps, as [`AdaptCLIPModel.forward`] gives them."""
        if text_embeds is not None and text_embeds.static is not None:
            raise ValueError("The text embeddings of an exported model are constants of its graphs: give none.")
        features = self.image_features(pixel_values) if image_features is None else image_features
        check_finite(features, finite_images(features), pixel_values)
        if is_bank(prompt_bank) and prompt_bank.is_grouped:
            prompt_bank = [prompt_bank] * len(features.image_embeds)  # each gets the tokens near to it alone
        if prompt_bank is None or is_bank(prompt_bank):
            return AdaptCLIPOutput(**self._score(features, prompt_bank))
        parts = [self._score(features.select([index]), bank) for index, bank in enumerate(prompt_bank)]
        return AdaptCLIPOutput(**{name: torch.cat([each[name] for each in parts]) for name in parts[0]})

    def _score(self, features: ImageFeatures, bank: PromptBank | None) -> dict[str, torch.Tensor]:
        inputs: dict[str, Any] = {"image_embeds": features.image_embeds, "patch_embeds": list(features.patch_embeds)}
        if bank is None:
            return self._run(ZERO_SHOT, **inputs)
        bank.require_match(self.fingerprint())
        bank = bank.to(self.device, self.dtype)
        if bank.is_grouped:
            # a graph multiplies with all that it is given: it gets of each patch the nearest token alone
            tokens = [unit_patch_tokens(layer) for layer in features.patch_embeds]
            inputs["bank"] = [nearest_tokens(*each) for each in zip(tokens, bank.searched(), strict=True)]
        else:
            bank.require_finite()  # a runtime may pass over NaN
            inputs["bank"] = list(bank.blocks())
        if self.config.normal_variation:
            inputs[VARIATION] = bank.known_variation().tensors()
        return self._run(FEW_SHOT, **inputs)

    def _run(self, graph: str, **inputs):
        with self._one_at_a_time:
            try:
                return self.runners[graph](**inputs)
            except Exception as error:  # every runtime has errors of its own
                folder, reason = self.name_or_path, first_line(error)
                raise ValueError(f"The graph {graph} of {folder} does not take these inputs: {reason}") from error


__all__ = ["ExportedAdaptCLIP", "ExportedAdaptCLIPConfig"]
