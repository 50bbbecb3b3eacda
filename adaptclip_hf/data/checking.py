"""Opens every file of a data set, so that damaged ones are named before a long run."""

import os
from concurrent.futures import ThreadPoolExecutor

import datasets
from tqdm.auto import tqdm

from ..processing.image_loading import load_image, name_of, read_mask
from ..reporting import Report


def undecoded(dataset: datasets.Dataset) -> datasets.Dataset:
    """The same rows with `image` and `mask` as `{"path", "bytes"}` instead of decoded images."""
    for column in ("image", "mask"):
        dataset = dataset.cast_column(column, datasets.Image(decode=False))
    return dataset


def drop_unreadable(dataset: datasets.Dataset, report: Report, progress: bool = True) -> datasets.Dataset:
    """The data set without the rows that [`readable_rows`] reports as left out."""
    return dataset.select(readable_rows(dataset, report, progress))


def readable_rows(dataset: datasets.Dataset, report: Report, progress: bool = True) -> list[int]:
    """Which rows have an image and a mask that can be decoded; the others, and unusual masks, are reported.

    A mask of another size than its image is kept: both are resized to the model's input.
    """
    rows = undecoded(dataset)

    def problem(index: int) -> tuple[bool, str | None]:
        row = rows[index]
        try:
            image = load_image(row["image"])
        except (OSError, ValueError) as error:
            return False, f"{name_of(row['image'])}: left out, {error}"
        if row["mask"] is None:
            return True, None
        try:
            mask, oddity = read_mask(row["mask"])
        except (OSError, ValueError) as error:
            return False, f"{name_of(row['mask'])}: left out with its image, {error}"
        if mask.shape != (image.height, image.width):
            sizes = f"{mask.shape[1]}x{mask.shape[0]}, its image {image.width}x{image.height}"
            return True, f"{name_of(row['mask'])}: the mask has {sizes}"
        if not mask.any():
            return True, f"{name_of(row['mask'])}: the mask of an anomalous image is empty"
        return True, oddity and f"{name_of(row['mask'])}: {oddity}"

    kept = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(problem, range(len(rows)))
        checked = tqdm(results, "checking", len(rows), unit="image", disable=not progress)
        for index, (usable, line) in enumerate(checked):
            if usable:
                kept.append(index)
            if line:
                report(line)
    return kept
