"""Several photos of one part: which belong together, and what decides about the part."""

import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple, Protocol

from ..image_files import has_image_suffix
from ..labels import ANOMALOUS, NORMAL, NOT_INSPECTABLE

WORST_FIRST = (ANOMALOUS, NOT_INSPECTABLE, NORMAL)
PART, VIEW, ANYTHING = "{part}", "{view}", "*"
EXAMPLE = "'{part}_view{view}'"
TOKEN = re.compile(r"(\{[^{}]*\}|\*)")
LONGEST_PATTERN = 200  # characters
LONGEST_NAME = 255  # characters of a file's or folder's name, as file systems have them
MOST_OPEN = 4  # places that stand for anything: with more a name could be tried in very many ways
NAMED = 10  # at most so many parts are named in a line

Parts = Sequence[str] | Mapping[str, str]
PartOf = Callable[[int, str], str | None]


class InPart(Protocol):
    """A photo of a profile, as it is scored or as `profile.json` holds it."""

    @property
    def name(self) -> str: ...
    @property
    def part(self) -> str | None: ...
    @property
    def score(self) -> float: ...
    @property
    def peak(self) -> float: ...


class PartAndView(NamedTuple):
    part: str
    view: str | None


@dataclass(frozen=True)
class PartPattern:
    """How names of photos tell the part, such as `{part}_view{view}`.

    `{part}` and `{view}` stand for one letter or more, `*` for any number of them; none of them for a `/`. It is held
    against the file's name without its ending; with `/` in it, against as many folders above too. Where a name fits in
    several ways, what comes first is as long as can be.

    A part's name is its path without what else the pattern says: `line/today/A7` for `line/today/A7_view2.png`. So
    parts of one number in two folders stay two parts, unless the pattern names the folder, as `{view}/{part}` does for
    a folder a camera.

    Attributes:
        text: the pattern.

    Raises:
        ValueError: it is none; says what was expected.
    """

    text: str

    def __post_init__(self):
        text = self.text
        if not isinstance(text, str) or len(text) > LONGEST_PATTERN:
            raise ValueError(
                f"Expected a part pattern of at most {LONGEST_PATTERN} letters, such as {EXAMPLE}, got {text!r:.60}."
            )
        tokens = [token for token in TOKEN.split(text) if token]
        if unknown := [token for token in tokens if token[0] == "{" and token not in (PART, VIEW)]:
            raise ValueError(f"The part pattern {text!r} has {unknown[0]}: only {PART} and {VIEW} have a meaning.")
        if tokens.count(PART) != 1 or tokens.count(VIEW) > 1:
            raise ValueError(
                f"The part pattern {text!r} must have {PART} once, where the part's name stands, and {VIEW} at most "
                f"once, such as {EXAMPLE}."
            )
        is_open = [token in (PART, VIEW, ANYTHING) for token in tokens]
        if any(map(all, pairwise(is_open))):
            raise ValueError(f"The part pattern {text!r} needs letters between {PART}, {VIEW} and {ANYTHING}.")
        if sum(is_open) > MOST_OPEN:
            raise ValueError(f"The part pattern {text!r} has more than {MOST_OPEN} of {PART}, {VIEW} and {ANYTHING}.")
        if not all(text.split("/")):
            raise ValueError(f"The part pattern {text!r} has a folder without a name.")
        if has_image_suffix(text):
            raise ValueError(f"The part pattern {text!r} is held against names without their ending: leave it out.")

    @cached_property
    def _expression(self) -> re.Pattern[str]:
        meanings = {PART: "(?P<part>[^/]+)", VIEW: "(?P<view>[^/]+)", ANYTHING: "[^/]*"}
        return re.compile("".join(meanings.get(token, re.escape(token)) for token in TOKEN.split(self.text)), re.DOTALL)

    def of(self, path: str) -> PartAndView | None:
        """The part that a photo shows, and the view; `None` where its name does not match."""
        path = path.replace(os.sep, "/")
        names = path.split("/")[-1 - self.text.count("/") :]
        tail = "/".join(names)
        stem = tail[: tail.rindex(".")] if has_image_suffix(tail) else tail
        if max(map(len, names)) > LONGEST_NAME or (found := self._expression.fullmatch(stem)) is None:
            return None
        part = path[: len(path) - len(tail)] + found["part"]
        return PartAndView(part, found["view"] if VIEW in self.text else None)


