"""An exported model without torch: NumPy's arrays in and out, as the engine asks of a model."""

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

import numpy as np
from pydantic import ConfigDict

from ..files import parse_json
from ..modeling.bank_content import VARIATION
from ..processing.image_settings import checked_image_settings
from ..processing.pixel_values import LightImageProcessor
from ..reporting import first_line
from ..validation import FileContent
from .description import ANEW, Description
from .formats import ENCODE, EXPORT_FORMATS, FEW_SHOT, ZERO_SHOT
from .light_graphs import LightGraph, open_light_graphs
from .numpy_arrays import NumpyArrays
from .numpy_bank import NumpyBank
from .numpy_tokens import unit_patch_tokens
from .whole_export import require_undamaged_export

MOST_THREADS = 1024
CONFIG_FILE, PROCESSOR_FILE = "config.json", "processor_config.json"


class LightConfig(FileContent):
    """Of a model's configuration what scores depend on; all else in the file is for torch."""

    model_config = ConfigDict(extra="ignore")

    image_size: int
    feature_layers: list[int]
    num_dual_path_layers: int
    visual_adapter: bool
    textual_adapter: bool
    prompt_query_adapter: bool
    prompt_query_context: bool
    joint_learning: bool
    temperature: float
    pooling_top_k: int
    smoothing_sigma: float
    peak_share: float
    score_fusion: str
    object_name: str
    normal_variation: bool = False
    few_shot_adapters: bool = True
    adapter_variants: dict[str, str] | None = None


@dataclass(frozen=True)
class LightFeatures:
    """As [`ImageFeatures`]: (B, d) and for each layer (B, 1 + L, d)."""

    image_embeds: np.ndarray
    patch_embeds: tuple[np.ndarray, ...]

    @classmethod
    def joined(cls, parts: Sequence["LightFeatures"]) -> "LightFeatures":
        """The features of several batches as those of one."""
        layers = zip(*(part.patch_embeds for part in parts), strict=True)
        return cls(np.concatenate([part.image_embeds for part in parts]), tuple(map(np.concatenate, layers)))

    def select(self, rows: Sequence[int]) -> "LightFeatures":
        """The features of some images of the batch."""
        return LightFeatures(self.image_embeds[list(rows)], tuple(layer[list(rows)] for layer in self.patch_embeds))


@dataclass(frozen=True)
class LightOutput:
    """Scores (B,) and maps (B, S, S) in [0, 1]."""

    anomaly_scores: np.ndarray
    anomaly_maps: np.ndarray


@dataclass(frozen=True)
class LightText:
    """As [`TextEmbeds`] of an exported model, whose text embeddings are constants of its graphs."""

    static: None = None
    learned: None = None


@dataclass(frozen=True)
class LightDevice:
    """Where a runtime's inputs and outputs lie."""

    type: str = "cpu"


@dataclass(frozen=True)
class LightProcessor:
    """What reads images for a model; there is no tokenizer, since an exported model reads no text."""

    image_processor: LightImageProcessor
    tokenizer: None = None


