"""Anomaly maps as files: maps of any program are read and scored like a model's, and a model's maps are written."""

import csv
import hashlib
import io
import math
from pathlib import Path

import numpy as np
import torch

from ..files import file_name, from_csv_cell, inside, whole_file, write_array, write_csv
from ..processing.image_loading import mask_values
from ..processing.image_opening import open_picture
from .protocol import EvaluatedCategory, Setting
from .scoring import CategoryScorer, ScoredBatch

SUFFIXES = (".npy", ".npz", ".tiff", ".tif", ".png")
SCORES_FILE = "scores.csv"
SCORES_COLUMNS = ("data_set", "category", "image", "score")


class SavedMaps:
    """A folder of anomaly maps, one file for each image, at the image's path relative to its data set.

    `MAPS/bottle/test/broken/000.npy` (or .npz, .tiff, .png) is the map of `DATA/bottle/test/broken/000.png`; it is also
    found in a subfolder named as the data set or the category. Higher values are more anomalous, in any range. An
    image's score is its map's maximum, or a line of `MAPS/scores.csv` with the columns `image` (the path relative to
    the data set), `score` and optionally `data_set`.

    Raises:
        FileNotFoundError: there is no such folder, or no map in it.
        ValueError: scores.csv cannot be read.
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
        """What the results depend on, as JSON values: a digest of the files' names, sizes and times."""
        digest = hashlib.sha256()
        for file in self.files:
            about = file.stat()
            digest.update(f"{file.relative_to(self.folder)} {about.st_size} {about.st_mtime_ns}\n".encode())
        return {"maps": digest.hexdigest(), "scores": "given" if self.scores else "maximum of the map"}

    def find(self, category: EvaluatedCategory, row: int) -> Path:
        """The file of a test image's map.

        Raises:
            FileNotFoundError: there is none.
            ValueError: there are two.
        """
        below = relative_path(category, row)
        names = (category.data_set, category.name, file_name(category.data_set))
        prefixes = dict.fromkeys([Path(), *map(Path, names)])
        found = [file for prefix in prefixes for file in self.by_stem.get(prefix / below.with_suffix(""), [])]
        if not found:
            raise FileNotFoundError(f"{below}: no map at {self.folder / below.with_suffix('.npy')} (or {SUFFIXES[1:]})")
        if len(found) > 1:
            raise ValueError(f"{below}: two maps, {found[0]} and {found[1]}")
        return found[0]

    def score(self, category: EvaluatedCategory, row: int) -> float | None:
        """The image's score in scores.csv; `None` without that file."""
        if self.scores is None:
            return None
        image = relative_path(category, row).as_posix()
        score = self.scores.get((category.data_set, image), self.scores.get(("", image)))
        if score is None:
            raise ValueError(f"{image}: not in {self.folder / SCORES_FILE}")
        return score


def relative_path(category: EvaluatedCategory, row: int) -> Path:
    """An image's path relative to its data set.

    Raises:
        ValueError: the image does not lie in the data set's folder.
    """
    below = category.path_below(row)
    if below is None:
        raise ValueError(
            f"{category.name_of(row)}: the image is not in {category.root}, so its map cannot be found by its path"
        )
    return below


class MapScorer(CategoryScorer):
    """Maps of a folder as a category's scores; all maps of the category share one scale."""

    def __init__(
        self,
        maps: SavedMaps,
        category: EvaluatedCategory,
        settings: list[Setting],
        workers: int,
        map_size: int | None = None,
    ):
        super().__init__(category, settings, workers, map_size)
        self.maps = maps
        self.low, self.high = self._range()
        if (self.low, self.high) != (0.0, 1.0):
            self.notes.append(
                f"maps from {self.low:.6g} to {self.high:.6g} are scaled to 0..1, all on one scale; P-threshold is too"
            )

    def _range(self) -> tuple[float, float]:
        """The lowest and highest value of all maps; 0 and 1 if no value is outside."""
        low, high = 0.0, 1.0
        for row in (each for rows in self.category.queries.values() for each in rows):
            try:
                values = read_map(self.maps.find(self.category, row))
            except (OSError, ValueError):
                continue  # reported when it is scored
            low, high = min(low, float(values.min())), max(high, float(values.max()))
        return low, high

    def read(self, row: int) -> tuple[tuple[np.ndarray, float], np.ndarray | None]:
        """(map (H, W), score) and the mask."""
        values = read_map(self.maps.find(self.category, row))
        score = self.maps.score(self.category, row)
        mask = self.mask_of(row, *values.shape)
        return (values, float(values.max()) if score is None else score), mask

    def score_inputs(self, inputs: list[tuple[np.ndarray, float]], batch: ScoredBatch):
        [setting] = self.settings
        maps = []
        for values, _ in inputs:
            scaled = torch.from_numpy(((values - self.low) / (self.high - self.low)).astype(np.float32))
            maps.append(self.reduced(scaled[None])[0].clamp(0, 1).numpy())
        batch.scores[setting] = np.array([score for _, score in inputs], np.float32)
        batch.anomaly_maps[setting] = np.stack(maps)


