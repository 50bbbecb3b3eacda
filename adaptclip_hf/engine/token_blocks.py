"""Tokens of many images in one block of memory that grows."""

import torch


class TokenBlocks:
    """Collects each layer's tokens in one block that doubles when it is full.

    To join the parts at the end would need twice the memory. The unused end of a block is never touched.

    Args:
        expected: how many images are expected; 0 where that is not known.

    Attributes:
        count: how many images were added.
    """

    def __init__(self, expected: int):
        self.expected, self.count = expected, 0
        self.blocks: list[torch.Tensor] = []

    def add(self, layers: tuple[torch.Tensor, ...]):
        """Adds images: for each layer their tokens (n, L, d)."""
        added = len(layers[0])
        if not self.blocks:
            capacity = max(self.expected, added)
            self.blocks = [layer.new_empty((capacity, *layer.shape[1:])) for layer in layers]
        needed = self.count + added
        for index, layer in enumerate(layers):
            if needed > len(self.blocks[index]):
                larger = layer.new_empty((max(needed, 2 * len(self.blocks[index])), *layer.shape[1:]))
                larger[: self.count] = self.blocks[index][: self.count]
                self.blocks[index] = larger
            self.blocks[index][self.count : needed] = layer
        self.count = needed

    def layers(self) -> tuple[torch.Tensor, ...]:
        """For each layer the tokens of all images (count, L, d)."""
        return tuple(block[: self.count] for block in self.blocks)
