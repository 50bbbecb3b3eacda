"""The check that a model is the one that a profile was made with; what to do where it is not."""

from typing import TYPE_CHECKING, Any

from ..modeling.bank_content import differences
from ..runtimes.description import OF, lowered
from .moved_scores import DTYPE, Moved
from .photos import made_by

if TYPE_CHECKING:
    from ..engine import AnomalyScorer
    from .deciding import DecidingProfile

WEIGHTS, FINGERPRINT = "weights", "fingerprint"


def require_same_model(
    profile: "DecidingProfile", scorer: "AnomalyScorer", exactly: bool = False, remedy: str | None = None
):
    """Refuses another model than the one that a profile was made with: its scores mean something else.

    Args:
        exactly: its photos are to be compared with others: another dtype is refused however little it does.
        remedy: what to do where the dtype or precision differs, of a caller that knows more.

    Raises:
        ValueError: names what differs, and what to do.
    """
    there, here = profile.made_by, made_by(scorer, profile.object_name)
    differing = [name for name in there | here if there.get(name) != here.get(name)]
    if not differing:
        return
    # versions before 0.3 wrote float32 for an export in a lower precision, whose weights say it
    if differing == [DTYPE] and (lowered(here[WEIGHTS]) or (not exactly and profile.suits(here[DTYPE]))):
        return
    if is_other_precision(there, here, differing):
        why = why_not(there, here, profile.moved.get(here[DTYPE]), exactly)
        raise ValueError(
            f"This profile was made by {maker(there)} ({profile.model}), and this is {maker(here, scorer.is_export)}: "
            f"{why}. {remedy or what_to_do(profile, scorer, WEIGHTS in differing)}"
        )
    raise ValueError(
        f"This profile was made with another model or preprocessing ({profile.model}): "
        f"{'; '.join(phrases(there, here, differing))}. Name that model (--model), or fit a new profile with this one."
    )


def is_other_precision(there: dict[str, Any], here: dict[str, Any], differing: list[str]) -> bool:
    """Whether it may be the same model in another dtype, which may round its weights, or exported in another way."""
    in_dtype = DTYPE in differing and {*differing} <= {DTYPE, WEIGHTS, FINGERPRINT}
    return in_dtype or without_precision(there) == without_precision(here)


def why_not(there: dict[str, Any], here: dict[str, Any], moved: Moved | None, exactly: bool) -> str:
    if there[WEIGHTS] != here[WEIGHTS]:
        return "their weights differ, as weights of one model do that are rounded"
    if exactly:
        return "its photos and those that are added must be alike"
    if moved is None:
        return "how far its scores move then was not measured when it was made"
    return (
        f"on {moved.photos} of its photos scores move by up to {moved.largest:.2g} then, and by {moved.mean:.2g} "
        "on average, which is too much"
    )


def what_to_do(profile: "DecidingProfile", scorer: "AnomalyScorer", weights_differ: bool) -> str:
    there, here = profile.made_by[DTYPE], scorer.dtype
    if not scorer.is_export and not weights_differ:
        return (
            f"Say --dtype {there} (dtype={there!r} in Python), or fit a new profile in {here} (`adaptclip fit "
            f"--normal PHOTOS --dtype {here}`)."
        )
    fit = f"--model {scorer.model.name_or_path}" + ("" if scorer.is_export else f" --dtype {here}")
    way_back = f"--model {profile.model}" + ("" if lowered(profile.made_by[WEIGHTS]) else f" --dtype {there}")
    return (
        f"Fit a profile with it (`adaptclip fit --normal PHOTOS {fit}`), or decide by what made this one ({way_back}; "
        "in Python from_pretrained)."
    )


def maker(about: dict[str, Any], is_export: bool = False) -> str:
    """Who scores, in words."""
    if precision := lowered(about[WEIGHTS]):
        return f"an export in {precision}"
    return f"an export in {about[DTYPE]}" if is_export else f"the model in {about[DTYPE]}"


def without_precision(about: dict[str, Any]) -> dict[str, Any]:
    fingerprint = about[FINGERPRINT] | {WEIGHTS: ""}
    return about | {DTYPE: "", WEIGHTS: about[WEIGHTS].rpartition(OF)[2], FINGERPRINT: fingerprint}


def phrases(there: dict[str, Any], here: dict[str, Any], differing: list[str]) -> list[str]:
    """For each setting that differs its two values; those within a group one by one."""
    told = []
    once = {WEIGHTS: ""} if WEIGHTS in differing else {}  # the fingerprint's are the same ones
    for name in differing:
        was, now = there.get(name), here.get(name)
        if isinstance(was, dict) and isinstance(now, dict):
            told += differences(was | once, now | once)
        else:
            told.append(f"{name} is {str(was)[:16]}, this one's is {str(now)[:16]}")
    return told
