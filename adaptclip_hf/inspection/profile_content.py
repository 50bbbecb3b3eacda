"""What `profile.json` may say: the type and range of each field, and what fields say together."""

import hashlib
import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import AfterValidator, Field, PlainValidator, model_validator

from ..engine.appearance import MEASURES
from ..engine.augments import NONE
from ..engine.scorer import SCORE_FIELDS
from ..engine.tiles import View
from ..modeling.bank_content import ADDED, ADDED_OF, SCALE, VARIATION, is_added, variation_fields
from ..runtimes.numpy_bank import read_added, require_finite
from ..validation import FileContent
from . import place_variations
from .acceptance import Acceptance
from .calibration import Calibration
from .fit_settings import FitSettings
from .history import Change
from .near_copies import NUMBERS
from .parts import highest, require_parts
from .photos import BANK, BOTH, CALIBRATING, CALIBRATION, CONFIRMED, DEFECT, IN_BANK
from .place_variations import PLACES
from .split import CROSS, LEAVE_ONE_OUT, SPLIT

DTYPES = ("float64", "float32", "bfloat16", "float16", "int8")  # that a model computes in; int8 is of exports
LONGEST_SIDE = 1_000_000  # pixels
CLOSE = 1e-6  # of rates that are computed again by another version of a library
BESIDE = (VARIATION, PLACES, ADDED, ADDED_OF)  # tensors of the bank, beside those of the photos
WASTES_NONE = (BOTH, CONFIRMED, DEFECT)
ROLES = {SPLIT: (BANK, CALIBRATION, CONFIRMED, DEFECT), CROSS: WASTES_NONE, LEAVE_ONE_OUT: WASTES_NONE}


def text(value: Any) -> str:
    """Any text: names of files may hold what is no Unicode, which pydantic's own `str` refuses."""
    if not isinstance(value, str):
        raise ValueError("Input should be a text")
    return value