class LightModel:
    """Scores as [`ExportedAdaptCLIP`] does, by the same graphs. Any number of threads may share it."""

    arrays: ClassVar[NumpyArrays] = NumpyArrays()
    dtype: ClassVar[str] = "float32"  # of inputs and outputs
    device: ClassVar[LightDevice] = LightDevice()

    def __init__(self, folder: Path, config: LightConfig, graphs: Mapping[str, LightGraph], description: Description):
        self.name_or_path, self.config, self.graphs, self.description = str(folder), config, graphs, description
        # OpenVINO's request serves one call at a time
        self._one_at_a_time = Lock() if description.format == "openvino" else nullcontext()

    @property
    def computes_in(self) -> str:
        """A dtype's name, or "int8"."""
        return self.description.computes_in

    @property
    def backend(self) -> str:
        return self.description.format

    @classmethod
    def from_pretrained(cls, folder: str | Path, device: str | None = None) -> "LightModel":
        """Opens what `adaptclip export` wrote for ONNX Runtime or OpenVINO.

        Args:
            device: "cpu"; by default what the runtime prefers.

        Raises:
            ImportError: the runtime is not installed.
            ValueError: a file is missing or damaged.
        """
        folder = Path(folder)
        require_undamaged_export(folder)
        description = Description.load(folder)
        export_format = EXPORT_FORMATS[description.format]
        config = LightConfig.read(folder / CONFIG_FILE, ANEW)
        precision, layers = description.precision, len(config.feature_layers)
        export_format.tell_missing_products(precision)
        graphs = open_light_graphs(
            folder, export_format, precision, layers, config.normal_variation, threads_here(), device
        )
        return cls(folder, config, graphs, description)

    def fingerprint(self) -> dict[str, str]:
        return self.description.made_by.fingerprint

    def weights_digest(self) -> str:
        return self.description.made_by.weights

    def untrained_adapters(self) -> frozenset[str]:
        """None: adapters that were never trained are not exported."""
        return frozenset()

    def encode_text(self, object_name: str | None = None, tokenizer: Any = None) -> LightText:
        """Empty: the text embeddings are constants of the graphs.

        Raises:
            ValueError: another object name than theirs.
        """
        self.description.require_object_name(object_name)
        return LightText()

    def image_features(self, pixel_values: np.ndarray) -> LightFeatures:
        """Of pixel values (B, 3, S, S)."""
        image_embeds, *patch_embeds = self._run(ENCODE, {"pixel_values": pixel_values})
        return LightFeatures(image_embeds, tuple(patch_embeds))

    def __call__(
        self,
        *,
        image_features: LightFeatures,
        prompt_bank: NumpyBank | Sequence[NumpyBank] | None = None,
        text_embeds: LightText | None = None,
    ) -> LightOutput:
        """Scores and maps, as [`ExportedAdaptCLIP.forward`] gives them."""
        require_finite_features(image_features)
        if isinstance(prompt_bank, NumpyBank) and prompt_bank.grouped is not None:
            prompt_bank = [prompt_bank] * len(image_features.image_embeds)  # each gets the tokens near to it alone
        if prompt_bank is None or isinstance(prompt_bank, NumpyBank):
            return LightOutput(*self._score(image_features, prompt_bank))
        parts = [self._score(image_features.select([index]), bank) for index, bank in enumerate(prompt_bank)]
        return LightOutput(*map(np.concatenate, zip(*parts, strict=True)))

    def _score(self, features: LightFeatures, bank: NumpyBank | None) -> list[np.ndarray]:
        inputs = {"image_embeds": features.image_embeds}
        inputs |= {f"patch_embeds.{index}": layer for index, layer in enumerate(features.patch_embeds)}
        if bank is None:
            return self._run(ZERO_SHOT, inputs)
        bank.require_match(self.fingerprint())
        if bank.grouped is None:
            bank.require_finite()  # a runtime may pass over NaN
            blocks = bank.blocks()
        else:  # a graph multiplies with all that it is given: it gets of each patch the nearest token alone
            tokens = [unit_patch_tokens(layer)[0] for layer in features.patch_embeds]
            blocks = tuple(pool.nearest(query)[None] for query, pool in zip(tokens, bank.grouped, strict=True))
        inputs |= {f"bank.{index}": layer for index, layer in enumerate(blocks)}
        if self.config.normal_variation:
            inputs |= {f"{VARIATION}.{name}": each for name, each in bank.known_variation().tensors().items()}
        return self._run(FEW_SHOT, inputs)

    def _run(self, graph: str, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        with self._one_at_a_time:
            try:
                return self.graphs[graph](inputs)
            except Exception as error:  # every runtime has errors of its own
                folder, reason = self.name_or_path, first_line(error)
                raise ValueError(f"The graph {graph} of {folder} does not take these inputs: {reason}") from error


def threads_here() -> int:
    """How many threads torch would take here."""
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # the others are of nested threads
    if asked.isdecimal() and 0 < int(asked) <= MOST_THREADS:
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def light_processor(folder: Path) -> LightProcessor:
    """How images become pixel values for an exported model.

    Raises:
        ValueError: its file is missing or damaged, or chooses what it may not.
    """
    file = folder / PROCESSOR_FILE
    try:
        content = parse_json(file.read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} cannot be read ({error}). {ANEW}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} must hold names and values, not a {type(content).__name__}.")
    return LightProcessor(LightImageProcessor.of(checked_image_settings(content, str(file))))


def require_finite_features(features: LightFeatures):
    """Refuses features of an image that the encoder could not take.

    Raises:
        ValueError: they hold NaN or infinity.
    """
    if not (np.isfinite(features.image_embeds).all() and np.isfinite(features.patch_embeds[-1]).all()):
        raise ValueError("The image encoder overflows in float32: load the model in bfloat16 or float32.")
