"""A prompt bank: the features of some normal images."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.export import register_dataclass
from torch.nn import functional as F
from transformers.utils import cached_file

from .bank_content import (
    ADDED,
    ADDED_OF,
    BANK_FILE,
    DIGEST,
    HUB_ID,
    LARGE,
    SCALE,
    VARIATION,
    BankOfImages,
    bank_file,
    names_of_layers,
    require_added,
    require_digest,
    require_layers,
    strings_of,
    variation_fields,
)
from .coreset import greedy_coreset
from .damage import require_finite
from .hooks import hook
from .normal_variation import NormalComparison, NormalVariation
from .packing import pack, unpack
from .token_groups import GroupedLayers, NearerOf, TokenGroups

if TYPE_CHECKING:
    from typing_extensions import TypeIs


@dataclass(frozen=True, eq=False)
class PromptBank(BankOfImages):
    """Features of k normal images, compared with any number of queries.

    Attributes:
        features: for each chosen layer (k, L, d), L2-normalised patch tokens without class token.
        fingerprint: of the model that made them: its settings and a digest of its image encoder. Adapters are not part
            of it, so a bank stays valid when the adapters are trained again.
        preprocessing: how the images became pixel values; empty if that is not known.
        variation: how the images differ from one another; `None` where scores do not use it.
        added: for each chosen layer (M, d), tokens of turned or mirrored copies of the images, in which these have
            something new; `None` without such copies.
        added_of: for each chosen layer (M,) int64, the image that each of these tokens comes from.
        grouped: the features in groups, of [`~PromptBank.in_groups`]; of no use to a bank that has other features.
    """

    features: tuple[torch.Tensor, ...]
    fingerprint: dict[str, str]
    preprocessing: dict[str, str]
    variation: NormalVariation | None = None
    added: tuple[torch.Tensor, ...] | None = None
    added_of: tuple[torch.Tensor, ...] | None = None
    grouped: GroupedLayers | None = field(default=None, repr=False)

    def __eq__(self, other) -> bool:
        """Whether everything that it holds is equal."""
        if not isinstance(other, PromptBank):
            return NotImplemented
        if (self.fingerprint, self.preprocessing) != (other.fingerprint, other.preprocessing):
            return False
        ours, theirs = ((bank.features, bank.added, bank.added_of, known(bank.variation)) for bank in (self, other))
        return all(map(same, ours, theirs))

    def __hash__(self) -> int:
        return hash((len(self), *sorted(self.fingerprint.items())))

    def pools(self) -> tuple[torch.Tensor, ...]:
        """For each layer one pool (N, d) of all images' tokens, without a copy where no tokens were added."""
        pools = tuple(layer.flatten(0, 1) for layer in self.features)
        return pools if self.added is None else tuple(map(torch.cat, zip(pools, self.added, strict=True)))

    def in_groups(self, together: int = 1) -> "PromptBank":
        """The bank to score with: on a CPU a large one has its tokens in groups, and no longer image by image.

        Args:
            together: how many banks as large as this one are searched together.
        """
        places = self.features[0].shape[0] * self.features[0].shape[1] * together
        if places < LARGE or self.added is not None or self.features[0].device.type != "cpu":
            return self
        grouped = GroupedLayers.of(self.features)
        return replace(self, features=grouped.layers, grouped=grouped)

    def searched_with(self, others: "Sequence[PromptBank]") -> "PromptBank":
        """A bank in groups that also finds tokens of others that are, without a copy of them."""
        assert self.grouped is not None
        pools = []
        for own, *beside in zip(
            self.grouped.pools, *(bank.grouped.pools for bank in others if bank.grouped), strict=True
        ):
            joined = TokenGroups.joined([each for each in beside if isinstance(each, TokenGroups)])
            pools.append(NearerOf(own, joined) if isinstance(own, TokenGroups) else own)
        return replace(self, grouped=GroupedLayers(self.features, tuple(pools)))

    def searched(self) -> "Sequence[torch.Tensor | TokenGroups | NearerOf]":
        """For each layer what is searched for the nearest token: its pool, in groups where it was grouped."""
        return self.grouped.pools if self.grouped is not None and self.is_grouped else self.pools()

    @property
    def is_grouped(self) -> bool:
        """Whether its tokens are in groups, which are those of its own features."""
        return self.grouped is not None and self.added is None and self.grouped.belongs_to(self.features)

    def blocks(self) -> tuple[torch.Tensor, ...]:
        """For each layer (k + j, L, d): the images, and the added tokens in blocks of L, the last one filled up."""
        if self.added is None:
            return self.features
        places = self.features[0].shape[1]
        length = places * -(-max(map(len, self.added)) // places)
        filled = []
        for layer, more in zip(self.features, self.added, strict=True):
            filler = layer[0, :1].expand(length - len(more), -1)
            filled.append(torch.cat([layer, torch.cat([more, filler]).view(-1, places, layer.shape[-1])]))
        return tuple(filled)

    @classmethod
    def concatenate(cls, banks: Sequence["PromptBank"]) -> "PromptBank":
        """One bank with the images of several banks of the same model; it knows their variation if one of them did."""
        features = tuple(torch.cat(layer) for layer in zip(*(bank.features for bank in banks), strict=True))
        if all(bank.added is None for bank in banks):
            return replace(banks[0], features=features, variation=None)._like(banks)
        added = [tuple(layer[:0, 0] for layer in bank.features) if bank.added is None else bank.added for bank in banks]
        firsts = [sum(map(len, banks[:number])) for number in range(len(banks))]
        owners = [
            tuple(layer[:0, 0, 0].long() for layer in bank.features)
            if bank.added_of is None
            else tuple(layer + first for layer in bank.added_of)
            for bank, first in zip(banks, firsts, strict=True)
        ]
        joined = replace(
            banks[0],
            features=features,
            variation=None,
            added=tuple(map(torch.cat, zip(*added, strict=True))),
            added_of=tuple(map(torch.cat, zip(*owners, strict=True))),
        )
        return joined._like(banks)

    def _like(self, banks: Sequence["PromptBank"]) -> "PromptBank":
        """With its variation, if one of the banks that it comes from knows its own."""
        return self.with_variation() if any(bank.variation is not None for bank in banks) else self

    def select(self, images: Sequence[int], variation: NormalVariation | None = None) -> "PromptBank":
        """The bank of some of its images, by their numbers; a number may be repeated.

        Args:
            variation: among these images, where it is known; by default it is found anew if the bank knows its own.
        """
        numbers = list(images)
        chosen = replace(self, features=tuple(layer[numbers] for layer in self.features), variation=variation)
        if self.added is not None and self.added_of is not None:
            parts = [[torch.nonzero(owners == number).flatten() for number in numbers] for owners in self.added_of]
            chosen = replace(
                chosen,
                added=tuple(layer[torch.cat(rows)] for layer, rows in zip(self.added, parts, strict=True)),
                added_of=tuple(
                    torch.cat([torch.full_like(row, place) for place, row in enumerate(rows)]) for rows in parts
                ),
            )
        return chosen if variation is not None else chosen._like([self])

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
        chosen = sorted(greedy_coreset(self.features, count))
        if self.variation is None:
            return self.select(chosen)
        # all images tell how a good one differs from those that stay
        return self.select(chosen, NormalComparison.of(self).variation(chosen, of_all=True))

    def digest(self) -> str:
        """SHA-256 of the features and the variation, each rounded to bfloat16: it differs for other normal images."""
        digest = hashlib.sha256()
        for layer in (*self.features, *(self.added or ()), *(known(self.variation) or ())):
            digest.update(layer.to(torch.bfloat16).cpu().contiguous().view(torch.int16).numpy().data)
        for owners in self.added_of or ():
            digest.update(owners.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "PromptBank":
        """The bank on another device or in another dtype, without a copy where nothing changes."""
        moved = replace(self, features=tuple(layer.to(device, dtype) for layer in self.features))
        if self.variation is not None:
            moved = replace(moved, variation=self.variation.to(device))
        if self.added is not None and self.added_of is not None:
            added = tuple(layer.to(device, dtype) for layer in self.added)
            moved = replace(moved, added=added, added_of=tuple(layer.to(device) for layer in self.added_of))
        return moved

    def _joined(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        return torch.cat(list(parts))

    def _compared(self) -> NormalComparison:
        return NormalComparison.of(self)

    def _lengths(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens.float().norm(dim=-1)

    def _require_finite(self, arrays: Mapping[str, torch.Tensor], source: str | Path, remedy: str):
        require_finite(arrays, source, remedy)

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
        for index, layer in enumerate(self.added or ()):
            tensors |= pack(f"{ADDED}.{index}", layer, storage)
        tensors |= {f"{ADDED_OF}.{index}": layer for index, layer in enumerate(self.added_of or ())}
        if self.variation is not None:
            tensors |= {f"{VARIATION}.{name}": each.contiguous() for name, each in self.variation.tensors().items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        metadata = {"fingerprint": json.dumps(self.fingerprint), "preprocessing": json.dumps(self.preprocessing)}
        metadata |= {"format": "pt", DIGEST: content_digest(tensors, metadata)}
        save_file(tensors, path, metadata=metadata)
        return path

    def push_to_hub(self, repo_id: str, **options) -> str:
        """Pushes the bank and its card to the Hub, for `PromptBank.from_pretrained(repo_id)` and `prompt_bank=repo_id`.

        Args:
            repo_id: `OWNER/NAME`; made if it is not there.
            options: of the package's `publish`: `model`, `normal_images`, `private`, `create_pr`, `tags`, ...

        Returns:
            `CommitInfo`: a `str`, the commit's URL.

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
            require_digest(metadata, content_digest(content, metadata))
            features = read_layers("layer", content)
            require_layers(features)
            fingerprint, preprocessing = (strings_of(metadata, name) for name in ("fingerprint", "preprocessing"))
            variation = read_variation(content, features)
            bank = cls(features, fingerprint, preprocessing, variation, *read_added(content, features))
        except (SafetensorError, KeyError, ValueError, RuntimeError, TypeError) as error:
            raise ValueError(f"{file} is not a prompt bank (written by PromptBank.save_pretrained): {error}") from error
        bank.require_finite(file)
        bank.require_unit_tokens(file)
        return bank


def known(variation: NormalVariation | None) -> tuple[torch.Tensor, ...] | None:
    return None if variation is None else tuple(variation.tensors().values())


def same(ours: Sequence[torch.Tensor] | None, others: Sequence[torch.Tensor] | None) -> bool:
    if ours is None or others is None:
        return ours is others
    return len(ours) == len(others) and all(map(torch.equal, ours, others))


def read_layers(kind: str, content: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Unit tokens of each layer, of a file's tensors."""
    return tuple(
        F.normalize(unpack(name, content), dim=-1) if name + SCALE in content else content[name]
        for name in names_of_layers(kind, content)
    )


def read_added(
    content: dict[str, torch.Tensor], features: tuple[torch.Tensor, ...]
) -> tuple[tuple[torch.Tensor, ...] | None, tuple[torch.Tensor, ...] | None]:
    """The added tokens of a file, and their images; refuses what does not fit the features."""
    added = read_layers(ADDED, content)
    owners = tuple(content[f"{ADDED_OF}.{index}"] for index in range(len(added)))
    if not added:
        return None, None
    require_added(added, owners, features)
    return added, owners


def read_variation(content: dict[str, torch.Tensor], features: tuple[torch.Tensor, ...]) -> NormalVariation | None:
    """The variation of a file; refuses one that does not fit the features."""
    found = variation_fields(content, features)
    return None if found is None else NormalVariation(**found)


def content_digest(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> str:
    """SHA-256 of all that a bank's file holds: to the bit, unlike [`PromptBank.digest`]."""
    digest = hashlib.sha256(json.dumps([metadata[name] for name in ("fingerprint", "preprocessing")]).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def is_bank(value) -> "TypeIs[PromptBank]":
    """Whether it is a prompt bank, also where its class was loaded a second time, as remote code."""
    return isinstance(value, PromptBank) or type(value).__name__ == PromptBank.__name__


register_dataclass(PromptBank)  # a bank may be an input of an exported graph


__all__ = ["PromptBank"]
