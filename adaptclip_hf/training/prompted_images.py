"""Training examples: test images with their masks, each with a random normal image of its category."""

from collections import defaultdict

import datasets
import numpy as np
import torch
from torch.utils.data import Dataset

from ..data.checking import undecoded
from ..modeling.loss import UNKNOWN_MASK
from ..modeling.vision_encoder import ImageFeatures
from ..processing import AdaptCLIPProcessor
from .feature_cache import FeatureCache


class PromptedImages(Dataset):
    """The test split as queries; each gets a normal image of the train split as its prompt, a new one every epoch.

    Args:
        dataset: of [`load_data_set`].
        processor: the model's.
        seed: draws depend on (seed, epoch, query) and are from the query's own category and view.
        with_prompts: `False` for a model without prompt-query adapter, which does not use prompts.

    Items hold `pixel_values` (3, S, S) and `prompt_pixel_values` (1, 3, S, S), or `image_features` and
    `prompt_features` after [`~PromptedImages.read_features_from`]; `labels` () and `mask_labels` (S, S), -100 where an
    anomalous image has no mask. A query of a category without normal images has no prompt.
    """

    def __init__(self, dataset: datasets.Dataset, processor: AdaptCLIPProcessor, seed: int = 0, with_prompts=True):
        self.rows, self.processor, self.seed = undecoded(dataset), processor, seed
        columns = {name: dataset[name] for name in ("split", "label", "category", "view")}
        self.queries: list[int] = []
        self.normals: dict[tuple, list[int]] = defaultdict(list)
        for index, (split, label, *group) in enumerate(zip(*columns.values(), strict=True)):
            if split == "test":
                self.queries.append(index)
            elif label == 0 and with_prompts:
                self.normals[tuple(group)].append(index)
        self.groups = [(columns["category"][index], columns["view"][index]) for index in self.queries]
        # in shared memory, so that workers that outlive an epoch see the new number
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self.cache: FeatureCache | None = None
        self.digests: dict[int, str] = {}
        self.packed_masks: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.queries)

    def set_epoch(self, epoch: int):
        """Chooses the prompts of an epoch; Trainer and Accelerate call it."""
        self.epoch.fill_(epoch)

    def prompt_of(self, index: int) -> int | None:
        """The row of a query's prompt in this epoch; `None` if its category has no normal image."""
        normals = self.normals.get(self.groups[index])
        if not normals:
            return None
        return normals[np.random.default_rng([self.seed, int(self.epoch), index]).integers(len(normals))]

    def has_prompt(self, index: int) -> bool:
        return self.groups[index] in self.normals

    def used_rows(self) -> list[int]:
        """Every row that may be read: the queries and the normal images of their categories."""
        groups = dict.fromkeys(self.groups)
        return [*self.queries, *(index for group in groups for index in self.normals.get(group, ()))]

    def read_features_from(self, cache: FeatureCache, digests: dict[int, str]):
        """Lets items hold features of the cache instead of pixels.

        Args:
            digests: {row: digest} of every row used.
        """
        self.cache, self.digests = cache, digests

    def __getitem__(self, index: int) -> dict:
        row = self.queries[index]
        item = {"labels": torch.tensor(self.rows[row]["label"]), "mask_labels": self.mask_labels(row)}
        prompt = self.prompt_of(index)
        if self.cache is not None:
            item["image_features"] = self.cache.read(self.digests[row])
            if prompt is not None:
                item["prompt_features"] = self.cache.read(self.digests[prompt])
        else:
            item["pixel_values"] = self.pixel_values(row)[0]
            if prompt is not None:
                item["prompt_pixel_values"] = self.pixel_values(prompt)
        return item

    def pixel_values(self, row: int) -> torch.Tensor:
        return self.processor(self.rows[row]["image"])["pixel_values"]

    def mask_labels(self, row: int) -> torch.Tensor:
        """(S, S) of 0 and 1, or of -100; decoded once and kept as bits."""
        size = self.processor.image_processor.size
        shape = (size["height"], size["width"])
        example = self.rows[row]
        if example["mask"] is None:
            return torch.full(shape, float(UNKNOWN_MASK if example["label"] else 0))
        if row not in self.packed_masks:
            resized = self.processor.image_processor.read_mask(example["mask"])
            self.packed_masks[row] = np.packbits(resized > 0)
        bits = np.unpackbits(self.packed_masks[row], count=shape[0] * shape[1])
        return torch.from_numpy(bits.reshape(shape)).float()


def collate_prompted(items: list[dict]) -> dict:
    """Joins items of [`PromptedImages`] to the arguments of the model's forward.

    Raises:
        ValueError: some queries have a prompt and some have none, which one forward cannot handle.
    """
    if len({frozenset(item) for item in items}) != 1:
        raise ValueError(
            "Some images of this batch have a normal image to compare with, others belong to a category without any. "
            "AdaptCLIPTrainer puts them into separate batches; with another loop leave those categories out."
        )
    return {
        name: stack_features([item[name] for item in items])
        if name.endswith("_features")
        else torch.stack([item[name] for item in items])
        for name in items[0]
    }


def stack_features(features: list[ImageFeatures]) -> ImageFeatures:
    layers = zip(*(each.patch_embeds for each in features), strict=True)
    return ImageFeatures(
        image_embeds=torch.cat([each.image_embeds for each in features]),
        patch_embeds=tuple(torch.cat(layer) for layer in layers),
    )
