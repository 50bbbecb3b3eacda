"""What a run depends on, kept beside its results: it goes on with the same, and anything else is refused by name."""

from pathlib import Path

from .files import read_json, write_json


def keep_or_match(file: Path, settings: dict, advice: str):
    """Writes the settings of a new run, or checks that the run that is there has the same.

    Args:
        file: where they are kept; its folder is what messages name.
        settings: {name that people know: value}.
        advice: what to do where they differ.

    Raises:
        ValueError: names every setting that differs, and the first one's two values.
    """
    if not file.is_file():
        write_json(file, settings)
        return
    if differing := difference(read_json(file), as_json(settings)):
        raise ValueError(f"{file.parent} holds another run, which differs in {differing}: {advice}.")


def difference(found: dict, wanted: dict) -> str | None:
    """Names every setting that differs, and the first one's two values; `None` where all are the same."""
    differing = [name for name in wanted if wanted[name] != found.get(name)]
    if not differing:
        return None
    there, now = (str(each.get(differing[0]))[:80] for each in (found, wanted))
    return f"{', '.join(differing)} ({differing[0]}: {there} there, {now} now)"


def as_json(value):
    """A value as it comes back from a JSON file."""
    if isinstance(value, dict):
        return {str(key): as_json(each) for key, each in value.items()}
    return [as_json(each) for each in value] if isinstance(value, list | tuple) else value
