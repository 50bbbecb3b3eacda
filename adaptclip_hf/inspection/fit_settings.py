"""What an inspector chooses for a profile."""

from dataclasses import dataclass
from numbers import Integral

import numpy as np

from ..engine.augments import AUGMENTS
from ..engine.augments import AUTO as AUTO_AUGMENT
from ..modeling.bank_content import STORAGES
from .calibration import is_number
from .parts import PartPattern
from .split import AUTO, FEWEST_COMPARED, METHODS

FALSE_ALARMS, ESCAPES, F1 = "false-alarms", "escapes", "f1"
CHOICES = (FALSE_ALARMS, ESCAPES, F1)
LONGEST_WORD = 200  # characters; a text tower reads 77 tokens
LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True)
class FitSettings:
    """What an inspector chooses for a profile. Numbers of numpy become Python's, so that they can be saved.

    Attributes:
        false_alarm_rate: of good photos, in (0, 1); of scores, and of maps for the regions.
        choice: what sets the threshold of scores: "false-alarms", or with defects "escapes" (at `escape_rate`) or "f1".
        escape_rate: of defects, in (0, 1).
        calibration: "auto", "split", "cross" or "leave-one-out" (see [`Split`]).
        object_name: the word for the object in the text prompts; by default the model's own.
        storage: of features: "float32", "float16" or "int8".
        bank_size: at most so many photos (or tiles), from 2, are searched, chosen by a greedy coreset; by default all
            photos, or 64 tiles.
        seed: of the draw between bank and calibration, from 0.
        augment: "auto", "none", "rotations" or "flips": copies of the good photos that are compared with beside them
            (see [`AnomalyScorer.remember`]). A profile's own says what "auto" decided.
        part_pattern: how names of photos tell the part that they show, such as "{part}_view{view}" (see
            [`PartPattern`]); decisions are then on parts.

    Raises:
        ValueError: a value of another type or out of range, named.
    """

    false_alarm_rate: float = 0.05
    choice: str = FALSE_ALARMS
    escape_rate: float = 0.05
    calibration: str = AUTO
    object_name: str | None = None
    storage: str = "float16"
    bank_size: int | None = None
    seed: int = 0
    augment: str = AUTO_AUGMENT
    part_pattern: str | None = None

    def __post_init__(self):
        known = {"choice": CHOICES, "calibration": METHODS, "storage": STORAGES, "augment": AUGMENTS}
        for name, values in known.items():
            one_of(name, getattr(self, name), values)
        plain = {name: rate(name, getattr(self, name)) for name in ("false_alarm_rate", "escape_rate")}
        if self.bank_size is not None:
            plain["bank_size"] = whole("bank_size", self.bank_size, FEWEST_COMPARED)
        plain["seed"] = whole("seed", self.seed, 0)
        for name, value in plain.items():
            object.__setattr__(self, name, value)
        if self.part_pattern is not None:
            PartPattern(self.part_pattern)
        word = self.object_name
        if word is not None and (not isinstance(word, str) or not word.strip() or len(word) > LONGEST_WORD):
            raise ValueError(
                f"Expected an object_name that is a word of at most {LONGEST_WORD} letters, got {word!r:.60}."
            )


def one_of(name: str, value, known: tuple[str, ...]):
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"There is no {name} {value!r:.60}; there are {', '.join(known)}.")


def rate(name: str, value) -> float:
    """A rate as Python's float; of numpy's shorter floats the number that they are written as, 0.1 for float32(0.1)."""
    if not is_number(value) or not 0 < (number := float(str(value) if isinstance(value, np.floating) else value)) < 1:
        raise ValueError(f"Expected a {name} between 0 and 1, got {value!r:.60}.")
    return number


def whole(name: str, value, least: int) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool) or not least <= int(value) <= LARGEST_SEED:
        raise ValueError(f"Expected a {name} that is a whole number from {least}, got {value!r:.60}.")
    return int(value)
