"""Anomaly maps as files: those of any program are read and scored like a model's, and a model's are written."""

import csv
import hashlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..files import whole_file
from .protocol import EvaluatedCategory, Setting
from .scoring import CategoryScorer, ScoredBatch

SUFFIXES = (".npy", ".npz", ".tiff", ".tif", ".png")
SCORES_FILE = "scores.csv"
SCORES_COLUMNS = ("data_set", "category", "image", "score")


class SavedMaps:
    """A folder of anomaly maps, a file an image, at the image's path below its data set.

    `MAPS/bottle/test/broken/000.npy` (or .npz, .tiff, .png) is the map of `DATA/bottle/test/broken/000.png`; a folder
    of the data set's name in between is found too. Higher values are more anomalous, in any range. An image's score is
    its map's maximum, or stands in `MAPS/scores.csv` with the columns `image` (the path below the data set) and
    `score`, and perhaps `data_set`.

    Raises:
        FileNotFoundError: no such folder, or no map in it.
        ValueError: a scores.csv that cannot be read.
    """

    device = torch.device("cpu")

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise FileNotFoundError(f"No folder of maps at {folder}.")
        self.files = sorted(
            file for file in self.folder.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file()
        )
        if not self.files:
            raise FileNotFoundError(f"{folder} holds no map: expected files of {', '.join(SUFFIXES)}.")
        self.by_stem: dict[Path, list[Path]] = {}
        for file in self.files:
            self.by_stem.setdefault(file.relative_to(self.folder).with_suffix(""), []).append(file)
        self.scores = read_scores(self.folder / SCORES_FILE)

    def describe(self) -> dict:
        """What the results depend on, as JSON has it: which files there are, their sizes and times."""
        digest = hashlib.sha256()
        for file in self.files:
            about = file.stat()
            digest.update(f"{file.relative_to(self.folder)} {about.st_size} {about.st_mtime_ns}\n".encode())
        return {"maps": digest.hexdigest(), "scores": "given" if self.scores else "maximum of the map"}

    def find(self, category: EvaluatedCategory, root: Path, row: int) -> Path:
        """The map of a test image.

        Raises:
            FileNotFoundError: there is none.
            ValueError: there are two.
        """
        below = self.place(category, root, row)
        prefixes = (Path(), Path(category.data_set), Path(category.name))
        found = [file for prefix in prefixes for file in self.by_stem.get(prefix / below.with_suffix(""), [])]
        if not found:
            raise FileNotFoundError(f"{below}: no map at {self.folder / below.with_suffix('.npy')} (or {SUFFIXES[1:]})")
        if len(found) > 1:
            raise ValueError(f"{below}: two maps, {found[0]} and {found[1]}")
        return found[0]

    def place(self, category: EvaluatedCategory, root: Path, row: int) -> Path:
        """An image's path below its data set.

        Raises:
            ValueError: it does not lie there.
        """
        below = category.path_below(root, row)
        if below is None:
            name = category.path_of(row) or f"row {row}"
            raise ValueError(f"{name}: the image has no path below {root} by which its map is found")
        return below

    def score(self, category: EvaluatedCategory, root: Path, row: int) -> float | None:
        """The image score that stands beside the maps; `None` where none does."""
        if self.scores is None:
            return None
        image = self.place(category, root, row).as_posix()
        for place in ((category.data_set, image), ("", image)):
            if place in self.scores:
                return self.scores[place]
        raise ValueError(f"{image}: not in {self.folder / SCORES_FILE}")


