"""Whether an evaluation reproduces what was published, figure by figure."""

from dataclasses import dataclass

from ..versions import package_versions
from .markdown import cell, title


@dataclass(frozen=True)
class Check:
    """A figure beside the published one; per cent."""

    data_set: str
    category: str | None
    shots: int
    metric: str
    ours: str
    published: str
    difference: float
    reproduced: bool

    def describe(self) -> str:
        place = f"{self.data_set}, {self.category or 'mean'}, {self.shots}-shot {title(self.metric)}"
        said = "reproduced" if self.reproduced else "DIFFERS"
        return f"{said:10}  {place}: {self.ours}, published {self.published} ({self.difference:+.1f})"


def checks_of(results: dict) -> list[Check]:
    """Every figure of an evaluation of which one was published; see [`differs`] for what is tolerated.

    Args:
        results: content of results.json.
    """
    checks = []
    for line in results["summary"]:
        if line.get("published") is None:
            continue
        mean, theirs = 100 * line["mean"], 100 * line["published"]
        stds = [None if line[name] is None else 100 * line[name] for name in ("std", "published_std")]
        place = (line["data_set"], line["category"], line["shots"], line["metric"])
        shown = (cell(mean, stds[0]), cell(theirs, stds[1]))
        checks.append(Check(*place, *shown, mean - theirs, not line["differs"]))
    return checks


def verdict(results: dict) -> str:
    """A report in Markdown, ready to paste: what is reproduced, line by line, and with what."""
    checks, model = checks_of(results), results["model"]
    good = sum(check.reproduced for check in checks)
    versions = ", ".join(f"{name} {number}" for name, number in {**package_versions(), **results["versions"]}.items())
    missing = [each["name"] for each in results["data_sets"] if each["name"] not in {c.data_set for c in checks}]
    lines = [
        f"# {good} of {len(checks)} published figures reproduced",
        "",
        f"Model {model['name']}, weights {model['weights'][:16]}, {model['image_size']} px, {model['dtype']}; "
        f"seeds {', '.join(map(str, results['protocol']['seeds']))}. {versions}.",
        "A figure is reproduced when it lies within three standard deviations of the published one: those of both over "
        "their seeds, and 0.1 for the rounding.",
        *(f"Nothing was published of {name}." for name in missing),
        "",
        "```",
        *(check.describe() for check in checks),
        "```",
    ]
    return "\n".join(lines) + "\n"
