"""Tokens of many images in one block of memory that grows."""

from .contract import Array, Arrays, Layers


class TokenBlocks:
    """Collects each layer's tokens in one block that doubles when it is full.

    To join the parts at the end would need twice the memory. The unused end of a block is never touched.

    Args:
        arrays: of the model that makes the tokens.
        expected: how many images are expected; 0 where that is not known.

    Attributes:
        count: how many images were added.
    """

    def __init__(self, arrays: Arrays, expected: int):
        self.arrays, self.expected, self.count = arrays, expected, 0
        self.blocks: list[Array] = []

    def add(self, layers: Layers):
        """Adds images: for each layer their tokens (n, L, d)."""
        added = len(layers[0])
        if not self.blocks:
            capacity = max(self.expected, added)
            self.blocks = [self.arrays.empty(capacity, layer) for layer in layers]
        needed = self.count + added
        for index, layer in enumerate(layers):
            if needed > len(self.blocks[index]):
                larger = self.arrays.empty(max(needed, 2 * len(self.blocks[index])), layer)
                larger[: self.count] = self.blocks[index][: self.count]
                self.blocks[index] = larger
            self.blocks[index][self.count : needed] = layer
        self.count = needed

    def layers(self) -> Layers:
        """For each layer the tokens of all images (count, L, d)."""
        return tuple(block[: self.count] for block in self.blocks)