class MapScorer(CategoryScorer):
    """Maps of a folder as a category's scores; one scale for all of the category's maps."""

    def __init__(
        self,
        maps: SavedMaps,
        category: EvaluatedCategory,
        settings: list[Setting],
        workers: int,
        map_size: int | None,
        root: Path,
    ):
        super().__init__(category, settings, workers, map_size)
        self.maps, self.root = maps, root
        self.low, self.high = self._range()
        if (self.low, self.high) != (0.0, 1.0):
            self.notes.append(
                f"maps from {self.low:.6g} to {self.high:.6g} are brought to 0..1, all on one scale, and so P-threshold"
            )

    def _range(self) -> tuple[float, float]:
        """Lowest and highest value of all maps; 0 and 1 where they lie within."""
        low, high = 0.0, 1.0
        for row in (each for rows in self.category.queries.values() for each in rows):
            try:
                values = read_map(self.maps.find(self.category, self.root, row))
            except (OSError, ValueError):
                continue  # named when it is scored
            low, high = min(low, float(values.min())), max(high, float(values.max()))
        return low, high

    def score_batch(self, rows: list[int]) -> ScoredBatch:
        batch, [setting] = ScoredBatch(), self.settings
        scores, maps = [], []
        for row in rows:
            try:
                values = read_map(self.maps.find(self.category, self.root, row))
                score = self.maps.score(self.category, self.root, row)
                mask = self.mask_of(row, *values.shape)
            except (OSError, ValueError) as error:
                batch.failures[row] = str(error)
                continue
            scores.append(float(values.max()) if score is None else score)
            scaled = torch.from_numpy(((values - self.low) / (self.high - self.low)).astype(np.float32))
            maps.append(self.reduced(scaled[None])[0].clamp(0, 1).numpy())
            batch.masks.append(mask)
            batch.rows.append(row)
        if batch.rows:
            batch.scores[setting], batch.anomaly_maps[setting] = np.array(scores, np.float32), np.stack(maps)
        return batch


def read_map(file: Path) -> np.ndarray:
    """An anomaly map (H, W), float64.

    Raises:
        ValueError: it cannot be read, has another shape, or values that are not finite.
    """
    try:
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as arrays:
                if len(arrays.files) != 1:
                    raise ValueError(f"expected one array, got {arrays.files}")
                values = arrays[arrays.files[0]]
        elif file.suffix == ".npy":
            values = np.load(file, allow_pickle=False)
        else:
            with Image.open(file) as image:
                values = np.asarray(image)
    except Exception as error:
        raise ValueError(f"{file}: the map cannot be read: {error}") from error
    squeezed = values.squeeze()
    if squeezed.ndim != 2 or 0 in squeezed.shape:
        raise ValueError(f"{file}: expected a map (H, W) of one channel, got {values.shape}")
    if not np.issubdtype(squeezed.dtype, np.number) or not np.isfinite(squeezed).all():
        raise ValueError(f"{file}: expected finite numbers, got {squeezed.dtype} with values that are none")
    return squeezed.astype(np.float64)


def read_scores(file: Path) -> dict[tuple[str, str], float] | None:
    """{(data set or "", image): score}; `None` where there is no such file."""
    if not file.is_file():
        return None
    with file.open(newline="", encoding="utf-8") as opened:
        lines = csv.DictReader(opened)
        if not {"image", "score"} <= set(lines.fieldnames or ()):
            raise ValueError(f"{file}: expected the columns image and score, got {lines.fieldnames}.")
        try:
            return {(line.get("data_set") or "", line["image"]): float(line["score"]) for line in lines}
        except (TypeError, ValueError) as error:
            raise ValueError(f"{file}, line {lines.line_num}: {error}") from error


def save_maps(batch: ScoredBatch, category: EvaluatedCategory, root: Path, folder: Path):
    """Writes the maps of a batch as float32 .npy, in a folder of each setting."""
    for setting, maps in batch.anomaly_maps.items():
        for row, anomaly_map in zip(batch.rows, maps, strict=True):
            below = category.path_below(root, row) or Path(f"row {row}")
            file = folder_of(setting, folder) / category.data_set / below.with_suffix(".npy")
            with whole_file(file) as opened:
                np.save(opened, anomaly_map.astype(np.float32), allow_pickle=False)


def save_scores(records: list[dict], folder: Path):
    """Writes the image scores beside the maps of each setting."""
    lines: dict[Setting, list[tuple]] = {}
    for record in records:
        for image in record["scores"]:
            for run, score in zip(record["results"], image["scores"], strict=True):
                if score is not None:
                    place = (record["data_set"], record["category"], image["image"], score)
                    lines.setdefault(Setting(run["shots"], run["seed"]), []).append(place)
    for setting, rows in lines.items():
        file = folder_of(setting, folder) / SCORES_FILE
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("w", newline="", encoding="utf-8") as opened:
            writer = csv.writer(opened)
            writer.writerow(SCORES_COLUMNS)
            writer.writerows(rows)


def folder_of(setting: Setting, folder: Path) -> Path:
    return folder / f"{setting.shots}-shot_seed-{setting.seed}"
