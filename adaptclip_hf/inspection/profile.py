"""An inspection profile: all that decisions about one product depend on, in one folder."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..engine import AnomalyScorer, View
from ..engine.images import OnError
from ..model_files import DEFAULT_MODEL, DEFAULT_NAME
from ..modeling.bank_content import is_added
from ..modeling.hooks import hook
from ..modeling.normal_variation import NormalVariation
from ..reporting import Report, print_nothing
from . import fitting, stored_profile
from .added_tokens import AddedTokens
from .deciding import DecidingProfile
from .fit_settings import FitSettings
from .history import FITTED, UPDATED, WENT_BACK, Change, ChangedPhoto, changed_photos, now
from .model_match import require_same_model
from .nearest import ComparedBank
from .other_dtypes import other_dtypes
from .parts import Parts
from .pasted_defects import Counted
from .pasting import paste_defects, sampled_again
from .photo_features import Feedback, PhotoFeatures
from .photo_sample import PhotoSample
from .photos import CALIBRATING, CONFIRMED, DEFECT, GOOD, ProfilePhoto
from .profile_files import earlier_folder, saving, write_profile


@dataclass(frozen=True, eq=False)
class InspectionProfile(DecidingProfile):
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
        require_same_model(self, detector, exactly=True)
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

    def save_pretrained(self, folder: str | Path) -> Path:
        """Writes `profile.json` and the photos' features (safetensors) into a folder; returns the folder."""
        write_profile(Path(folder), self.contents(), stored_profile.tensors_of(self))
        return Path(folder)

    def contents(self) -> dict:
        """What `profile.json` says, without the format; the features' file is named when it is written."""
        return stored_profile.contents(self)

    @classmethod
    def _kinds(cls) -> tuple[Any, Any]:
        return features_of, variation_of

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


def features_of(photos: tuple[ProfilePhoto, ...], arrays: dict[str, np.ndarray]) -> PhotoFeatures:
    """Features as tensors, without a copy."""
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    added = {name: tensors.pop(name) for name in list(tensors) if is_added(name)}
    return PhotoFeatures(photos, tensors, AddedTokens(added))


def variation_of(**arrays: np.ndarray) -> NormalVariation:
    """A variation as tensors, without a copy."""
    return NormalVariation(**{name: torch.from_numpy(array) for name, array in arrays.items()})
