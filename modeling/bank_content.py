"""What the file of a prompt bank holds, and what is refused in it, whichever library reads it.

Arrays are tensors of torch or NumPy's: only what both have is asked of them. Imports nothing heavy.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias

Array: TypeAlias = Any  # of torch or of NumPy

BANK_FILE = "prompt_bank.safetensors"
UNIT_TOLERANCE = 0.02  # of a token's length, which bfloat16 changes by less than 0.01
DIGEST = "sha256"  # in the file's metadata
ADDED, ADDED_OF, VARIATION = "added", "added_of", "variation"  # names of tensors in the file, beside "layer"
FIELDS = ("mean", "spread", "whole_scale", "whole")  # of a variation
# how a variation is found
MOST_COMPARED = 64  # normal images that are all compared with one another; of more, so many with all
OWN_WEIGHT = 4  # normal images: with so many a place's own spread counts half, the mean spread the other half
LEAST_SPREAD = 0.5  # of the mean spread, which is added to that of each place
SMALLEST_SPREAD, SMALLEST_WHOLE = 0.005, 1e-4  # of distances of patches and of whole images that are all but equal
UNKNOWN_SPREAD = 0.1  # of the distances of one normal image, whose variation is not known
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(?<!\.safetensors)")
STORAGES = ("float32", "float16", "int8")
FLOATS = ("float16", "bfloat16", "float32", "float64")  # that features may have; NumPy knows none of 8 bits
# how a large bank is searched
LARGE = 16384  # tokens; a smaller pool is searched through, which takes less than the encoder
TOKENS_A_GROUP = 512  # on average
GROUPS_SEARCHED = 8  # those whose centres are most like a token
SAMPLED = 32  # tokens a group that its centre is found by
ROUNDS = 4  # of k-means
TOKENS_AT_ONCE = 4096
SCALE = ".scale"  # the ending of the scales of features in int8


class BankOfImages:
    """What a bank of normal images does in whichever library its arrays are of: [`PromptBank`] in torch, [`NumpyBank`].

    A dataclass that has the fields named here, and says how its library does what they are worked on with.
    """

    if TYPE_CHECKING:
        features: tuple[Array, ...]
        fingerprint: dict[str, str]
        preprocessing: dict[str, str]
        variation: Any
        added: tuple[Array, ...] | None
        added_of: tuple[Array, ...] | None

        def _joined(self, parts: Sequence[Array]) -> Array:
            """Some arrays as one."""

        def _compared(self) -> Any:
            """Its images compared with one another, see [`NormalComparison`]."""

        def _lengths(self, tokens: Array) -> Array:
            """Of tokens (..., d), in float32."""

        def _require_finite(self, arrays: Mapping[str, Array], source: str | Path, remedy: str): ...

    def __len__(self) -> int:
        """k, the number of normal images."""
        return len(self.features[0])

    def tokens_by_image(self, layer: int) -> Iterator[Array]:
        """The tokens (N, d) of one image after the other in a layer, by its place in `features`."""
        for image, tokens in enumerate(self.features[layer]):
            if self.added is None or self.added_of is None:
                yield tokens
            else:
                yield self._joined([tokens, self.added[layer][self.added_of[layer] == image]])

    def with_variation(self) -> Self:
        """The bank that knows how its images differ from one another."""
        return replace(self, variation=self._compared().variation())  # type: ignore[type-var]

    def known_variation(self) -> Any:
        """How its images differ from one another; found anew where the bank does not know it."""
        return self._compared().variation() if self.variation is None else self.variation

    def require_match(self, fingerprint: dict[str, str], preprocessing: dict[str, str] | None = None):
        """Refuses the bank of another model or preprocessing.

        Raises:
            ValueError: names each setting that differs, with the bank's value and the expected one.
        """
        differing = differences(self.fingerprint, fingerprint)
        if preprocessing is not None and self.preprocessing:
            differing += differences(self.preprocessing, preprocessing)
        if differing:
            raise ValueError(
                f"This prompt bank was made by another model or preprocessing: {'; '.join(differing)}. Make it anew "
                "from the normal images with this model."
            )

    def require_finite(self, source: str | Path = "the prompt bank"):
        """Refuses a bank that holds NaN or infinity, with which everything would score alike.

        Raises:
            ValueError: names the source and the layer.
        """
        layers = {f"layer.{index}": layer for index, layer in enumerate(self.features)}
        layers |= {f"added.{index}": layer for index, layer in enumerate(self.added or ())}
        if self.variation is not None:
            layers |= self.variation.tensors()
        self._require_finite(layers, source, "make it anew from the normal images")

    def require_unit_tokens(self, source: str | Path):
        """Refuses a bank of tokens that are not of length one, as those of a damaged file without a digest.

        Raises:
            ValueError: names the source and the layer.
        """
        for index, layer in enumerate((*self.features, *(self.added or ()))):
            lengths = self._lengths(layer)
            if (abs(lengths - 1) > UNIT_TOLERANCE).any():
                raise ValueError(
                    f"{source}: layer.{index % len(self.features)} holds tokens of lengths up to "
                    f"{float(lengths.max()):.3g}, expected 1. It is damaged: make it anew from the normal images."
                )


def bank_file(path: Path) -> Path:
    return path if path.suffix == ".safetensors" else path / BANK_FILE


def dtype_name(array: Array) -> str:
    """Such as "float16"."""
    return str(array.dtype).removeprefix("torch.")


def is_floats(array: Array) -> bool:
    return dtype_name(array) in FLOATS


def is_added(name: str) -> bool:
    """Whether an array of this name belongs to the tokens of turned copies."""
    return name.split(".")[0] in (ADDED, ADDED_OF)


def names_of_layers(kind: str, content: Mapping[str, Array]) -> list[str]:
    """The names of all layers' tensors of a kind, in their order."""
    return [f"{kind}.{index}" for index in range(sum(bool(re.fullmatch(rf"{kind}\.\d+", name)) for name in content))]


