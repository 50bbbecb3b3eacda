"""A prompt bank that grows while a stream of normal images is remembered."""

from dataclasses import replace

import torch

from ..modeling.prompt_bank import PromptBank


class GrowingBank:
    """Keeps each layer's features in one block that doubles when it is full, a layer at a time.

    Parts that are joined in the end would be in memory twice; what a block has beyond its images is never touched.

    Args:
        expected: how many images are expected, if that is known; 0 otherwise.
    """

    def __init__(self, expected: int):
        self.expected, self.count = expected, 0
        self.first: PromptBank | None = None
        self.blocks: list[torch.Tensor] = []

    def add(self, part: PromptBank):
        """Adds the images of a bank made by the same model."""
        if self.first is None:
            self.first = part
            capacity = max(self.expected, len(part))
            self.blocks = [layer.new_empty((capacity, *layer.shape[1:])) for layer in part.features]
        needed = self.count + len(part)
        for index, layer in enumerate(part.features):
            if needed > len(self.blocks[index]):
                larger = layer.new_empty((max(needed, 2 * len(self.blocks[index])), *layer.shape[1:]))
                larger[: self.count] = self.blocks[index][: self.count]
                self.blocks[index] = larger
            self.blocks[index][self.count : needed] = layer
        self.count = needed

    def bank(self) -> PromptBank:
        """The bank of all images that were added."""
        return replace(self.first, features=tuple(block[: self.count] for block in self.blocks))
