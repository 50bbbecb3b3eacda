"""A prompt bank: the features of some normal images."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.export import register_dataclass
from torch.nn import functional as F
from transformers.utils import cached_file

from .coreset import greedy_coreset
from .damage import require_finite
from .hooks import hook
from .packing import SCALE, pack, unpack

if TYPE_CHECKING:
    from typing_extensions import TypeIs

BANK_FILE = "prompt_bank.safetensors"
UNIT_TOLERANCE = 0.02  # of a token's length, which bfloat16 changes by less than 0.01
DIGEST = "sha256"  # in the file's metadata
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(?<!\.safetensors)")


@dataclass(frozen=True, eq=False)
class PromptBank:
    """Features of k normal images, compared with any number of queries.

    Attributes:
        features: for each chosen layer (k, L, d), L2-normalised patch tokens without class token.
        fingerprint: of the model that made them: its settings and a digest of its image encoder. Adapters are not part
            of it, so a bank stays valid when the adapters are trained again.
        preprocessing: how the images became pixel values; empty if that is not known.
    """

    features: tuple[torch.Tensor, ...]
    fingerprint: dict[str, str]
    preprocessing: dict[str, str]

    def __len__(self) -> int:
        """k, the number of normal images."""
        return len(self.features[0])

    def __eq__(self, other) -> bool:
        """Whether the features, the fingerprint and the preprocessing are all equal."""
        if not isinstance(other, PromptBank):
            return NotImplemented
        made_alike = (self.fingerprint, self.preprocessing) == (other.fingerprint, other.preprocessing)
        return made_alike and all(map(torch.equal, self.features, other.features))

    def __hash__(self) -> int:
        return hash((len(self), *sorted(self.fingerprint.items())))

    def pools(self) -> tuple[torch.Tensor, ...]:
        """For each layer one pool (k*L, d) of all images' tokens, without a copy."""
        return tuple(layer.flatten(0, 1) for layer in self.features)

    @classmethod
    def concatenate(cls, banks: Sequence["PromptBank"]) -> "PromptBank":
        """One bank with the images of several banks of the same model."""
        layers = zip(*(bank.features for bank in banks), strict=True)
        return replace(banks[0], features=tuple(torch.cat(layer) for layer in layers))

    def select(self, images: Sequence[int]) -> "PromptBank":
        """The bank of some of its images, by their numbers; a number may be repeated."""
        return replace(self, features=tuple(layer[list(images)] for layer in self.features))

    def append(self, other: "PromptBank") -> "PromptBank":
        """The bank with the images of another bank after its own.

        Raises:
            ValueError: the other bank was made by another model or preprocessing; names what differs.
        """
        other.require_match(self.fingerprint, self.preprocessing)
        return PromptBank.concatenate([self, other.to(self.features[0].device, self.features[0].dtype)])

    def drop(self, images: Sequence[int]) -> "PromptBank":
        """The bank without some of its images, by their numbers.

        Raises:
            ValueError: a number that the bank does not have, or no image would be left.
        """
        if missing := sorted(image for image in images if not 0 <= image < len(self)):
            raise ValueError(f"There is no image {missing[0]} in a bank of {len(self)}: they are 0 to {len(self) - 1}.")
        if not (kept := sorted(set(range(len(self))) - set(images))):
            raise ValueError("A prompt bank needs at least one image; all would be dropped.")
        return self.select(kept)

    def reduce(self, count: int) -> "PromptBank":
        """A smaller bank of the images that represent all best, chosen by a greedy coreset.

        Args:
            count: how many images; a bank with no more than that is returned as it is.

        Raises:
            ValueError: `count` is less than one.
        """
        if count < 1:
            raise ValueError(f"A prompt bank needs at least one image, got {count}.")
        if count >= len(self):
            return self
        return self.select(sorted(greedy_coreset(self.features, count)))

    def digest(self) -> str:
        """SHA-256 of the features, each rounded to bfloat16: it differs for other normal images."""
        digest = hashlib.sha256()
        for layer in self.features:
            digest.update(layer.to(torch.bfloat16).cpu().contiguous().view(torch.int16).numpy().data)
        return digest.hexdigest()

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "PromptBank":
        """The bank on another device or in another dtype, without a copy where nothing changes."""
        return replace(self, features=tuple(layer.to(device, dtype) for layer in self.features))

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
        require_finite(layers, source, "make it anew from the normal images")

    def require_unit_tokens(self, source: str | Path):
        """Refuses a bank of tokens that are not of length one, as those of a damaged file without a digest.

        Raises:
            ValueError: names the source and the layer.
        """
        for index, layer in enumerate(self.features):
            lengths = layer.float().norm(dim=-1)
            if ((lengths - 1).abs() > UNIT_TOLERANCE).any():
                raise ValueError(
                    f"{source}: layer.{index} holds tokens of lengths up to {float(lengths.max()):.3g}, expected 1. It "
                    "is damaged: make it anew from the normal images."
                )

    def save_pretrained(self, save_path: str | Path, storage: str | None = None) -> Path:
        """Writes the bank to a `.safetensors` file, or as `prompt_bank.safetensors` into a folder; returns the file.

        Args:
            storage: "float32", "float16" or "int8" (a quarter of float32's bytes); by default the features' own dtype.

        Raises:
            ValueError: an unknown storage.
        """
        path = bank_file(Path(save_path))
        tensors: dict[str, torch.Tensor] = {}
        for index, layer in enumerate(self.features):
            tensors |= pack(f"layer.{index}", layer, storage)
        path.parent.mkdir(parents=True, exist_ok=True)
        metadata = {"fingerprint": json.dumps(self.fingerprint), "preprocessing": json.dumps(self.preprocessing)}
        metadata |= {"format": "pt", DIGEST: content_digest(tensors, metadata)}
        save_file(tensors, path, metadata=metadata)
        return path

    def push_to_hub(self, repo_id: str, **options) -> str:
        """Pushes the bank and its card to the Hub, for `PromptBank.from_pretrained(repo_id)` and `prompt_bank=repo_id`.

        Args:
            repo_id: `OWNER/NAME`; made if it is not there.
            options: of the package's `publish`: `model`, `normal_images`, `private`, ...

        Returns:
            `str`: the commit's URL.

        Raises:
            ImportError: only the model's own code is here, without the package.
        """
        return hook("publish", "push_to_hub")(self, repo_id, **options)

    @classmethod
    def from_pretrained(cls, path: str | Path, **hub) -> "PromptBank":
        """Reads a bank from a `.safetensors` file, from the folder that holds `prompt_bank.safetensors`, or the Hub.

        Args:
            path: file, folder, or the Hub id of a repository (`OWNER/NAME`).
            hub: the usual arguments of a download (`revision`, `token`, `cache_dir`, `local_files_only`).

        Raises:
            FileNotFoundError: no such file, folder or repository.
            ValueError: the file is not a prompt bank, or is damaged.
        """
        file = bank_file(Path(path))
        if not file.is_file() and HUB_ID.fullmatch(str(path)) and not Path(path).exists():
            try:
                file = Path(cached_file(str(path), BANK_FILE, **hub))
            except OSError as error:  # no such repository, one that may not be read, or one without a bank
                raise FileNotFoundError(
                    f"No prompt bank at {path}, neither a folder here nor on the Hub: {error}"
                ) from error
        if not file.is_file():
            raise FileNotFoundError(f"No prompt bank at {file}: expected a file that PromptBank.save_pretrained wrote.")
        try:
            with safe_open(file, framework="pt") as tensors:
                metadata = tensors.metadata() or {}
                content = {name: tensors.get_tensor(name) for name in tensors.keys()}
            require_same_content(content, metadata)
            names = [f"layer.{index}" for index in range(sum(not name.endswith(SCALE) for name in content))]
            features = tuple(
                F.normalize(unpack(name, content), dim=-1) if name + SCALE in content else content[name]
                for name in names
            )
            require_layers(features)
            bank = cls(features, *(strings_of(metadata, name) for name in ("fingerprint", "preprocessing")))
        except (SafetensorError, KeyError, ValueError, RuntimeError, TypeError) as error:
            raise ValueError(f"{file} is not a prompt bank (written by PromptBank.save_pretrained): {error}") from error
        bank.require_finite(file)
        bank.require_unit_tokens(file)
        return bank


