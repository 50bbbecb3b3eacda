"""What an inspector chooses for a profile."""

from dataclasses import dataclass

from ..modeling.packing import STORAGES
from .split import AUTO

FALSE_ALARMS, ESCAPES, F1 = "false-alarms", "escapes", "f1"
CHOICES = (FALSE_ALARMS, ESCAPES, F1)


@dataclass(frozen=True)
class FitSettings:
    """What an inspector chooses for a profile.

    Attributes:
        false_alarm_rate: of good photos, in (0, 1); of scores, and of maps for the regions.
        choice: what sets the threshold of scores: "false-alarms", or with defects "escapes" (at `escape_rate`) or "f1".
        escape_rate: of defects, in (0, 1).
        calibration: "auto", "split" or "leave-one-out" (see [`Split`]).
        object_name: the word for the object in the text prompts; by default the model's own.
        storage: of features: "float32", "float16" or "int8".
        bank_size: at most so many photos (or tiles) are searched, chosen by a greedy coreset; by default all photos,
            or 64 tiles.
        seed: of the draw between bank and calibration.

    Raises:
        ValueError: a value out of range, named.
    """

    false_alarm_rate: float = 0.05
    choice: str = FALSE_ALARMS
    escape_rate: float = 0.05
    calibration: str = AUTO
    object_name: str | None = None
    storage: str = "float16"
    bank_size: int | None = None
    seed: int = 0

    def __post_init__(self):
        for name, value, known in (("choice", self.choice, CHOICES), ("storage", self.storage, STORAGES)):
            if value not in known:
                raise ValueError(f"There is no {name} {value!r}; there are {', '.join(known)}.")
        for name, rate in (("false-alarm", self.false_alarm_rate), ("escape", self.escape_rate)):
            if not 0 < rate < 1:
                raise ValueError(f"Expected a {name} rate between 0 and 1, got {rate}.")
        if self.bank_size is not None and self.bank_size < 1:
            raise ValueError(f"A bank needs at least one photo, got bank_size={self.bank_size}.")