Text = Annotated[str, PlainValidator(text)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Whole = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
# scores lie in [0, 1], but for the last bits; a threshold may lie just below all of them
Score = Annotated[float, Field(ge=-1e-3, le=1.001)]


class SettingsContent(FileContent):
    """Of a [`FitSettings`], which checks the ranges."""

    false_alarm_rate: float
    choice: str
    escape_rate: float = 0.05
    calibration: str
    object_name: str | None = None
    storage: str
    bank_size: int | None = None
    seed: int = 0
    augment: str = NONE  # of profiles before 0.3
    part_pattern: str | None = None

    @model_validator(mode="after")
    def known(self) -> Self:
        self.settings()
        return self

    def settings(self) -> FitSettings:
        return FitSettings(**self.model_dump())


class ViewContent(FileContent):
    """Of a [`View`] without its mask, which lies among the features."""

    tile: int | Literal["auto", "whole"]
    overlap: float
    same_place: bool | Literal["only"]
    region: Annotated[list[int], Field(min_length=4, max_length=4)] | None
    bit_depth: int | None = None

    @model_validator(mode="after")
    def known(self) -> Self:
        self.view(None)
        return self

    def view(self, mask: np.ndarray | None) -> View:
        region: Any = self.region and tuple(self.region)
        return View(self.tile, self.overlap, self.same_place, region, mask, self.bit_depth)


class PhotoContent(FileContent):
    """Of a [`ProfilePhoto`]."""

    name: Text
    digest: Sha256
    size: Annotated[list[Annotated[int, Field(ge=1, le=LONGEST_SIDE)]], Field(min_length=2, max_length=2)]
    role: Literal["bank", "calibration", "both", "confirmed", "defect"]
    rows: Annotated[list[Whole], Field(min_length=2, max_length=2)]
    score: Score
    peak: Score
    look: Annotated[list[float], Field(min_length=len(MEASURES), max_length=len(MEASURES))] | None = None
    part: Text | None = None


class ZoneContent(FileContent):
    """Of a [`Zone`]."""

    name: Text
    box: Annotated[list[Whole], Field(min_length=4, max_length=4)]
    min_area: Annotated[int, Field(ge=1)] | None


class AcceptanceContent(FileContent):
    """Of an [`Acceptance`], which checks what fields say together."""

    min_area: Annotated[int, Field(ge=1)] | None
    scale: Annotated[float, Field(gt=0)] | None
    zones: list[ZoneContent]
    usual: list[Annotated[float, Field(gt=0)]]

    @model_validator(mode="after")
    def known(self) -> Self:
        self.acceptance()
        if len(self.usual) != len(self.zones) + 1:
            raise ValueError(f"usual: expected one of each zone and one outside, got {len(self.usual)}")
        return self

    def acceptance(self) -> Acceptance:
        return Acceptance.from_json(self.model_dump())


class InspectableContent(FileContent):
    """Of an [`Inspectable`]."""

    light: float
    contrast: float
    sharpness: float
    usual: Annotated[float, Field(ge=0)]
    unlike: Annotated[float, Field(ge=0)]


class EscapesContent(FileContent):
    """Of [`Calibration.escapes`]."""

    defects: Whole
    missed: Whole
    rate: Share
    low: Share
    high: Share


class SuspectContent(FileContent):
    """Of a [`Suspect`]."""

    name: Text
    score: Score
    deviations: float


class PastedContent(FileContent):
    """Of a [`Cell`] of pasted defects."""

    kind: Literal["scratch", "hole", "stain", "foreign body", "misplaced piece"]
    size: Annotated[float, Field(gt=0, lt=1)]
    strength: Literal["clear", "faint"]
    pasted: Annotated[int, Field(ge=1)]
    found: Whole
    scores: Annotated[list[Score], Field(min_length=1)]


class PlaceContent(FileContent):
    """Of a [`Place`]."""

    box: Annotated[list[Annotated[float, Field(ge=0, le=100)]], Field(min_length=4, max_length=4)]
    ratio: Annotated[float, Field(ge=1)]
    photos: Annotated[int, Field(ge=1)]
    peaks: Whole


class HalfContent(FileContent):
    """Of a [`HalfBank`]."""

    photos: Annotated[int, Field(ge=1)]
    pasted: Annotated[int, Field(ge=1)]
    found: Whole
    found_by_all: Whole


class VerdictContent(FileContent):
    """Of a verdict, see [`verdict_of`]."""

    level: Literal["blind", "weak", "fair", "good"]
    pasted: Annotated[int, Field(ge=1)]
    found: Whole
    false_alarm_rate: Share
    threshold: Score
    advice: list[Text]
    defects: Annotated[list[PastedContent], Field(min_length=1)]
    seed: Whole
    photos: Annotated[int, Field(ge=1)]
    pixels: Annotated[float, Field(gt=0)]
    place: PlaceContent | None
    half_of_the_photos: HalfContent | None
    before_update: bool

    @model_validator(mode="after")
    def counted(self) -> Self:
        """Numbers that other fields give."""
        for number, each in enumerate(self.defects):
            if (each.pasted, each.found) != (len(each.scores), sum(score > self.threshold for score in each.scores)):
                raise ValueError(f"defects.{number}: {each.found} of {each.pasted} are found, its scores say otherwise")
        if (self.pasted, self.found) != tuple(
            sum(getattr(each, n) for each in self.defects) for n in ("pasted", "found")
        ):
            raise ValueError(f"found: {self.found} of {self.pasted} defects are found, its defects say otherwise")
        half, place = self.half_of_the_photos, self.place
        if half is not None and not max(half.found, half.found_by_all) <= half.pasted <= self.pasted:
            raise ValueError(f"half_of_the_photos: more defects are found than the {half.pasted} that were pasted")
        if place is not None and place.peaks > place.photos:
            raise ValueError(f"place.peaks: {place.peaks} of {place.photos} photos")
        return self


def complete(made_by: dict[str, Any]) -> dict[str, Any]:
    """What made a profile says all that scores depend on: what it does not name could not be compared."""
    texts, named = ("weights", "dtype", "object_name"), ("fingerprint", "preprocessing")
    kinds = dict.fromkeys(texts, str) | dict.fromkeys(named, dict) | {"feature_layers": list}
    if wrong := [name for name, kind in kinds.items() if not isinstance(made_by.get(name), kind)]:
        raise ValueError(f"{wrong[0]} is not there, or of another kind")
    if lacking := [name for name in SCORE_FIELDS if name not in made_by]:
        raise ValueError(f"it lacks {', '.join(lacking)}")
    for name in named:
        if not made_by[name] or not all(isinstance(each, str) for each in made_by[name].values()):
            raise ValueError(f"{name} is empty, or holds what is no text")
    if made_by["dtype"] not in DTYPES:
        raise ValueError(f"there is no dtype {made_by['dtype'][:40]!r}")
    return made_by


class MovedContent(FileContent):
    """Of a [`Moved`]."""

    photos: Annotated[int, Field(ge=1)]
    largest: Annotated[float, Field(ge=0, le=1)]
    mean: Annotated[float, Field(ge=-1, le=1)]
    labels: Whole


class ProfileContent(FileContent):
    """The content of `profile.json`.

    Versions before 0.3 wrote no `sha256`, `features_sha256`, `sketches`, `inspectable`, `history` and `earlier`;
    `verdict` and `acceptance` are there if they were asked for, and `moved` if another dtype was looked at. `earlier`
    names the folder in which the profile before this one is kept.
    """

    format: Literal[1]
    version: str
    model: Text
    settings: SettingsContent
    view: ViewContent
    method: Literal["split", "cross", "leave-one-out"]
    threshold: Score
    pixel_threshold: Score
    false_alarm_rate_on_average: Share
    false_alarm_rate_95_percent_certain: Share
    escapes: EscapesContent | None
    suspects: list[SuspectContent]
    features: Annotated[str, Field(pattern=r"^features-[0-9a-f]{16}\.safetensors$")]
    features_sha256: Sha256 | None = None
    bank_rows: Annotated[list[Whole], Field(min_length=1)]
    photos: Annotated[list[PhotoContent], Field(min_length=1)]
    verdict: VerdictContent | None = None
    acceptance: AcceptanceContent | None = None
    inspectable: InspectableContent | None = None
    sketches: list[Annotated[str, Field(pattern=rf"^([0-9a-f]{{{4 * NUMBERS}}})?$")]] | None = None
    made_by: Annotated[dict[str, Any], AfterValidator(complete)]
    moved: dict[str, MovedContent] = {}
    history: list[Change] = []
    earlier: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")] | None = None
    sha256: Sha256 | None = None

    @model_validator(mode="after")
    def whole(self) -> Self:
        """What fields say together; a fault is named by its field."""
        self._check_photos()
        self._check_bank()
        self._check_thresholds()
        return self

    def _check_photos(self):
        first = 0
        view = self.view.view(None)
        for number, photo in enumerate(self.photos):
            if photo.role not in ROLES[self.method]:
                raise ValueError(f"photos.{number}.role: {photo.role} does not belong to the method {self.method}")
            try:
                tiles = len(view.tiles((photo.size[0], photo.size[1]), f"photos.{number}"))
            except ValueError as error:
                raise ValueError(f"view: {error}") from error
            if photo.rows != [first, first + tiles]:
                raise ValueError(f"photos.{number}.rows: expected {[first, first + tiles]}, got {photo.rows}")
            first += tiles
        for name, count in Counter(photo.digest for photo in self.photos).items():
            if count > 1:
                raise ValueError(f"photos: {count} of them have one digest, {name[:16]}")
        if self.sketches is not None and len(self.sketches) != len(self.photos):
            raise ValueError(f"sketches: expected one for each of {len(self.photos)} photos, got {len(self.sketches)}")

    def _check_bank(self):
        if self.bank_rows != sorted(set(self.bank_rows)):
            raise ValueError("bank_rows: they do not rise")
        ends = [photo.rows[1] for photo in self.photos]
        for row in self.bank_rows:
            if row >= ends[-1] or self.photos[bisect_right(ends, row)].role not in IN_BANK:
                raise ValueError(f"bank_rows: {row} is no row of a photo in the bank")

    def _check_thresholds(self):
        calibrating = [photo for photo in self.photos if photo.role in CALIBRATING]
        if not calibrating:
            raise ValueError("photos: none of them calibrates")
        require_parts(((photo.name, photo.part) for photo in calibrating), self.settings.part_pattern)
        scores, peaks = highest(calibrating), highest(calibrating, "peak")
        given = Calibration.at_rate(scores, self.settings.false_alarm_rate)
        if self.pixel_threshold != Calibration.at_rate(peaks, self.settings.false_alarm_rate).threshold:
            raise ValueError(f"pixel_threshold: the photos' peaks give another one than {self.pixel_threshold}")
        calibration = Calibration(given.scores, self.threshold)  # which a person may have moved
        for name, stated, computed in (
            ("false_alarm_rate_on_average", self.false_alarm_rate_on_average, calibration.expected_rate),
            ("false_alarm_rate_95_percent_certain", self.false_alarm_rate_95_percent_certain, calibration.certain_rate),
        ):
            if abs(stated - computed) > CLOSE:
                raise ValueError(f"threshold: {self.threshold} gives {name} {computed:.6g}, and {stated:.6g} is stated")
        own = self.verdict is not None and not self.verdict.before_update
        if own and self.verdict.threshold != self.threshold:
            raise ValueError(f"verdict.threshold: it is {self.verdict.threshold}, the profile's {self.threshold}")
        defects = highest([photo for photo in self.photos if photo.role == DEFECT])
        missed = (len(defects), sum(score <= self.threshold for score in defects))
        if missed != ((self.escapes.defects, self.escapes.missed) if self.escapes else (0, 0)):
            raise ValueError(f"escapes: {missed[1]} of {missed[0]} known defects lie below the threshold")


def content_digest(content: dict) -> str:
    """SHA-256 of all that `profile.json` says but `model`, which is changed when a model's folder is moved."""
    decided = {name: value for name, value in content.items() if name not in ("model", "sha256")}
    return hashlib.sha256(json.dumps(decided, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def check_beside(file: Path, tensors: dict[str, np.ndarray], layers: Sequence[np.ndarray], tiles: int):
    """Refuses a variation or added tokens that do not fit the layers' features, or are not finite."""
    tokens = [layer[:, 1:] for layer in layers if layer.ndim == 3]
    try:
        require_finite(tensors, file, "fit the profile anew")
        if tensors:
            variation_fields(tensors, tuple(tokens))
            place_variations.check(tensors, tuple(tokens), tiles)
            read_added(tensors, tuple(tokens))
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(f"{file}: {error}") from error


def check_features(file: Path, content: ProfileContent, tensors: dict[str, np.ndarray], ignore: str):
    """Refuses features that are not those of the photos, or not finite.

    Args:
        ignore: the name of the view's mask among them.

    Raises:
        ValueError: names the file, and the photo.
    """
    layers = content.made_by["feature_layers"]
    names = ["image_embeds", *(f"layer.{index}" for index in range(len(layers)))]
    scales = [f"{name}{SCALE}" for name in names] if content.settings.storage == "int8" else []
    beside = {name: tensors[name] for name in tensors if name.split(".")[0] in BESIDE}
    if content.settings.augment == NONE and any(map(is_added, beside)):
        raise ValueError(f"{file}: it holds turned copies, and settings.augment is {NONE!r}.")
    tiles = content.photos[0].rows[1] if content.view.same_place else 0
    check_beside(file, beside, [tensors[name] for name in names[1:] if name in tensors], tiles)
    if set(tensors) - {ignore, *beside} != {*names, *scales}:
        raise ValueError(f"{file}: expected {', '.join([*names, *scales])}, got {', '.join(sorted(tensors))}.")
    if ignore in tensors and (tensors[ignore].dtype != bool or tensors[ignore].ndim != 2):
        raise ValueError(f"{file}: the mask {ignore!r} is not one of (H, W) truth values.")
    count = content.photos[-1].rows[1]
    for name, tensor in ((name, tensors[name]) for name in [*names, *scales]):
        expected = np.dtype("float32" if name in scales else content.settings.storage)
        if tensor.dtype != expected or tensor.ndim != (2 if name.startswith("image_embeds") else 3):
            raise ValueError(f"{file}: {name} is {tensor.dtype} {tuple(tensor.shape)}, expected {expected}.")
        if len(tensor) != count or not tensor.size:
            raise ValueError(f"{file}: {name} has {tuple(tensor.shape)} numbers, expected those of {count} tiles.")
        if tensor.dtype == np.int8 or np.isfinite(tensor).all():
            continue
        row = int(np.flatnonzero(~np.isfinite(tensor).reshape(count, -1).all(1))[0])
        [photo] = [each.name for each in content.photos if each.rows[0] <= row < each.rows[1]]
        raise ValueError(f"{file}: {name} of {photo} holds numbers that are not finite.")
