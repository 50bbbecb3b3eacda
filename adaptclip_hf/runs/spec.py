"""What a run is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ..engine import AnomalyScorer, Reference
from ..inspection.calibration import require_discoverable
from ..inspection.deciding import DecidingProfile
from ..inspection.parts import UsualPart
from ..inspection.photos import made_by
from .label_studio import ImageAddresses
from .sources import Source


@dataclass(frozen=True)
class RunSpec:
    """What a run is asked for: all that a worker needs, as a value that pickles.

    Attributes:
        model: name, folder or Hub id; a folder must be there for every worker.
        reference: what images are scored against.
        device, dtype, trust_remote_code: of [`AnomalyDetector.from_pretrained`].
        batch_size: images at a time.
        heatmaps: draw each map over its image; only in a folder of lines.
        maps: keep each map: float32 as `.npy` in a folder of lines, 16-bit PNG (65535 is 1) in Parquet parts.
        false_discovery_rate: with a profile: of all images that are called anomalous at most this share are good ones,
            on average; labels are set again when all images are scored.
        formats: of [`adaptclip_hf.runs.formats.FORMATS`], written when all images are scored.
        addresses: where Label Studio finds the images.

    Raises:
        ValueError: at this false-discovery rate the profile could call nothing anomalous.
    """

    model: str
    reference: Reference
    device: str | None = None
    dtype: str | None = None
    trust_remote_code: bool = False
    batch_size: int = 1
    heatmaps: bool = False
    maps: bool = False
    false_discovery_rate: float | None = None
    formats: Sequence[str] = ()
    addresses: ImageAddresses | None = None

    def __post_init__(self):
        if self.false_discovery_rate is not None and isinstance(self.reference, DecidingProfile):
            require_discoverable(len(self.reference.calibration.scores), self.false_discovery_rate)

    @cached_property
    def profile(self) -> str | None:
        """The digest of the profile that decides, for rows."""
        return self.reference.digest() if isinstance(self.reference, DecidingProfile) else None

    @property
    def usual_part(self) -> UsualPart | None:
        """The parts of a profile that decides part by part."""
        return self.reference.usual_part if isinstance(self.reference, DecidingProfile) else None

    def part_of(self, source: Source) -> str | None:
        """The part that an image belongs to: as a list says it, or its name by the profile's pattern."""
        if source.part is not None or self.usual_part is None:
            return source.part
        return self.usual_part.part_of(source.path)

    def scorer(self) -> AnomalyScorer:
        """The model, loaded."""
        from ..detector import AnomalyDetector

        return AnomalyDetector.from_pretrained(
            self.model, device=self.device, dtype=self.dtype, trust_remote_code=self.trust_remote_code
        )

    def settings(self, scorer: AnomalyScorer) -> dict:
        """All that rows depend on beside the image."""
        chosen = {name: getattr(self, name) for name in ("heatmaps", "maps", "false_discovery_rate")}
        return made_by(scorer, self.reference.object_name) | self.reference.record() | chosen
