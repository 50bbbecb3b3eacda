"""What a profile decides: threshold, p-values, labels, parts and regions of scores; imports nothing heavy.

[`InspectionProfile`] is one whose photos may be compared anew, to fit and to update it.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..engine.colour_scale import ColourScale
from ..engine.reference import Reference, times_the_threshold
from ..engine.result import DetectionResult, Result
from ..engine.tiles import View
from ..labels import ANOMALOUS, NOT_INSPECTABLE, SCORE
from ..processing.thresholds import label_of, margin_of
from ..runtimes.formats import INT8
from ..runtimes.numpy_variation import NumpyVariation
from . import description, place_variations, stored_profile
from .acceptance import Acceptance
from .audit import Suspect, good_photos, suspects
from .calibration import PARTS, PHOTOS, Calibration
from .fit_settings import FitSettings
from .history import History
from .inspectable import Inspectable, mean_tokens_of
from .model_match import require_same_model
from .moved_scores import DTYPE, Moved
from .numpy_features import NumpyFeatures
from .parts import PartDecision, UsualPart, highest, label_of_part
from .pasted_defects import PastedDefects
from .photos import CALIBRATING, DEFECT, IN_BANK, ProfilePhoto, pixel_digest
from .profile_content import ProfileContent
from .profile_files import read_profile
from .regions import find_regions
from .verdict import verdict_of
from .verdict_text import verdict_text

if TYPE_CHECKING:
    from ..engine import AnomalyScorer
    from ..modeling.normal_variation import NormalVariation
    from ..modeling.prompt_bank import PromptBank
    from .photo_features import PhotoFeatures


@dataclass(frozen=True, eq=False)
class DecidingProfile(Reference):
    """A profile that is read to decide by: its features are arrays of NumPy.

    Its fields are those of [`InspectionProfile`].
    """

    model: str
    made_by: dict
    settings: FitSettings
    view: View
    features: "PhotoFeatures" = field(repr=False)
    method: str
    bank_rows: tuple[int, ...] = field(repr=False)
    calibration: Calibration
    pixel_threshold: float
    variation: "NormalVariation | None" = field(default=None, repr=False)
    pasted: PastedDefects | None = field(default=None, repr=False)
    variations: "tuple[NormalVariation, ...]" = field(default=(), repr=False)
    acceptance: Acceptance | None = None
    inspectable: Inspectable | None = None
    history: History = field(default=(), repr=False)
    moved: Mapping[str, Moved] = field(default_factory=dict)

    @property
    def verdict(self) -> dict[str, Any] | None:
        """Which pasted defects it would find at its threshold (before an update: would have found), see [`verdict_of`].

        `None` where that was not asked for.

        Pasted defects are no real ones: it shows what sort of thing the profile sees, and promises nothing.
        """
        return None if self.pasted is None else verdict_of(self, self.pasted)

    @property
    def verdict_text(self) -> str | None:
        """The verdict in plain words, lines for people; `None` where there is none."""
        return None if (verdict := self.verdict) is None else verdict_text(verdict, self.warning)

    @property
    def object_name(self) -> str | None:
        return self.settings.object_name

    @property
    def text_embeds(self) -> None:
        """None: the scorer encodes the word."""

    @cached_property
    def prompt_bank(self) -> "PromptBank":
        """The good photos that others are compared with, on the CPU."""
        return replace(self.features.bank(self.made_by, self.view, self.bank_rows), variation=self.variation)

    def __getstate__(self) -> dict:
        """The fields alone: the bank is made of the features again, and need not travel beside them."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @property
    def needs_appearance(self) -> bool:
        return self.inspectable is not None

    @cached_property
    def wholes(self) -> np.ndarray:
        """(k, n, d) mean patch tokens of the photos in the bank, by which another product is told."""
        return mean_tokens_of(self.features, (photo for photo in self.features.photos if photo.role in IN_BANK))

    def uninspectable(self, result: DetectionResult) -> str | None:
        """Why a photo cannot be inspected; `None` where it can, or where nobody looked."""
        if self.acceptance is not None and (zone := self.acceptance.outside(result.size)) is not None:
            return f"zone {zone.name} lies outside"
        if self.inspectable is None or result.appearance is None:
            return None
        return self.inspectable.reason(result.appearance, self.wholes)

    @cached_property
    def known(self) -> frozenset[str]:
        """Digests of its own photos, whose scores mean nothing."""
        return frozenset(photo.digest for photo in self.features.photos)

    def digest(self) -> str:
        """SHA-256 of everything that its decisions depend on: rows and decisions carry it."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        parts = (self.made_by, self.view.key(), self.prompt_bank.digest(), self.calibration.scores.tolist())
        decided = [self.calibration.threshold, self.pixel_threshold, sorted(self.known)]
        if self.usual_part is not None:
            decided += [self.settings.part_pattern, self.usual_part.photos]
        decided += [each.to_json() for each in (self.acceptance, self.inspectable) if each is not None]
        if self.variations:
            decided.append(place_variations.digest(self.variations))
        return hashlib.sha256(json.dumps([*parts, *decided], sort_keys=True).encode()).hexdigest()

    def deciding_score(self, result: DetectionResult) -> float:
        """By which a result is decided: the model's score, or with an acceptance that of its regions."""
        return result.score if self.acceptance is None else self.acceptance.score(result)

    def decide(self, result: DetectionResult) -> DetectionResult:
        """A result with p-value, label, reason and regions; with an acceptance its score is that of the regions.

        A photo that is not inspectable has a score and a p-value too, which say nothing about the part.
        """
        score = self.deciding_score(result)
        p_value = float(self.calibration.p_values(score))  # refuses a score that is no number
        why = self.uninspectable(result)
        label = NOT_INSPECTABLE if why else label_of(score, self.calibration.threshold)
        own = result.image is not None and pixel_digest(result.image) in self.known
        regions, reason = self._regions(result) if label == ANOMALOUS else ([], why)
        return replace(
            result,
            score=score,
            p_value=p_value,
            margin=margin_of(score, self.calibration.threshold),
            label=label,
            reason=reason,
            regions=regions,
            among_normals=result.among_normals or own,
            colours=self.colours,
        )

    @property
    def colours(self) -> ColourScale:
        """What its heatmaps are drawn with: colours begin at what the maps of good photos reach."""
        return ColourScale(self.pixel_threshold)

    @cached_property
    def usual_part(self) -> UsualPart | None:
        """How many photos, and which views, a good part has; `None` where each photo is decided for itself."""
        if all(photo.part is None for photo in self.good_photos):
            return None
        return UsualPart.of(self.good_photos, self.settings.part_pattern)

    @property
    def photo_calibration(self) -> Calibration:
        """The threshold with the scores of single photos, where parts are decided."""
        if self.usual_part is None:
            return self.calibration
        scores = np.sort([photo.score for photo in self.features.photos if photo.role in CALIBRATING])
        return Calibration(scores, self.calibration.threshold)

    def decide_part(self, results: Iterable[Result]) -> PartDecision:
        """One decision on a part from the results of its photos: it is anomalous if one of them is.

        The threshold is one that the highest score of a good part's photos exceeds at the asked rate. Fewer photos than
        a part usually has give fewer alarms and miss more, which the decision says.

        Args:
            results: of the photos of one part; what could not be read is passed over.

        Raises:
            ValueError: the profile decides photo by photo, or no photo could be read.
        """
        if self.usual_part is None:
            raise ValueError("This profile decides photo by photo: fit one with part_pattern or parts.")
        decided = [each if each.label is not None else self.decide(each) for each in results if each.error is None]
        if not decided:
            raise ValueError("None of the part's photos could be read: there is nothing to decide by.")
        inspected = [
            each for each in decided if each.label != NOT_INSPECTABLE
        ] or decided  # another's score says nothing
        worst = max(inspected, key=lambda each: each.score)
        label = label_of_part(each.label for each in decided)
        assert label is not None
        differs = self.usual_part.differs([each.name for each in decided])
        return PartDecision(
            label, worst.score, float(self.calibration.p_values(worst.score)), worst.name, len(decided), differs
        )

    def _regions(self, result: DetectionResult) -> tuple[list[dict], str]:
        """The regions of an anomalous photo, and the reason."""
        if self.acceptance is not None:
            return self.acceptance.regions(result, self.calibration.threshold)
        return find_regions(result.map_searched(), self.pixel_threshold, result.size), SCORE

    @property
    def calibrates(self) -> str:
        """What calibrates, "photos" or "parts"."""
        return PHOTOS if self.usual_part is None else PARTS

    def place_of(self, score: float) -> str:
        """A score beside the threshold and among the good photos that calibrate, in words."""
        margin = times_the_threshold(margin_of(score, self.calibration.threshold))
        return ", ".join(filter(None, (margin, self.calibration.place_of(score, self.calibrates))))

    def normal_name(self, place: int | None) -> str | None:
        """The name of a photo of the bank."""
        if place is None or place >= len(self.bank_rows):
            return None
        row = self.bank_rows[place]
        return next(photo.name for photo in self.features.photos if photo.rows[0] <= row < photo.rows[1])

    def require_match(self, scorer: "AnomalyScorer", remedy: str | None = None):
        """Refuses another model than the one that it was made with: its scores mean something else.

        Another dtype is good enough where scores of the profile's own photos hardly move in it, see [`suits`].

        Args:
            remedy: what to do where the dtype alone differs, of a caller that knows more.

        Raises:
            ValueError: names what differs, and what to do.
        """
        require_same_model(self, scorer, remedy=remedy)

    @property
    def torch_dtype(self) -> str | None:
        """The dtype in which a model of torch decides as it does; `None` for that of the weights, of an int8 export."""
        return None if self.made_by[DTYPE] == INT8 else self.made_by[DTYPE]

    def suits(self, dtype: str) -> bool:
        """Whether it decides in a dtype as it does in its own, but for photos that lie near the threshold."""
        return dtype == self.made_by[DTYPE] or (dtype in self.moved and self.moved[dtype].is_small(self.calibration))

    @property
    def good_photos(self) -> list[ProfilePhoto]:
        """Photos of good parts as they came, without false alarms that were confirmed."""
        return good_photos(self.features.photos)

    def suspects(self) -> list[Suspect]:
        """Good photos that look bad among the others; the worst first."""
        return suspects(self.features.photos)

    def escapes(self) -> dict | None:
        """What the threshold does to the known defects, see [`Calibration.escapes`]; `None` without defects."""
        scores = highest([photo for photo in self.features.photos if photo.role == DEFECT])
        return self.calibration.escapes(scores) if scores else None

    def describe(self) -> str:
        """A few lines for people: what it is made of, and what may be expected of it."""
        return description.describe(self)

    @property
    def warning(self) -> str | None:
        """A line for people where a threshold by known defects calls many good parts anomalous; `None` otherwise."""
        return description.warning(self)

    def summary(self) -> dict:
        """What results keep of the profile, as JSON values."""
        told: dict[str, Any] = {} if self.pasted is None else {"verdict": self.verdict_text}
        if self.usual_part is not None:
            told |= {"parts": {"photos": self.usual_part.photos, "views": list(self.usual_part.views)}}
        return told | {
            "digest": self.digest(),
            "description": self.describe(),
            "threshold": self.calibration.threshold,
            "pixel_threshold": self.pixel_threshold,
            "scores": self.calibration.scores.tolist(),
        }

    def record(self) -> dict:
        return {"normal_images": None, "threshold": None, "profile": self.summary(), "view": self.view.key()}

    @classmethod
    def from_pretrained(cls, folder: str | Path, **hub) -> Self:
        """Reads a profile from a folder or the Hub.

        Args:
            folder: a folder, or the Hub id of a repository.
            hub: the usual arguments of a download (`revision`, `token`, `cache_dir`, `local_files_only`).

        Raises:
            FileNotFoundError: no such folder or repository.
            ValueError: it holds no profile, or one that was damaged or changed; names the file and the field.
        """
        return cls.from_contents(*read_profile(folder, **hub))

    @classmethod
    def from_contents(cls, content: ProfileContent, arrays: dict[str, np.ndarray]) -> Self:
        """The profile that its two files hold."""
        return cls(**stored_profile.fields_of(content, arrays, *cls._kinds()))

    @classmethod
    def _kinds(cls) -> tuple[Any, Any]:
        """What its features and variations become."""
        return NumpyFeatures.of, NumpyVariation
