"""How normal images differ from one another, and distances corrected by it.

Each normal image is compared with the others. Where normal images lie far from one another anyway - an edge, a print, a
rotated head - a distance says little; where they lie close, a small one says much.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.export import register_dataclass
from torch.nn import functional as F

from .alignment import cosine_distance, nearest_tokens
from .bank_content import (
    FIELDS,
    LEAST_SPREAD,
    MOST_COMPARED,
    OWN_WEIGHT,
    SMALLEST_SPREAD,
    SMALLEST_WHOLE,
    UNKNOWN_SPREAD,
)
from .precision import full_precision, outside_autocast

if TYPE_CHECKING:
    from .prompt_bank import PromptBank

WHOLE_WEIGHT = 0.3  # of the whole image's distance beside the map's peak
HALF = 8.0  # standardised distance that is worth 0.5
NO_DISTANCE = 1e-3  # a patch well below this equals a normal one, and its place in the map becomes 0


@dataclass(frozen=True)
class NormalVariation:
    """How far normal images lie from the others, as it enters the scores; n layers, L places.

    Attributes:
        mean: (n, L) of the leave-one-out distances at each place; float32.
        spread: (n, L), what a distance beyond the mean is divided by; positive, float32.
        whole_scale: (n,) mean distance of a normal image's mean patch token to the nearest other one; float32.
        whole: (k, n, d) mean patch token of each normal image.
    """

    mean: torch.Tensor
    spread: torch.Tensor
    whole_scale: torch.Tensor  # before `whole`: torch.export takes a name for one that it begins with
    whole: torch.Tensor

    def to(self, device: torch.device | str) -> "NormalVariation":
        """On another device."""
        return NormalVariation(**{name: each.to(device) for name, each in self.tensors().items()})

    def tensors(self) -> dict[str, torch.Tensor]:
        """Its tensors by their names."""
        return {name: getattr(self, name) for name in FIELDS}


register_dataclass(NormalVariation)


@dataclass(frozen=True)
class NormalComparison:
    """Normal images compared with one another, from which the variation of any of them follows at once.

    Attributes:
        minima: (n, q, k, L) distance of each place of some images to the nearest patch of each image; float32.
        queries: (q,) numbers of these images.
        whole: (k, n, d) mean patch token of each image.
    """

    minima: torch.Tensor
    queries: torch.Tensor
    whole: torch.Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, bank: "PromptBank") -> "NormalComparison":
        """Compares the images of a bank: q = k of at most `MOST_COMPARED`, of more so many, evenly spaced."""
        count = len(bank)
        queries = torch.linspace(0, count - 1, min(count, MOST_COMPARED)).round().long()
        minima = []
        for index, layer in enumerate(bank.features):
            asking = layer[queries]
            nearest = [nearest_distances(asking, tokens) for tokens in bank.tokens_by_image(index)]
            minima.append(torch.stack(nearest, 1))
        return cls(torch.stack(minima), queries, mean_tokens(bank.features))

    def variation(self, images: Sequence[int] | None = None, of_all: bool = False) -> NormalVariation:
        """The variation among some of the images, by their numbers; among all by default.

        Args:
            of_all: how all images differ from these, in place of how these do.
        """
        queries, minima, whole = self.queries.to(self.minima.device), self.minima, self.whole
        kept = torch.arange(len(whole), device=minima.device)
        if images is not None:  # of all none is looked for: an exported graph could not tell how many there are
            kept = torch.as_tensor(list(images), device=minima.device)
            minima, whole = minima[:, :, kept], whole[kept]
            if not of_all:
                asked = torch.isin(queries, kept)
                queries, minima = queries[asked], minima[:, asked]
        itself = queries[:, None] == kept[None]
        own = minima.masked_fill(itself[None, :, :, None], torch.inf).amin(2)  # (n, q, L)
        if len(kept) < 2 or not len(queries):
            return unknown_variation(whole, own.shape[-1])
        mean, spread = shrunk(own)
        scale = whole_distances(whole, whole, itself=True).mean(0).clamp_min(SMALLEST_WHOLE)
        return NormalVariation(mean, spread, scale, whole)


@outside_autocast
def nearest_distances(images: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """(q, L, d), (N, d) -> (q, L) in float32: of each patch to the nearest token, as scores measure it."""
    some = images.split(8)
    if tokens.dtype == torch.float32:  # a third faster than to look the token up
        return torch.cat([(1 - (image @ tokens.T).amax(-1)).clamp_min(0) for image in some])
    return torch.cat([cosine_distance(image, nearest_tokens(image, tokens)) for image in some])


def mean_tokens(layers: Sequence[torch.Tensor]) -> torch.Tensor:
    """(B, n, d) mean patch token of each image in each layer, of the layers' (B, L, d)."""
    return torch.stack([full_precision(layer).mean(1) for layer in layers], 1)


