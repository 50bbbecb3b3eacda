"""What came of pasting defects on a profile's good photos: the record that a verdict is made of."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from ..synthetic.pasted_kinds import CONTRASTS, PASTED_KINDS

SIZES = (0.01, 0.02, 0.04, 0.08)  # of the photo's short side
CELLS = tuple((kind, size, strength) for kind in PASTED_KINDS for size in SIZES for strength in CONTRASTS)


@dataclass(frozen=True)
class Cell:
    """Defects of one kind, size and strength.

    Attributes:
        kind: one of `PASTED_KINDS`.
        size: their length, of the photo's short side.
        strength: "clear" or "faint".
        scores: of the photos with them, one a defect.
    """

    kind: str
    size: float
    strength: str
    scores: tuple[float, ...]

    def found(self, threshold: float) -> int:
        return sum(score > threshold for score in self.scores)


@dataclass(frozen=True)
class Place:
    """Where good photos differ most from one another.

    Attributes:
        box: left, top, width and height, in percent of the part of the photos that is looked at.
        ratio: the mean of their maps there, compared with its median.
        photos: how many were looked at.
        peaks: how many of these have their map's peak there.
    """

    box: tuple[float, float, float, float]
    ratio: float
    photos: int
    peaks: int


@dataclass(frozen=True)
class HalfBank:
    """What half of the photos would find of the same defects, with a threshold of its own at the same rate.

    Attributes:
        photos: that the half has.
        pasted: how many defects were looked at.
        found: how many of them it finds.
        found_by_all: how many the whole bank finds, with the threshold of its rate.
    """

    photos: int
    pasted: int
    found: int
    found_by_all: int


@dataclass(frozen=True)
class Counted:
    """What defects were counted at: the threshold of a bank that is no more.

    Attributes:
        threshold: above it a defect was found.
        false_alarm_rate: of that threshold, on average.
    """

    threshold: float
    false_alarm_rate: float


@dataclass(frozen=True)
class PastedDefects:
    """What came of pasting defects on good photos.

    Attributes:
        seed: of all draws.
        photos: how many good photos got defects.
        cells: by kind, size and strength.
        pixels: how many of the photo's pixels, along a side, one pixel of the model's input covers.
        place: `None` where there is none, or where it was not looked for.
        half: `None` where it was not looked at.
        before_update: photos were added or removed since, and this is what the defects were counted at. Their scores
            belong to the older bank, so the threshold of a newer one says nothing about them.
    """

    seed: int
    photos: int
    cells: tuple[Cell, ...]
    pixels: float
    place: Place | None = None
    half: HalfBank | None = None
    before_update: Counted | None = None

    @property
    def count(self) -> int:
        return sum(len(cell.scores) for cell in self.cells)

    def found(self, threshold: float, sizes: Sequence[float] = SIZES, strengths: Sequence[str] = tuple(CONTRASTS)):
        """(found, pasted) of some of the defects."""
        some = [cell for cell in self.cells if cell.size in sizes and cell.strength in strengths]
        return sum(cell.found(threshold) for cell in some), sum(len(cell.scores) for cell in some)

    @classmethod
    def from_json(cls, content: dict) -> "PastedDefects":
        """From what [`verdict_of`] says of them."""
        place, half = content["place"], content["half_of_the_photos"]
        cells = (
            Cell(each["kind"], each["size"], each["strength"], tuple(each["scores"])) for each in content["defects"]
        )
        return cls(
            content["seed"],
            content["photos"],
            tuple(cells),
            content["pixels"],
            place and Place(**(place | {"box": tuple(place["box"])})),
            half and HalfBank(**half),
            Counted(content["threshold"], content["false_alarm_rate"]) if content["before_update"] else None,
        )

    def to_json(self) -> dict:
        """As JSON values, without what depends on a threshold."""
        place = self.place and asdict(self.place) | {"box": list(self.place.box)}
        half = self.half and asdict(self.half)
        return {
            "seed": self.seed,
            "photos": self.photos,
            "pixels": self.pixels,
            "place": place,
            "half_of_the_photos": half,
            "before_update": self.before_update is not None,
        }
