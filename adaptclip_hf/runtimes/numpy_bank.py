"""Prompt banks without torch: what [`PromptBank`] is, of NumPy's arrays, read from the same file."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from safetensors import SafetensorError, safe_open

from ..files import array_of
from ..modeling.bank_content import (
    ADDED,
    ADDED_OF,
    LARGE,
    SCALE,
    BankOfImages,
    bank_file,
    names_of_layers,
    require_added,
    require_digest,
    require_layers,
    strings_of,
    variation_fields,
)
from .numpy_arrays import NumpyArrays
from .numpy_groups import NearerOfNumpy, NumpyGroups, arranged
from .numpy_tokens import bfloat16_bytes, of_bfloat16, unit, unpack
from .numpy_variation import NumpyComparison, NumpyVariation

Layers = tuple[np.ndarray, ...]


@dataclass(frozen=True, eq=False)
class NumpyBank(BankOfImages):
    """As [`PromptBank`], as far as images are scored against it."""

    features: Layers
    fingerprint: dict[str, str]
    preprocessing: dict[str, str]
    variation: NumpyVariation | None = None
    added: Layers | None = None
    added_of: Layers | None = None
    grouped: tuple[NumpyGroups | NearerOfNumpy, ...] | None = field(default=None, repr=False)

    arrays: ClassVar[NumpyArrays] = NumpyArrays()

    def blocks(self) -> Layers:
        """See [`PromptBank.blocks`]."""
        if self.added is None:
            return self.features
        places = self.features[0].shape[1]
        length = places * -(-max(map(len, self.added)) // places)
        filled = []
        for layer, more in zip(self.features, self.added, strict=True):
            filler = np.broadcast_to(layer[0, :1], (length - len(more), layer.shape[-1]))
            filled.append(np.concatenate([layer, np.concatenate([more, filler]).reshape(-1, places, layer.shape[-1])]))
        return tuple(filled)

    def select(self, images: Sequence[int], variation: NumpyVariation | None = None) -> "NumpyBank":
        """The bank of some of its images, by their numbers; a number may be repeated.

        Args:
            variation: among these images, where it is known; by default it is found anew if the bank knows its own.
        """
        numbers = list(images)
        features = tuple(layer[numbers] for layer in self.features)
        chosen = replace(self, features=features, variation=variation, grouped=None)
        if self.added is not None and self.added_of is not None:
            parts = [[np.flatnonzero(owners == number) for number in numbers] for owners in self.added_of]
            added = tuple(layer[np.concatenate(rows)] for layer, rows in zip(self.added, parts, strict=True))
            owners = tuple(np.repeat(np.arange(len(rows)), list(map(len, rows))) for rows in parts)
            chosen = replace(chosen, added=added, added_of=owners)
        if variation is None and self.variation is not None:
            return replace(chosen, variation=chosen.known_variation())
        return chosen

    def in_groups(self, together: int = 1) -> "NumpyBank":
        """See [`PromptBank.in_groups`]; of a bank in float32."""
        tokens = self.features[0].shape[0] * self.features[0].shape[1] * together
        if tokens < LARGE or self.added is not None:
            return self
        arranged_layers = [arranged(layer.reshape(-1, layer.shape[-1])) for layer in self.features]
        features = tuple(tokens.reshape(self.features[0].shape) for tokens, _ in arranged_layers)
        return replace(self, features=features, grouped=tuple(groups for _, groups in arranged_layers))

    def searched_with(self, others: "Sequence[NumpyBank]") -> "NumpyBank":
        """See [`PromptBank.searched_with`]."""
        assert self.grouped is not None
        pools = []
        for own, *beside in zip(self.grouped, *(bank.grouped for bank in others if bank.grouped), strict=True):
            joined = NumpyGroups.joined([each for each in beside if isinstance(each, NumpyGroups)])
            pools.append(NearerOfNumpy(own, joined) if isinstance(own, NumpyGroups) else own)
        return replace(self, grouped=tuple(pools))

    def to(self, device: Any, dtype: Any = None) -> "NumpyBank":
        """The bank in float32, which runtimes take."""
        changed = {"features": tuple(layer.astype(np.float32, copy=False) for layer in self.features)}
        if self.added is not None:
            changed["added"] = tuple(layer.astype(np.float32, copy=False) for layer in self.added)
        return replace(self, **changed)  # type: ignore[arg-type]

    def digest(self) -> str:
        """See [`PromptBank.digest`]."""
        digest = hashlib.sha256()
        known = () if self.variation is None else self.variation.tensors().values()
        for layer in (*self.features, *(self.added or ()), *known):
            digest.update(bfloat16_bytes(layer))
        for owners in self.added_of or ():
            digest.update(owners.tobytes())
        return digest.hexdigest()

    def _joined(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate(list(parts))

    def _compared(self) -> NumpyComparison:
        return NumpyComparison.of(self)

    def _lengths(self, tokens: np.ndarray) -> np.ndarray:
        return np.linalg.norm(tokens.astype(np.float32, copy=False), axis=-1)

    def _require_finite(self, arrays: Mapping[str, np.ndarray], source: str | Path, remedy: str):
        require_finite(arrays, source, remedy)

    @classmethod
    def from_pretrained(cls, path: str | Path) -> "NumpyBank":
        """Reads a bank from a file here, or from the folder that holds it.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file is not a prompt bank, or is damaged.
        """
        file = bank_file(Path(path))
        if not file.is_file():
            raise FileNotFoundError(f"No prompt bank at {file}: expected a file that PromptBank.save_pretrained wrote.")
        try:
            stored, metadata = read_stored(file)
            require_digest(metadata, content_digest(stored, metadata))
            content = {name: array for name, (array, _) in stored.items()}
            features = read_layers("layer", content)
            require_layers(features)
            fingerprint, preprocessing = (strings_of(metadata, name) for name in ("fingerprint", "preprocessing"))
            fields = variation_fields(content, features)
            variation = None if fields is None else NumpyVariation(**fields)
            bank = cls(features, fingerprint, preprocessing, variation, *read_added(content, features))
        except (SafetensorError, KeyError, ValueError, TypeError) as error:
            raise ValueError(f"{file} is not a prompt bank (written by PromptBank.save_pretrained): {error}") from error
        bank.require_finite(file)
        bank.require_unit_tokens(file)
        return bank


def read_stored(file: Path) -> tuple[dict[str, tuple[np.ndarray, str]], dict[str, str]]:
    """For each tensor of a safetensors file its values and the name of its dtype, and the file's metadata.

    NumPy has no bfloat16: such values come as float32.
    """
    stored: dict[str, tuple[np.ndarray, str]] = {}
    with safe_open(file, framework="np") as opened:
        halves = [name for name in opened.keys() if opened.get_slice(name).get_dtype() == "BF16"]
        for name in opened.keys():
            if name not in halves:
                array = array_of(opened, name)
                stored[name] = array, array.dtype.name
        metadata = opened.metadata() or {}
    if halves:
        content = np.memmap(file, np.uint8, "r")
        begins = 8 + int(content[:8].view("<u8")[0])
        header = json.loads(content[8:begins].tobytes())
        for name in halves:
            first, last = (begins + offset for offset in header[name]["data_offsets"])
            bits = np.frombuffer(content[first:last].tobytes(), "<u2").reshape(header[name]["shape"])
            stored[name] = of_bfloat16(bits), "bfloat16"
    return stored, metadata


def content_digest(stored: Mapping[str, tuple[np.ndarray, str]], metadata: Mapping[str, str]) -> str:
    """SHA-256 of all that a bank's file holds, to the bit."""
    digest = hashlib.sha256(json.dumps([metadata[name] for name in ("fingerprint", "preprocessing")]).encode())
    for name, (array, dtype) in sorted(stored.items()):
        digest.update(f"{name}torch.{dtype}{tuple(array.shape)}".encode())
        digest.update(bfloat16_bytes(array) if dtype == "bfloat16" else np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def read_layers(kind: str, content: Mapping[str, np.ndarray]) -> Layers:
    """Unit tokens of each layer, of a file's arrays."""
    return tuple(
        unit(unpack(name, content, SCALE)) if name + SCALE in content else content[name]
        for name in names_of_layers(kind, content)
    )


def read_added(content: Mapping[str, np.ndarray], features: Layers) -> tuple[Layers | None, Layers | None]:
    """The added tokens of a file, and their images; refuses what does not fit the features."""
    added = read_layers(ADDED, content)
    owners = tuple(content[f"{ADDED_OF}.{index}"] for index in range(len(added)))
    if not added:
        return None, None
    require_added(added, owners, features)
    return added, owners


def require_finite(arrays: Mapping[str, np.ndarray], source: str | Path, remedy: str):
    """Refuses arrays that hold NaN or infinity, with which everything would score alike.

    Raises:
        ValueError: names the source and the first array.
    """
    if damaged := [name for name, each in arrays.items() if each.dtype.kind == "f" and not np.isfinite(each).all()]:
        more = f" and {len(damaged) - 1} more tensors" if len(damaged) > 1 else ""
        raise ValueError(f"{source}: {damaged[0]}{more} holds values that are not finite (NaN or infinity): {remedy}.")
