"""Which turned or mirrored copies of normal images are compared with, see [`TurnedCopies`]; imports nothing heavy."""

from .tiles import View

AUTO, NONE, ROTATIONS, FLIPS = "auto", "none", "rotations", "flips"
AUGMENTS = (AUTO, NONE, ROTATIONS, FLIPS)
# Which tokens of copies are kept is found with unit tokens in whole numbers of this: sums of their products stay below
# 2 ** 24, where float32 is exact in any order, so that each library and processor keeps the same ones.
WHOLE_NUMBERS = 4000


def require_augment(augment: str, view: View):
    """Refuses a way that there is not, or turned copies where each place is compared with its own.

    Raises:
        ValueError: names what there is.
    """
    if not isinstance(augment, str) or augment not in AUGMENTS:
        raise ValueError(f"There is no augment {augment!r:.60}; there are {', '.join(AUGMENTS)}.")
    if view.by_place and augment in (ROTATIONS, FLIPS):
        raise ValueError(
            f"Where each place is compared with its own, a turned copy has none: leave augment={augment!r} out."
        )


def ignored(line: str):
    """Of nobody who listens."""