def require_layers(features: Sequence[Array]):
    """Refuses features that are not (k, L, d) floats of the same images for each layer."""
    if not features or any(layer.ndim != 3 or not is_floats(layer) or 0 in layer.shape for layer in features):
        raise ValueError(f"expected for each layer features (k, L, d) in {', '.join(FLOATS)} or int8 with its scales")
    if len({tuple(layer.shape) for layer in features}) > 1:
        raise ValueError("its layers have different shapes")


def require_added(added: Sequence[Array], owners: Sequence[Array], features: Sequence[Array]):
    """Refuses added tokens, and the images that they come from, that do not fit the features."""
    if len(added) != len(features):
        raise ValueError("expected added tokens for each layer or for none")
    for tokens, images, layer in zip(added, owners, features, strict=True):
        fits = tokens.ndim == 2 and is_floats(tokens) and tokens.shape[-1] == layer.shape[-1]
        if not fits or dtype_name(images) != "int64" or images.shape != tokens.shape[:1]:
            raise ValueError("its added tokens do not fit its layers")
        if len(images) and not 0 <= int(images.min()) <= int(images.max()) < len(layer):
            raise ValueError("its added tokens belong to images that it does not have")


def variation_fields(content: Mapping[str, Array], features: Sequence[Array]) -> dict[str, Array] | None:
    """The fields of a file's variation, `None` where it has none; refuses one that does not fit the features."""
    found = {name: content[f"{VARIATION}.{name}"] for name in FIELDS if f"{VARIATION}.{name}" in content}
    if not found:
        return None
    layers, (places, size) = len(features), features[0].shape[1:]
    shapes = {"mean": (layers, places), "spread": (layers, places), "whole_scale": (layers,)}
    shapes["whole"] = (*found["whole"].shape[:1], layers, size) if "whole" in found else ()
    fits = (name in found and found[name].shape == shape for name, shape in shapes.items())
    if not all(fits) or not all(is_floats(each) and len(each) for each in found.values()):
        raise ValueError("its variation does not fit its layers")
    if not (found["spread"] > 0).all() or not (found["whole_scale"] > 0).all():
        raise ValueError("its variation holds spreads that are not above 0")
    return found


def strings_of(metadata: Mapping[str, str], name: str) -> dict[str, str]:
    """A JSON object of strings, of a file's metadata."""
    try:
        found = json.loads(metadata[name])
    except RecursionError as error:
        raise ValueError(f"{name} is nested too deep") from error
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ValueError(f"{name} must hold names and texts")
    return found


def require_digest(metadata: Mapping[str, str], digest: str):
    """Refuses what is not what was written; a bank of an older version has no digest."""
    if unknown := sorted(metadata.keys() - {"format", "fingerprint", "preprocessing", DIGEST}):
        raise ValueError(f"its metadata hold {unknown[0]!r}")
    if metadata.get(DIGEST, digest) != digest:
        raise ValueError("it is damaged or was changed, its SHA-256 is not the one that was written with it")


def differences(found: dict[str, str], expected: dict[str, str]) -> list[str]:
    """One phrase for each setting whose value is not the expected one."""
    return [
        f"{name} is {found.get(name, 'not recorded')[:16]}, this one's is {value[:16]}"
        for name, value in expected.items()
        if found.get(name) != value
    ]
