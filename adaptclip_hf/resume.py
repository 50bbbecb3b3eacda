"""The check by which a run goes on from results that are there: only with the settings of the run that wrote them."""

import re
from pathlib import Path

from .files import as_json, parse_json, write_json

# settings of a run that differ wherever another one does, of which the reader is told alone
FOLLOWING = {"weights": ("fingerprint", "normal_images"), "dtype": ("normal_images",)}
DIGEST = re.compile(r"\b([0-9a-f]{8})[0-9a-f]{24,}\b")


def keep_or_match(file: Path, settings: dict, advice: str):
    """Writes the settings of a new run, or checks that the run that is there has the same.

    Args:
        file: where they are kept; messages name its folder.
        settings: {name that people know: value}.
        advice: what to do where they differ.

    Raises:
        ValueError: names every setting that differs, and the first one's two values.
    """
    if file.is_file():
        require_same(parsed_settings(file.read_bytes(), str(file), advice), settings, str(file.parent), advice)
    else:
        write_json(file, settings)


def parsed_settings(content: bytes, file: str, advice: str) -> dict:
    """The settings in a file's content.

    Raises:
        ValueError: they are damaged; names the file.
    """
    try:
        settings = parse_json(content)
    except ValueError as error:
        raise ValueError(f"{file} cannot be read ({error}): {advice}.") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{file} does not hold the settings of a run: {advice}.")
    return settings


def require_same(found: dict, settings: dict, folder: str, advice: str):
    """Raises what [`keep_or_match`] does, where the settings that were found in a folder are others."""
    wanted = as_json(settings)
    differing = [name for name in wanted if identity(wanted[name]) != identity(found.get(name))]
    for cause, effects in FOLLOWING.items():
        if cause in differing:
            differing = [name for name in differing if name not in effects]
    if differing:
        there, now = (shown(identity(each.get(differing[0]))) for each in (found, wanted))
        difference = f"{', '.join(differing)} ({differing[0]}: {there} there, {now} now)"
        raise ValueError(f"{folder} holds another run, which differs in {difference}: {advice}.")


def shown(value) -> str:
    """A setting for people: of digests the beginning."""
    return DIGEST.sub(r"\1...", str(value))[:80]


def identity(value):
    """A setting without the words that describe it, which other versions may change: its digest, if it has one."""
    return value["digest"] if isinstance(value, dict) and "digest" in value else value
