"""An inspection profile: all that decisions about one product depend on, in one folder."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..engine import AnomalyScorer, DetectionResult, Reference, View
from ..engine.colour_scale import ColourScale
from ..engine.images import OnError
from ..engine.reference import times_the_threshold
from ..engine.result import Result
from ..labels import ANOMALOUS, NOT_INSPECTABLE, SCORE
from ..model_files import DEFAULT_MODEL, DEFAULT_NAME
from ..modeling.hooks import hook
from ..modeling.normal_variation import NormalVariation
from ..modeling.prompt_bank import PromptBank, differences
from ..processing.image_processing_adaptclip import label_of, margin_of
from ..reporting import Report, print_nothing
from . import description, fitting, place_variations, stored_profile
from .acceptance import Acceptance
from .audit import Suspect, good_photos, suspects
from .calibration import PARTS, PHOTOS, Calibration
from .fit_settings import FitSettings
from .history import FITTED, UPDATED, WENT_BACK, Change, ChangedPhoto, History, changed_photos, now
from .inspectable import Inspectable, mean_tokens_of
from .nearest import ComparedBank
from .other_dtypes import DTYPE, Moved, dtype_error, other_dtypes
from .parts import PartDecision, Parts, UsualPart, highest, label_of_part
from .pasted_defects import Counted, PastedDefects
from .pasting import paste_defects, sampled_again
from .photo_features import (
    CALIBRATING,
    CONFIRMED,
    DEFECT,
    GOOD,
    IN_BANK,
    Feedback,
    PhotoFeatures,
    ProfilePhoto,
    made_by,
    pixel_digest,
)
from .photo_sample import PhotoSample
from .profile_content import ProfileContent
from .profile_files import earlier_folder, read_profile, saving, write_profile
from .regions import find_regions
from .verdict import verdict_of
from .verdict_text import verdict_text


@dataclass(frozen=True, eq=False)
class InspectionProfile(Reference):
    """Good photos of one product, remembered and calibrated: scores become p-values, labels and regions.

    Attributes:
        model: the name, folder or Hub id of the model.
        made_by: all that scores depend on (see [`AnomalyScorer.describe`]); another model is refused.
        settings: what was chosen.
        view: how photos are looked at.
        features: the photos and their features.
        method: "split" (exact), "cross" or "leave-one-out" (measured), see [`Split`].
        bank_rows: which tiles of the photos make the bank.
        calibration: the good photos' scores and the threshold.
        pixel_threshold: good photos' maps go above it at the false-alarm rate; what lies above is a region.
        variation: how the bank's photos differ from one another; `None` where scores do not use it.
        variations: the same of tiles at each place, where each is compared with those of its place; else empty, and so
            in profiles of earlier versions.
        pasted: what came of defects pasted on good photos, for the verdict; `None` where that was not asked for.
        acceptance: decides by regions of some area, in zones; `None` where the model's score decides.
        inspectable: what a photo must show to be decided at all; `None` in profiles of earlier versions.
        history: what was done to it, by whom and when; the oldest first.
        moved: how far scores move in another dtype than its own, as it was measured on some of its photos.

    Example:

    ```python
    >>> from adaptclip_hf import DEFAULT_MODEL, AnomalyDetector, InspectionProfile

    >>> detector = AnomalyDetector.from_pretrained(DEFAULT_MODEL)
    >>> good = [f"good/{number}.jpg" for number in range(40)]
    >>> profile = InspectionProfile.fit(detector, good, false_alarm_rate=0.05, verdict=False)
    >>> [result] = detector.detect("part.jpg", profile=profile)
    >>> result.label, round(result.p_value, 3), len(result.regions)
    ('anomalous', 0.024, 1)
    ```
    """

    model: str
    made_by: dict
    settings: FitSettings
    view: View
    features: PhotoFeatures = field(repr=False)
    method: str
    bank_rows: tuple[int, ...] = field(repr=False)
    calibration: Calibration
    pixel_threshold: float
    variation: NormalVariation | None = field(default=None, repr=False)
    pasted: PastedDefects | None = field(default=None, repr=False)
    variations: tuple[NormalVariation, ...] = field(default=(), repr=False)
    acceptance: Acceptance | None = None
    inspectable: Inspectable | None = None
    history: History = field(default=(), repr=False)
    moved: Mapping[str, Moved] = field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        detector: AnomalyScorer,
        normal_images: Iterable,
        false_alarm_rate: float = 0.05,
        defects: Iterable | None = None,
        on_error: OnError | None = None,
        report: Report = print_nothing,
        progress: bool = False,
        verdict: bool = True,
        parts: Parts | None = None,
        **options: Any,
    ) -> "InspectionProfile":
        """Makes a profile of photos of good parts.

        Args:
            normal_images: any iterable of what `load_image` reads; each is encoded once.
            false_alarm_rate: the share of good parts that may be called anomalous, on average.
            defects: photos of known defects, if there are any: they tell the escape rate, and may set the threshold.
            on_error: called for each photo that cannot be read, which is then left out; without it the error is raised.
            report: called with lines for people: copies that are left out, photos to look at.
            progress: show a bar.
            verdict: paste defects on good photos, at most 80, and count which it would find: `profile.verdict`.
            parts: which photos show one part: a name for each of `normal_images`, or {name of a photo: name of its
                part}, beside `part_pattern` of [`FitSettings`]. With either the rates are those of parts: a part is
                anomalous if one of its photos is.
            options: `view`, how photos are looked at; `acceptance`, an [`Acceptance`] by which regions decide; `model`,
                the name by which the profile loads its model (by default that of the detector's model); `by`, who makes
                it, for its history; and the other fields of [`FitSettings`].

        Raises:
            FileNotFoundError, ValueError: a photo cannot be read; too few photos for the rate (says how many it takes);
                all photos alike; or a setting out of range.
        """
        view, model, acceptance, by = (options.pop(name, None) for name in ("view", "model", "acceptance", "by"))
        view = View() if view is None else view
        model = model_name(detector.model.name_or_path if model is None else model)
        settings = FitSettings(false_alarm_rate, **options)
        feedback = Feedback(on_error, report, progress)
        sample = PhotoSample(settings.seed)
        fitted, compared = fitting.fit(
            detector, normal_images, defects, settings, view, feedback, sample, acceptance, parts
        )
        profile = cls(model=model, **fitted._asdict()).changed(FITTED, by)
        profile = replace(profile, moved=other_dtypes(detector, profile, sample, compared))
        if not verdict:
            return profile
        return replace(profile, pasted=paste_defects(detector, profile, sample, compared, feedback))

    def update(
        self,
        detector: AnomalyScorer,
        normal_images: Iterable = (),
        confirmed: Iterable = (),
        defects: Iterable = (),
        drop: Iterable[str] = (),
        verdict: bool = False,
        parts: Parts | None = None,
        **options: Any,
    ) -> "InspectionProfile":
        """A profile with photos added or removed, calibrated again.

        The verdict stays as it was, and says that it is from before, unless a new one is asked for.

        Args:
            normal_images: more photos of good parts, as they come.
            confirmed: false alarms that an inspector confirmed as good. They join the bank and never calibrate, because
                photos that were picked by their scores do not represent good parts as they come.
            defects: more photos of known defects.
            drop: names of photos to remove.
            verdict: paste defects anew, on a few good photos that are opened once more. One that is gone or was changed
                is passed over.
            parts: which of `normal_images` show one part, as in [`~InspectionProfile.fit`]; left out where the
                profile has a pattern of names.
            options: `on_error`, `report`, `progress` and `by` as in [`~InspectionProfile.fit`]; `reviews`, a [`Review`]
                of some photos by their names, for the history; and to change: `acceptance`, and fields of
                [`FitSettings`].

        Raises:
            ValueError: another model; a name to drop that is not there; or as [`~InspectionProfile.fit`].
        """
        self._require(detector, exactly=True)
        feedback = Feedback(**{each.name: options.pop(each.name) for each in fields(Feedback) if each.name in options})
        acceptance = options.pop("acceptance", self.acceptance)
        by, reviews = options.pop("by", None), options.pop("reviews", {})
        chosen = replace(self.settings, **options)
        if chosen.storage != self.settings.storage:
            raise ValueError("Features stay as they are stored: fit a new profile for another storage.")
        if chosen.augment != self.settings.augment:
            raise ValueError(
                f"This profile's photos have augment {self.settings.augment!r}, and more photos get the same: fit a "
                "new profile for another one."
            )
        if chosen.part_pattern != self.settings.part_pattern:
            raise ValueError("Which photos show one part is the profile's own: fit a new one for another part_pattern.")
        given = [(normal_images, GOOD), (confirmed, CONFIRMED), (defects, DEFECT)]
        kept = fitting.without_photos(self.features, drop)
        fitted, compared = fitting.update(
            detector, kept, given, chosen, self.view, feedback, acceptance, parts, self.inspectable
        )
        older = self.pasted
        if older is not None and (told := self.verdict) is not None:
            older = replace(older, before_update=Counted(told["threshold"], told["false_alarm_rate"]))
        updated = replace(self, pasted=older, **fitted._asdict())
        photos = changed_photos(self.features.photos, updated.features.photos, reviews)
        updated = updated.changed(UPDATED, by, self, photos)
        return updated.with_new_verdict(detector, feedback, compared) if verdict else updated

    def changed(
        self,
        what: str,
        by: str | None = None,
        before: "InspectionProfile | None" = None,
        photos: Sequence[ChangedPhoto] = (),
    ) -> "InspectionProfile":
        """The profile with a change noted in its history.

        Args:
            what: "fitted", "updated" or "went back".
            before: the profile that it was.
            photos: that were added or dropped.
        """
        older = {} if before is None else asdict(before.settings)
        settings = [
            f"{name} {older[name]} -> {value}"
            for name, value in asdict(self.settings).items()
            if name in older and older[name] != value
        ]
        change = Change.of(
            {
                "time": now(),
                "by": by,
                "what": what,
                "before": None if before is None else before.digest(),
                "after": self.digest(),
                "threshold": self.calibration.threshold,
                "photos": [photo.model_dump() for photo in photos],
                "settings": settings,
            }
        )
        return replace(self, history=(*self.history, change))

    def with_new_verdict(
        self, detector: AnomalyScorer, feedback: Feedback = Feedback(), compared: ComparedBank | None = None
    ) -> "InspectionProfile":
        """The profile with defects pasted anew, on good photos that are opened once more.

        One that is gone or was changed is passed over; if none can be opened, the older verdict stays.

        Args:
            compared: its bank, whose photos were compared; by default they are compared now.
        """
        compared = self.compared_bank(detector) if compared is None else compared
        photos = [photo for photo in self.features.photos if photo.role in CALIBRATING]
        sample = sampled_again(detector.reader, photos, self.view, self.settings.seed)
        pasted = paste_defects(detector, self, sample, compared, feedback)
        if pasted is None:
            feedback.report("no good photo can be opened any more: the verdict was not made anew")
        return replace(self, pasted=pasted or self.pasted)

    def compared_bank(self, scorer: AnomalyScorer) -> ComparedBank:
        """Its bank, whose photos are compared with one another once more."""
        bank = replace(self.prompt_bank, variation=None).to(scorer.device, scorer.model.dtype)
        text_embeds = scorer.encode_text(self.object_name)
        return fitting.compared_bank(scorer, bank, self.view, self.bank_rows, text_embeds)

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
    def prompt_bank(self) -> PromptBank:
        """The good photos that others are compared with, on the CPU."""
        return replace(self.features.bank(self.made_by, self.view, self.bank_rows), variation=self.variation)

    def __getstate__(self) -> dict:
        """The fields alone: the bank is made of the features again, and need not travel beside them."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @property
    def needs_appearance(self) -> bool:
        return self.inspectable is not None

    @cached_property
    def wholes(self) -> torch.Tensor:
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

    def require_match(self, scorer: AnomalyScorer):
        """Refuses another model than the one that it was made with: its scores mean something else.

        Another dtype is good enough where scores of the profile's own photos hardly move in it, see [`suits`].

        Raises:
            ValueError: names what differs.
        """
        self._require(scorer)

    def suits(self, dtype: str) -> bool:
        """Whether it decides in a dtype as it does in its own, but for photos that lie near the threshold."""
        return dtype == self.made_by[DTYPE] or (dtype in self.moved and self.moved[dtype].is_small(self.calibration))

    def _require(self, scorer: AnomalyScorer, exactly: bool = False):
        """
        Args:
            exactly: another dtype is refused however little it does.
        """
        here = made_by(scorer, self.object_name)
        differing = [name for name in self.made_by | here if self.made_by.get(name) != here.get(name)]
        if differing == [DTYPE]:
            if exactly or not self.suits(here[DTYPE]):
                raise ValueError(dtype_error(self.made_by[DTYPE], here[DTYPE], self.moved.get(here[DTYPE]), exactly))
        elif differing:
            phrases = []
            for name in differing:
                there, now = self.made_by.get(name), here.get(name)
                if isinstance(there, dict) and isinstance(now, dict):
                    phrases += differences(there, now)
                else:
                    phrases.append(f"{name} is {str(there)[:16]}, this one's is {str(now)[:16]}")
            raise ValueError(
                f"This profile was made with another model or preprocessing ({self.model}): {'; '.join(phrases)}. Load "
                "that model, or fit a new profile with this one."
            )

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

    def save_pretrained(self, folder: str | Path) -> Path:
        """Writes `profile.json` and the photos' features (safetensors) into a folder; returns the folder."""
        write_profile(Path(folder), self.contents(), stored_profile.tensors_of(self))
        return Path(folder)

    def contents(self) -> dict:
        """What `profile.json` says, without the format; the features' file is named when it is written."""
        return stored_profile.contents(self)

    @classmethod
    def from_pretrained(cls, folder: str | Path, **hub) -> "InspectionProfile":
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
    def from_contents(cls, content: ProfileContent, tensors: dict[str, torch.Tensor]) -> "InspectionProfile":
        """The profile that its two files hold."""
        return cls(**stored_profile.fields_of(content, tensors))

    @classmethod
    def go_back(cls, folder: str | Path, by: str | None = None) -> "InspectionProfile":
        """Brings back the profile that a folder held before the last save. The one that goes is kept in its place, so
        that the same call brings it back again.

        Args:
            by: who goes back, for the history.

        Raises:
            FileNotFoundError: no profile, or none before it.
            ValueError: one of them is damaged; names the file and the field.
        """
        folder = Path(folder)
        with saving(folder):
            current = cls.from_pretrained(folder)
            earlier = cls.from_pretrained(earlier_folder(folder))
            since = (change for change in current.history if change not in earlier.history)
            restored = replace(earlier, history=(*earlier.history, *since)).changed(WENT_BACK, by, current)
            restored.save_pretrained(folder)
        return restored

    def push_to_hub(self, repo_id: str, **options) -> str:
        """Pushes the profile and its card; `InspectionProfile.from_pretrained(repo_id)` and `profile=repo_id` load it.

        The photos themselves stay here: features, names and digests go.

        Args:
            repo_id: `OWNER/NAME`; made if it is not there.
            options: `model`, `private`, `revision`, `token`, `create_pr`, `tags` and others, see
                [`adaptclip_hf.hub.publishing`].

        Returns:
            `CommitInfo`: a `str`, the commit's URL.
        """
        return hook("publish", "push_to_hub")(self, repo_id, **options)


def model_name(model: str | Path) -> str:
    """What a profile calls its model: the embedded one by its name, a folder by its whole path, others as they are."""
    if not isinstance(model, str | Path):
        raise ValueError(f"Expected the name, folder or Hub id of a model, got {model!r}.")
    model = str(model)
    if model == DEFAULT_MODEL:
        return DEFAULT_NAME
    return str(Path(model).absolute()) if model and Path(model).is_dir() else model
