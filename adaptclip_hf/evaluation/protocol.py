"""What is compared with what: settings, prompt draws and batches (reference, "Evaluation protocol")."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import datasets
import torch

from ..data.checking import undecoded


class Setting(NamedTuple):
    """One column of the paper's tables: the number of normal images, and the seed that draws them."""

    shots: int
    seed: int

    def __str__(self) -> str:
        return f"{self.shots}-shot, seed {self.seed}"


def settings_of(shots: Sequence[int], seeds: Sequence[int]) -> list[Setting]:
    """Every number of shots with every seed; zero-shot draws nothing, so only the first seed is used for it."""
    return [
        Setting(count, seed)
        for count in sorted(set(shots))
        for seed in (list(dict.fromkeys(seeds)) if count else seeds[:1])
    ]


def draw_prompts(normals: int, setting: Setting) -> list[int]:
    """The indices of the prompts among the sorted normal images, drawn with replacement."""
    generator = torch.Generator().manual_seed(setting.seed)
    return torch.randint(0, normals, (setting.shots,), generator=generator).tolist()


@dataclass
class EvaluatedCategory:
    """A category's images.

    Attributes:
        name: unique in its data set.
        rows: the category's rows of [`load_data_set`], undecoded.
        root: the data set's folder, from which paths are given.
        data_set: the data set's name.
        queries: {view: its test rows}; the view is `None` in a set without views.
        normals: {view: its normal training rows}, sorted by file.
    """

    name: str
    rows: datasets.Dataset
    root: Path
    data_set: str = ""
    queries: dict[str | None, list[int]] = field(default_factory=dict)
    normals: dict[str | None, list[int]] = field(default_factory=dict)

    @classmethod
    def of_rows(cls, name: str, rows: datasets.Dataset, root: Path) -> "EvaluatedCategory":
        category = cls(name, undecoded(rows), root)
        for row, (split, label, view) in enumerate(zip(rows["split"], rows["label"], rows["view"], strict=True)):
            if split == "test":
                category.queries.setdefault(view, []).append(row)
            elif label == 0:
                category.normals.setdefault(view, []).append(row)
        for normals in category.normals.values():
            normals.sort(key=lambda row: (category.path_of(row) or "", row))
        return category

    def path_of(self, row: int) -> str | None:
        return self.rows[row]["image"]["path"]

    def path_below(self, row: int) -> Path | None:
        """An image's path relative to the data set's folder; `None` where it lies elsewhere, or `..` may lead there."""
        path = self.path_of(row)
        if not path or not Path(path).is_relative_to(self.root):
            return None
        below = Path(path).relative_to(self.root)
        return None if ".." in below.parts else below

    def name_of(self, row: int) -> str:
        """What results call an image: its path relative to the data set's folder where it has one."""
        below = self.path_below(row)
        return below.as_posix() if below else self.path_of(row) or f"row {row}"

    def batches(self, size: int) -> list[list[int]]:
        """The test rows in batches of one view each; the batches do not depend on which process scores them."""
        return [
            rows[first : first + size]
            for view, rows in sorted(self.queries.items(), key=lambda each: each[0] or "")
            for first in range(0, len(rows), size)
        ]

    def prompts(self, view: str | None, setting: Setting) -> list[int]:
        """The rows of the normal images drawn for a view."""
        return [self.normals[view][index] for index in draw_prompts(len(self.normals[view]), setting)]

    def views_without_normals(self) -> list[str | None]:
        return [view for view in self.queries if not self.normals.get(view)]


def split_categories(rows: datasets.Dataset, root: Path) -> list[EvaluatedCategory]:
    """The categories of a data set that have test images, in its order."""
    found: dict[str, list[int]] = {}
    for row, name in enumerate(rows["category"]):
        found.setdefault(name, []).append(row)
    categories = [EvaluatedCategory.of_rows(name, rows.select(chosen), root) for name, chosen in found.items()]
    return [each for each in categories if each.queries]