def content_digest(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> str:
    """SHA-256 of all that a bank's file holds: to the bit, unlike [`PromptBank.digest`]."""
    digest = hashlib.sha256(json.dumps([metadata[name] for name in ("fingerprint", "preprocessing")]).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def require_same_content(tensors: dict[str, torch.Tensor], metadata: dict[str, str]):
    """Refuses what is not what was written; a bank of an older version has no digest."""
    if unknown := sorted(metadata.keys() - {"format", "fingerprint", "preprocessing", DIGEST}):
        raise ValueError(f"its metadata hold {unknown[0]!r}")
    if metadata.get(DIGEST, digest := content_digest(tensors, metadata)) != digest:
        raise ValueError("it is damaged or was changed, its SHA-256 is not the one that was written with it")


def require_layers(features: tuple[torch.Tensor, ...]):
    """Refuses features that are not (k, L, d) floats of the same images for each layer."""
    if not features or any(layer.ndim != 3 or not layer.is_floating_point() or not layer.numel() for layer in features):
        raise ValueError("expected for each layer features (k, L, d)")
    if len({layer.shape for layer in features}) > 1:
        raise ValueError("its layers have different shapes")


def strings_of(metadata: dict[str, str], name: str) -> dict[str, str]:
    """A JSON object of strings, of a file's metadata."""
    try:
        found = json.loads(metadata[name])
    except RecursionError as error:
        raise ValueError(f"{name} is nested too deep") from error
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ValueError(f"{name} must hold names and texts")
    return found


def is_bank(value) -> "TypeIs[PromptBank]":
    """Whether it is a prompt bank, also where its class was loaded a second time, as remote code."""
    return isinstance(value, PromptBank) or type(value).__name__ == PromptBank.__name__


def bank_file(path: Path) -> Path:
    return path if path.suffix == ".safetensors" else path / BANK_FILE


register_dataclass(PromptBank)  # a bank may be an input of an exported graph


def differences(found: dict[str, str], expected: dict[str, str]) -> list[str]:
    """One phrase for each setting whose value is not the expected one."""
    return [
        f"{name} is {found.get(name, 'not recorded')[:16]}, this one's is {value[:16]}"
        for name, value in expected.items()
        if found.get(name) != value
    ]


__all__ = ["PromptBank"]
