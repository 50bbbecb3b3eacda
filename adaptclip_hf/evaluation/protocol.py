"""What is compared with what: settings, prompt draws, batches (reference, "Evaluation protocol")."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import datasets
import torch

from ..data.checking import undecoded


class Setting(NamedTuple):
    """One column of the paper's tables: how many normal images, drawn with which seed."""

    shots: int
    seed: int

    def __str__(self) -> str:
        return f"{self.shots}-shot, seed {self.seed}"


def settings_of(shots: Sequence[int], seeds: Sequence[int]) -> list[Setting]:
    """Every number of shots with every seed; zero-shot draws nothing, so it has the first seed alone."""
    return [
        Setting(count, seed)
        for count in sorted(set(shots))
        for seed in (list(dict.fromkeys(seeds)) if count else seeds[:1])
    ]


def draw_prompts(normals: int, setting: Setting) -> list[int]:
    """Which of so many sorted normal images are the prompts, drawn with replacement."""
    generator = torch.Generator().manual_seed(setting.seed)
    return torch.randint(0, normals, (setting.shots,), generator=generator).tolist()


@dataclass
class EvaluatedCategory:
    """A category's images.

    Attributes:
        data_set, name: unique together.
        rows: of [`load_data_set`], undecoded; the category's alone.
        queries: test rows of each view, `None` being the view of a set without views.
        normals: normal training rows of each view, sorted by file.
    """

    data_set: str
    name: str
    rows: datasets.Dataset
    queries: dict[str | None, list[int]] = field(default_factory=dict)
    normals: dict[str | None, list[int]] = field(default_factory=dict)

    @classmethod
    def of_rows(cls, data_set: str, name: str, rows: datasets.Dataset) -> "EvaluatedCategory":
        category = cls(data_set, name, undecoded(rows))
        for row, (split, label, view) in enumerate(zip(rows["split"], rows["label"], rows["view"], strict=True)):
            if split == "test":
                category.queries.setdefault(view, []).append(row)
            elif label == 0:
                category.normals.setdefault(view, []).append(row)
        for view in category.normals:
            category.normals[view].sort(key=lambda row: (category.path_of(row) or "", row))
        return category

    def path_of(self, row: int) -> str | None:
        return self.rows[row]["image"]["path"]

    def path_below(self, root: Path, row: int) -> Path | None:
        """An image's path below a folder; `None` where it does not lie there."""
        path = self.path_of(row)
        return Path(path).relative_to(root) if path and Path(path).is_relative_to(root) else None

    def batches(self, size: int) -> list[list[int]]:
        """The test rows in batches of one view each: the same ones whoever scores them."""
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


def split_categories(data_set: str, rows: datasets.Dataset) -> list[EvaluatedCategory]:
    """The categories of a data set that have test images, in its order."""
    names = rows["category"]
    found: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        found.setdefault(name, []).append(row)
    categories = [EvaluatedCategory.of_rows(data_set, name, rows.select(chosen)) for name, chosen in found.items()]
    return [each for each in categories if each.queries]
