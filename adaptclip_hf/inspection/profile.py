"""An inspection profile: all that a yes or no about one product stands on, in one folder."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from ..engine import AnomalyDetector, DetectionResult, View
from ..engine.detector import OnError
from ..model_files import DEFAULT_MODEL, DEFAULT_NAME
from ..modeling.hooks import hook
from ..modeling.prompt_bank import PromptBank, differences
from ..reporting import Report, say_nothing
from .audit import Suspect, suspects
from .calibration import Calibration, percent
from .plan import LEAVE_ONE_OUT, rates
from .regions import find_regions
from .remembered import CALIBRATING, CONFIRMED, DEFECT, GOOD, IN_BANK, PhotoMemory, RememberedPhoto, pixel_digest
from .settings import ESCAPES, F1, FALSE_ALARMS, Settings


@dataclass(frozen=True, eq=False)
class InspectionProfile:
    """Good photos of one product, remembered and calibrated: scores become p-values, labels and regions.

    Attributes:
        model: the name, folder or Hub id of the model.
        made_by: all that scores depend on (see [`AnomalyDetector.describe`]); another model is refused.
        settings: what was chosen.
        view: how photos are looked at.
        memory: the photos and their features.
        method: "split" (exact) or "leave-one-out" (approximate), see [`Plan`].
        bank_rows: which pieces of the photos make the bank.
        calibration: the good photos' scores and the threshold.
        pixel_threshold: good photos' maps go above it at the false-alarm rate; what lies above is a region.

    Example:

    ```python
    >>> from adaptclip_hf import DEFAULT_MODEL, AnomalyDetector, InspectionProfile

    >>> detector = AnomalyDetector.from_pretrained(DEFAULT_MODEL)
    >>> good = [f"good/{number}.jpg" for number in range(40)]
    >>> profile = InspectionProfile.fit(detector, good, false_alarm_rate=0.05)
    >>> [result] = detector.detect("part.jpg", profile=profile)
    >>> result.label, round(result.p_value, 3), len(result.regions)
    ('anomalous', 0.048, 1)
    ```
    """

    model: str
    made_by: dict
    settings: Settings
    view: View
    memory: PhotoMemory = field(repr=False)
    method: str
    bank_rows: tuple[int, ...] = field(repr=False)
    calibration: Calibration
    pixel_threshold: float

    @classmethod
    def fit(
        cls,
        detector: AnomalyDetector,
        normal_images: Iterable,
        false_alarm_rate: float = 0.05,
        defects: Iterable | None = None,
        view: View | None = None,
        model: str | None = None,
        on_error: OnError | None = None,
        report: Report = say_nothing,
        progress: bool = False,
        **settings,
    ) -> "InspectionProfile":
        """Makes a profile of photos of good parts.

        Args:
            normal_images: any iterable of what `load_image` reads; each is encoded once.
            false_alarm_rate: the share of good parts that may be called anomalous, on average.
            defects: photos of known defects, if there are any: they tell the escape rate, and may set the threshold.
            view: how photos are looked at.
            model: the name that the profile shall load the model by; where the detector's came from without.
            on_error: called for each photo that cannot be read, which is then left out; an error without.
            report: called with lines for people: copies that are left out, photos to look at.
            progress: show a bar.
            settings: the other fields of [`Settings`].

        Raises:
            FileNotFoundError, ValueError: a photo cannot be read; too few photos for the rate (says how many it takes);
                all photos alike; or a setting out of range.
        """
        from .fitting import fit_profile

        chosen = Settings(false_alarm_rate, **settings)
        model = model_name(model or detector.model.name_or_path)
        return fit_profile(detector, normal_images, defects, chosen, view or View(), model, on_error, report, progress)

    def update(
        self,
        detector: AnomalyDetector,
        normal_images: Iterable = (),
        confirmed: Iterable = (),
        defects: Iterable = (),
        drop: Iterable[str] = (),
        on_error: OnError | None = None,
        report: Report = say_nothing,
        progress: bool = False,
        **settings,
    ) -> "InspectionProfile":
        """A profile with more photos, or fewer, calibrated anew.

        Args:
            normal_images: more photos of good parts, as they come.
            confirmed: false alarms that an inspector confirmed as good. They join the bank and never calibrate: picked
                for their scores, they do not stand for good parts as they come.
            defects: more photos of known defects.
            drop: names of photos that shall go.
            settings: fields of [`Settings`] that shall be others than before.

        Raises:
            ValueError: another model; a name to drop that is not there; or as [`~InspectionProfile.fit`].
        """
        from .fitting import update_profile

        given = [(normal_images, GOOD), (confirmed, CONFIRMED), (defects, DEFECT)]
        chosen = replace(self.settings, **settings)
        return update_profile(self, detector, given, drop, chosen, on_error, report, progress)

    @property
    def object_name(self) -> str | None:
        return self.settings.object_name

    @cached_property
    def prompt_bank(self) -> PromptBank:
        """The good photos that others are compared with, on the CPU."""
        return self.memory.bank(self.made_by, self.view, self.bank_rows)

    @cached_property
    def known(self) -> frozenset[str]:
        """Digests of its own photos: their scores say nothing."""
        return frozenset(photo.digest for photo in self.memory.photos)

    def digest(self) -> str:
        """SHA-256 of all that its decisions depend on."""
        parts = (self.made_by, self.view.key(), self.prompt_bank.digest(), self.calibration.scores.tolist())
        decided = (self.calibration.threshold, self.pixel_threshold, sorted(self.known))
        return hashlib.sha256(json.dumps([*parts, *decided], sort_keys=True).encode()).hexdigest()

    def judge(self, result: DetectionResult) -> DetectionResult:
        """A result with p-value, label and regions; one without a score stays as it is."""
        if result.score is None:
            return result
        anomalous = result.score > self.calibration.threshold
        own = result.image is not None and pixel_digest(result.image) in self.known
        return replace(
            result,
            p_value=float(self.calibration.p_values(result.score)),
            label="anomalous" if anomalous else "normal",
            regions=find_regions(result.anomaly_map, self.pixel_threshold) if anomalous else [],
            among_normals=result.among_normals or own,
        )

    def require_match(self, detector: AnomalyDetector):
        """Refuses another model than the one that it was made with: its scores mean something else.

        Raises:
            ValueError: names what differs.
        """
        here = made_by(detector, self.object_name)
        differing = [name for name in self.made_by if self.made_by[name] != here.get(name)]
        if differing:
            phrases = []
            for name in differing:
                there, now = self.made_by[name], here.get(name)
                if isinstance(there, dict) and isinstance(now, dict):
                    phrases += differences(there, now)
                else:
                    phrases.append(f"{name} is {str(there)[:16]}, this one's is {str(now)[:16]}")
            raise ValueError(
                f"This profile was made with another model or preprocessing ({self.model}): {'; '.join(phrases)}. Load "
                "that model, or fit a new profile with this one."
            )

    @property
    def good_photos(self) -> list[RememberedPhoto]:
        """Photos of good parts as they came, without false alarms that were confirmed."""
        return [photo for photo in self.memory.photos if photo.role not in (CONFIRMED, DEFECT)]

    def suspects(self) -> list[Suspect]:
        """Good photos that look bad among the others; the worst first."""
        good = self.good_photos
        return suspects([photo.name for photo in good], [photo.score for photo in good])

    def escapes(self) -> dict | None:
        """What the threshold does to the known defects, see [`Calibration.escapes`]; `None` without."""
        scores = [photo.score for photo in self.memory.photos if photo.role == DEFECT]
        return self.calibration.escapes(scores) if scores else None

    def describe(self) -> str:
        """A few lines for people: what it is made of, and what may be expected of it."""
        photos, calibration = self.memory.photos, self.calibration
        calibrating, in_bank = (sum(photo.role in roles for photo in photos) for roles in (CALIBRATING, IN_BANK))
        how = "each against the others (approximate)" if self.method == LEAVE_ONE_OUT else "none of them in the bank"
        lines = [
            f"{in_bank} good photos in the bank, {calibrating} calibrate, {how}; {rates(calibrating)}",
            f"threshold: score {calibration.threshold:.4f}, by {self._choice()}; of maps {self.pixel_threshold:.4f}",
            f"false alarms: at most {percent(calibration.expected_rate)} on average, below "
            f"{percent(calibration.certain_rate)} with 95 % certainty",
        ]
        if escapes := self.escapes():
            lines.append(
                f"escapes: {escapes['missed']} of {escapes['defects']} known defects stay unseen "
                f"({percent(escapes['rate'])}; 95 % interval {percent(escapes['low'])} to {percent(escapes['high'])})"
            )
        return "\n".join(lines)

    def summary(self) -> dict:
        """What results that it judged keep of it, as JSON has it."""
        return {
            "digest": self.digest(),
            "description": self.describe(),
            "threshold": self.calibration.threshold,
            "pixel_threshold": self.pixel_threshold,
            "scores": self.calibration.scores.tolist(),
        }

    def _choice(self) -> str:
        settings = self.settings
        return {
            FALSE_ALARMS: f"a false-alarm rate of {percent(settings.false_alarm_rate)}",
            ESCAPES: f"an escape rate of {percent(settings.escape_rate)}",
            F1: "the best F1",
        }[settings.choice]

    def save_pretrained(self, folder: str | Path) -> Path:
        """Writes `profile.json` and the photos' features (safetensors) into a folder; returns the folder."""
        from .profile_files import save_profile

        return save_profile(self, Path(folder))

    @classmethod
    def from_pretrained(cls, folder: str | Path, **hub) -> "InspectionProfile":
        """Reads a profile from a folder or the Hub.

        Args:
            folder: a folder, or the Hub id of a repository.
            hub: the usual arguments of a download (`revision`, `token`, `cache_dir`, `local_files_only`).

        Raises:
            FileNotFoundError: no such folder or repository.
            ValueError: it holds no profile, or a damaged one.
        """
        from .profile_files import load_profile

        return load_profile(folder, **hub)

    def push_to_hub(self, repo_id: str, **options) -> str:
        """Pushes the profile and its card; `InspectionProfile.from_pretrained(repo_id)` and `profile=repo_id` load it.

        The photos themselves stay here: features, names and digests go.

        Args:
            repo_id: `OWNER/NAME`; made if it is not there.
            options: of [`adaptclip_hf.hub.publishing.publish`]: `model`, `private`, `revision`, `token`, ...

        Returns:
            `str`: the commit's URL.
        """
        return hook("publish", "push_to_hub")(self, repo_id, **options)


def model_name(model: str) -> str:
    """What a profile calls its model: the embedded one by its name, a folder by its whole path, others as they are."""
    if model == DEFAULT_MODEL:
        return DEFAULT_NAME
    return str(Path(model).absolute()) if model and Path(model).is_dir() else model


def made_by(detector: AnomalyDetector, object_name: str | None) -> dict:
    """All that a score depends on beside photo, bank and view; on which device does not matter."""
    about = detector.describe(object_name)
    del about["device"]
    return about
