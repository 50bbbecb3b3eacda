"""A drift that was found, and how it is told; imports nothing heavy."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Drift:
    """A window of photos whose scores differ from those of the profile's good photos."""

    photos: int
    statistic: float
    p_value: float
    higher: bool

    def describe(self) -> str:
        where = "higher" if self.higher else "lower"
        return (
            f"the last {self.photos} photos called good score {where} than the profile's own (Kolmogorov-Smirnov, "
            f"p = {self.p_value:.2g}): look at light, camera and product, or fit the profile anew"
        )