def unknown_variation(whole: torch.Tensor, places: int) -> NormalVariation:
    """Of one normal image, or of images whose places are not alike: distances are only scaled."""
    layers = whole.shape[1]
    mean = torch.zeros(layers, places, device=whole.device)
    scale = torch.full((layers,), UNKNOWN_SPREAD, device=whole.device)
    return NormalVariation(mean, mean + UNKNOWN_SPREAD, scale, whole)


def shrunk(own: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and spread (n, L) at each place of leave-one-out distances (n, q, L), as far as the images tell them.

    A place's mean moves to the mean of all places by the share of its own uncertainty (empirical Bayes), and its spread
    with it: where images do not lie alike, the places do not differ beyond chance, and all get one mean and one spread.
    """
    count = own.shape[1]
    mean, overall = own.mean(1), own.mean((1, 2))[:, None]
    variance = own.var(1, correction=1) if count > 1 else overall.square().expand_as(mean)
    typical = variance.mean(-1, keepdim=True)
    between = (mean - overall).square().mean(-1, keepdim=True)
    reliable = (1 - typical / count / between.clamp_min(1e-12)).clamp(0, 1)
    weight = reliable * count / (count + OWN_WEIGHT)
    spread = (weight * variance + (1 - weight) * typical).sqrt()
    spread = spread + LEAST_SPREAD * spread.mean(-1, keepdim=True)
    return overall + reliable * (mean - overall), spread.clamp_min(SMALLEST_SPREAD)


@outside_autocast
def whole_distances(queries: torch.Tensor, normals: torch.Tensor, itself: bool = False) -> torch.Tensor:
    """(B, n, d), (k, n, d) mean tokens -> (B, n) cosine distance to the nearest normal image, layer by layer."""
    queries, normals = (F.normalize(full_precision(each), dim=-1) for each in (queries, normals))
    similarity = torch.einsum("bnd,knd->bkn", queries, normals)
    if itself:
        similarity = similarity - 3 * torch.eye(len(queries), device=queries.device)[:, :, None]
    return (1 - similarity.amax(1)).clamp_min(0)


def standardised(distances: torch.Tensor, variations: Sequence[NormalVariation]) -> torch.Tensor:
    """Distances (B, n, L) -> (B, L): beyond the normal images' mean, in their spreads, the mean over the layers.

    Args:
        variations: one for all images, or one for each.
    """
    mean, spread = (torch.stack([getattr(each, name) for each in variations]) for name in ("mean", "spread"))
    return ((distances - mean) / spread).mean(1)


def whole_terms(tokens: Sequence[torch.Tensor], variations: Sequence[NormalVariation]) -> torch.Tensor:
    """(B,) distance of whole images, by their layers' patch tokens (B, L, d), in the normal images' own ones."""
    means = mean_tokens(tokens)
    if len(variations) == 1:
        return (whole_distances(means, variations[0].whole) / variations[0].whole_scale).mean(1)
    rows = [
        whole_distances(one[None], each.whole) / each.whole_scale for one, each in zip(means, variations, strict=True)
    ]
    return torch.cat(rows).mean(1)


def probability(beyond: torch.Tensor, distances: torch.Tensor | None = None) -> torch.Tensor:
    """Of standardised distances in (0, 1), rising: 0.5 at `HALF`; large ones stay apart from one another.

    Args:
        distances: as they are, of the same shape: where there is none, the probability is 0.
    """
    positive = F.softplus(beyond)
    chance = positive / (positive + HALF)
    return chance if distances is None else chance * distances / (distances + NO_DISTANCE)


__all__ = ["NormalComparison", "NormalVariation"]
