"""The order in which training sees its queries."""

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from .prompted_images import PromptedImages


class PromptedSampler(Sampler[int]):
    """A new order every epoch, drawn from (seed, epoch); queries with and without a prompt are in separate batches.

    Each epoch leaves out the queries that would make a batch of one, which a batch norm cannot take, or a batch of both
    kinds: fewer than a batch, and different ones every epoch.

    Args:
        batch_size: queries in a step, over all processes.
    """

    def __init__(self, dataset: PromptedImages, batch_size: int, seed: int):
        self.dataset, self.batch_size, self.seed = dataset, batch_size, seed
        with_prompt = [index for index in range(len(dataset)) if dataset.has_prompt(index)]
        without = [index for index in range(len(dataset)) if not dataset.has_prompt(index)]
        self.kinds = [kind for kind in (with_prompt, without) if kind]

    def used(self, kind: list[int]) -> int:
        rest = len(kind) % self.batch_size
        return len(kind) - rest if len(self.kinds) > 1 or rest == 1 else len(kind)

    def __len__(self) -> int:
        return sum(self.used(kind) for kind in self.kinds)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + int(self.dataset.epoch))
        batches = []
        for kind in self.kinds:
            order = torch.randperm(len(kind), generator=generator)[: self.used(kind)]
            batches += [[kind[index] for index in part] for part in order.split(self.batch_size)]
        if len(self.kinds) > 1:
            batches = [batches[index] for index in torch.randperm(len(batches), generator=generator)]
        for batch in batches:
            yield from batch