def read_map(file: Path) -> np.ndarray:
    """An anomaly map (H, W), float64; of a palette in colours the numbers, of one in greys the greys.

    Raises:
        ValueError: it cannot be read, has another shape, or holds values that are not finite.
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
            with open_picture(file, str(file)) as image:
                values = mask_values(image)
    except Exception as error:
        raise ValueError(f"{file}: the map cannot be read: {error}") from error
    squeezed = values.squeeze()
    if squeezed.ndim != 2 or 0 in squeezed.shape:
        raise ValueError(f"{file}: expected a map (H, W) of one channel, got {values.shape}")
    if not np.issubdtype(squeezed.dtype, np.number) or not np.isfinite(squeezed).all():
        raise ValueError(f"{file}: expected finite numbers, got {squeezed.dtype} with other values")
    return squeezed.astype(np.float64)


def read_scores(file: Path) -> dict[tuple[str, str], float] | None:
    """{(data set or "", image): score}; `None` if there is no such file."""
    if not file.is_file():
        return None
    scores: dict[tuple[str, str], float] = {}
    lines, number = csv.DictReader(io.StringIO(decoded(file), newline="")), 1
    try:
        if not {"image", "score"} <= set(lines.fieldnames or ()):
            raise ValueError(f"expected the columns image and score, got {lines.fieldnames}")
        for line in lines:
            number = lines.line_num
            if not line["image"] or line["score"] is None:
                raise ValueError("expected an image and its score")
            score = float(line["score"])
            if not math.isfinite(score):
                raise ValueError(f"expected a finite number as score, got {line['score']}")
            name = from_csv_cell(line.get("data_set") or ""), from_csv_cell(line["image"])
            if scores.setdefault(name, score) != score:
                raise ValueError(f"another score for {name[1]}")
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{file}, line {number}: {error}.") from error
    return scores


def decoded(file: Path) -> str:
    """A text in UTF-8, also with a byte order mark.

    Raises:
        ValueError: it has another encoding; names file and line.
    """
    content = file.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(f"{file}, line {line}: it is not in UTF-8: save it so, and try again.") from error


def save_maps(batch: ScoredBatch, category: EvaluatedCategory, folder: Path):
    """Writes the maps of a batch as float32 .npy, into a folder for each setting."""
    for setting, maps in batch.anomaly_maps.items():
        for row, anomaly_map in zip(batch.rows, maps, strict=True):
            below = category.path_below(row) or Path(file_name(category.name), f"row {row}")
            name = Path(folder_of(setting, folder).name, file_name(category.data_set), below.with_suffix(".npy"))
            with whole_file(inside(folder, name)) as opened:
                write_array(opened, anomaly_map.astype(np.float32))


def save_scores(records: list[dict], folder: Path):
    """Writes the image scores beside the maps of each setting."""
    lines: dict[Setting, list[tuple]] = {}
    for record in records:
        for image in record["scores"]:
            for run, score in zip(record["results"], image["scores"], strict=True):
                if score is not None:
                    line = (record["data_set"], record["category"], image["image"], score)
                    lines.setdefault(Setting(run["shots"], run["seed"]), []).append(line)
    for setting, rows in lines.items():
        write_csv(inside(folder, Path(folder_of(setting, folder).name, SCORES_FILE)), SCORES_COLUMNS, rows)


def folder_of(setting: Setting, folder: Path) -> Path:
    return folder / f"{setting.shots}-shot_seed-{setting.seed}"
