"""Whether an evaluation reproduces what was published, figure by figure."""

from ..versions import package_versions
from .markdown import published_cell, summary_cell, title


def compared_lines(results: dict) -> list[dict]:
    """The lines of an evaluation's summary for which a figure was published; `differs` says whether they disagree.

    Args:
        results: content of results.json.
    """
    return [line for line in results["summary"] if line.get("published") is not None]


def describe(line: dict) -> str:
    """A summary's line beside the published figure; per cent."""
    what = f"{line['data_set']}, {line['category'] or 'mean'}, {line['shots']}-shot {title(line['metric'])}"
    difference = 100 * line["mean"] - 100 * line["published"]
    outcome = "DIFFERS" if line["differs"] else "reproduced"
    return f"{outcome:10}  {what}: {summary_cell(line)}, published {published_cell(line)} ({difference:+.1f})"


def verdict(results: dict) -> str:
    """A report in Markdown, ready to paste: what is reproduced, line by line, and with which versions."""
    compared, model = compared_lines(results), results["model"]
    good = sum(not line["differs"] for line in compared)
    versions = ", ".join(f"{name} {number}" for name, number in {**package_versions(), **results["versions"]}.items())
    names = {line["data_set"] for line in compared}
    missing = [each["name"] for each in results["data_sets"] if each["name"] not in names]
    lines = [
        f"# {good} of {len(compared)} published figures reproduced",
        "",
        f"Model {model['name']}, weights {model['weights'][:16]}, {model['image_size']} px, {model['dtype']}; "
        f"seeds {', '.join(map(str, results['protocol']['seeds']))}. {versions}.",
        "A figure is reproduced if it lies within three standard deviations of the published one. These count the "
        "deviations of both over their seeds, and 0.1 for rounding.",
        *(f"Nothing was published about {name}." for name in missing),
        "",
        "```",
        *map(describe, compared),
        "```",
    ]
    return "\n".join(lines) + "\n"
