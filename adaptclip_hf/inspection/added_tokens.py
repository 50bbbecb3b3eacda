"""Tokens that turned copies of photos add to a bank, as a profile keeps them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from ..modeling.bank_content import ADDED, ADDED_OF
from ..modeling.packing import pack
from ..modeling.prompt_bank import read_added

Layers = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class AddedTokens:
    """Tokens of turned copies of tiles, on the CPU.

    Attributes:
        tensors: as they lie in a file: for each layer "added.0" (M, d), packed, and "added_of.0" (M,), the row of the
            tile that each comes from; empty without copies.
    """

    tensors: dict[str, torch.Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, added: Layers | None, added_of: Layers | None, storage: str) -> "AddedTokens":
        """Of what [`TurnedCopies`] collected."""
        tensors: dict[str, torch.Tensor] = {}
        for index, (tokens, owners) in enumerate(zip(added or (), added_of or (), strict=True)):
            tensors |= pack(f"{ADDED}.{index}", tokens.cpu(), storage) | {f"{ADDED_OF}.{index}": owners.cpu()}
        return cls(tensors)

    def unpacked(self, features: Layers) -> tuple[Layers, Layers] | tuple[None, None]:
        """For each layer unit tokens (M, d) in the dtype of the features, and the tiles (M,) that they come from."""
        added, added_of = read_added(self.tensors, features)
        if added is None or added_of is None:
            return None, None
        return tuple(layer.to(like.dtype) for layer, like in zip(added, features, strict=True)), added_of

    def select(self, rows: Sequence[int]) -> "AddedTokens":
        """Those of some tiles, in ascending order, which become the first ones."""
        kept, first = torch.as_tensor(list(rows)), {}
        for name, owners in self.tensors.items():
            if name.startswith(f"{ADDED_OF}."):
                stay = torch.isin(owners, kept)
                index = name.removeprefix(f"{ADDED_OF}.")
                first[name] = torch.searchsorted(kept, owners[stay])
                tokens = [each for each in self.tensors if each.split(".")[:2] == [ADDED, index]]  # and their scales
                first |= {each: self.tensors[each][stay] for each in tokens}
        return AddedTokens(first)

    def joined(self, other: "AddedTokens", count: int) -> "AddedTokens":
        """These, then those of other tiles.

        Args:
            count: how many tiles there are before the other ones.
        """
        moved = dict(other.tensors)
        moved |= {name: owners + count for name, owners in moved.items() if name.startswith(f"{ADDED_OF}.")}
        if not self.tensors or not moved:
            return AddedTokens(self.tensors or moved)
        return AddedTokens({name: torch.cat([tensor, moved[name]]) for name, tensor in self.tensors.items()})