def part_finder(pattern: str | None, parts: Parts | None = None) -> PartOf:
    """What says, of a photo's place among those that are given and its name, to which part it belongs.

    Args:
        pattern: of names; asked where `parts` says nothing.
        parts: a name for each photo, in order, or {name of a photo: name of its part}.
    """
    compiled = None if pattern is None else PartPattern(pattern)

    def part_of(number: int, name: str) -> str | None:
        if isinstance(parts, Mapping):
            if (part := parts.get(name)) is not None:
                return part
        elif parts is not None:
            if number >= len(parts):
                raise ValueError(f"{name}: there are {len(parts)} names of parts, and more photos.")
            return parts[number]
        found = None if compiled is None else compiled.of(name)
        return found and found.part

    return part_of


def require_parts(good: Iterable[tuple[str, str | None]], pattern: str | None):
    """Refuses good photos of which some belong to a part and others do not.

    Args:
        good: (name, part) of each.

    Raises:
        ValueError: names the first photo without a part.
    """
    good = list(good)
    without = [name for name, part in good if part is None]
    if without and (pattern is not None or len(without) < len(good)):
        why = "none is named for it" if pattern is None else f"its name does not match the part pattern {pattern!r}"
        raise ValueError(
            f"{without[0]} belongs to no part: {why}. Each good photo must belong to one "
            f"({len(without)} of {len(good)} do not)."
        )


def groups_of(photos: Sequence[InPart]) -> list[list[int]]:
    """Numbers of photos, those of one part together; a photo without a part is one of its own."""
    groups: dict[str | int, list[int]] = {}
    for number, photo in enumerate(photos):
        groups.setdefault(number if photo.part is None else photo.part, []).append(number)
    return list(groups.values())


def highest(photos: Sequence[InPart], field: str = "score") -> list[float]:
    """The highest score (or "peak") of each part."""
    return [max(getattr(photos[number], field) for number in group) for group in groups_of(photos)]


def label_of_part(labels: Iterable[str | None]) -> str | None:
    """A part's label by those of its photos: the worst one; `None` where no photo has a label."""
    return min(filter(None, labels), key=WORST_FIRST.index, default=None)


@dataclass(frozen=True)
class UsualPart:
    """How the good parts of a profile were photographed.

    Attributes:
        photos: how many a part has, as most have.
        views: that more than half of the parts have; none where names do not tell.
        pattern: of names; `None` where a list told the parts.
    """

    photos: int
    views: tuple[str, ...]
    pattern: PartPattern | None

    @classmethod
    def of(cls, photos: Sequence[InPart], pattern: str | None) -> "UsualPart":
        """
        Args:
            photos: good ones.
        """
        groups = groups_of(photos)
        counts = Counter(map(len, groups))
        most = max(counts, key=lambda count: (counts[count], count))
        usual = cls(most, (), None if pattern is None else PartPattern(pattern))
        seen = Counter(view for group in groups for view in usual.views_of(photos[number].name for number in group))
        return cls(most, tuple(sorted(view for view in seen if 2 * seen[view] > len(groups))), usual.pattern)

    def views_of(self, names: Iterable[str]) -> set[str]:
        found = (self.pattern.of(name) for name in names) if self.pattern is not None else ()
        return {each.view for each in found if each is not None and each.view is not None}

    def part_of(self, path: str) -> str | None:
        found = None if self.pattern is None else self.pattern.of(path)
        return found and found.part

    def differs(self, names: Collection[str]) -> str | None:
        """How a part of these photos differs from the usual, in words; `None` where it does not."""
        seen = self.views_of(names)  # of photos in memory none, whose names tell nothing
        if seen and (lacking := [view for view in self.views if view not in seen]):
            return f"lacks {'view' if len(lacking) == 1 else 'views'} {', '.join(lacking)}"
        if len(names) < self.photos:
            return f"{len(names)} of {self.photos} photos"
        return None if len(names) == self.photos else f"{len(names)} photos, not {self.photos}"

    def describe(self) -> str:
        views = f" (views {', '.join(self.views)})" if self.views else ""
        return f"{self.photos} {'photo' if self.photos == 1 else 'photos'} a part{views}"


def named(parts: Sequence[str], count: int) -> str:
    """The first of some parts by their names, and how many more there are.

    Args:
        count: of all.
    """
    more = f" and {count - NAMED} more" if count > NAMED else ""
    return ", ".join(parts[:NAMED]) + more


@dataclass(frozen=True)
class PartDecision:
    """The decision on a part from its photos.

    Attributes:
        label: "anomalous" if one of its photos is; else "not inspectable" if one of them is; else "normal".
        score: the highest of its photos.
        p_value: how often a good part's highest score is this high or higher.
        worst: the name of the photo with the highest score.
        photos: how many were scored.
        differs: how that differs from the profile's parts, such as "lacks view 3", in which a defect would not be seen;
            `None` where it does not.
    """

    label: str
    score: float
    p_value: float
    worst: str
    photos: int
    differs: str | None
