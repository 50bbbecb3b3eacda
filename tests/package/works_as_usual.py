"""Writes the table of docs/transformers.md from the tests that are marked `works`.

    python tests/package/works_as_usual.py

A test says what it proves: `@pytest.mark.works("Loading", "subfolder=", "from_pretrained(folder, subfolder='a')")`.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "transformers.md"
BEGIN, END = "<!-- written by tests/package/works_as_usual.py -->", "<!-- end of what is written -->"
AREAS = (
    "Loading",
    "Dtypes and devices",
    "Outputs",
    "Processor",
    "Compile and export",
    "Quantisation",
    "PEFT and gradients",
    "Trainer and Accelerate",
    "Pipelines",
    "Hub",
)


class Proof(NamedTuple):
    """What works, and the test that shows it."""

    area: str
    what: str
    test: str


def proofs() -> list[Proof]:
    """All that marked tests prove, by area; within one in the order of files."""
    found = [proof for path in sorted((ROOT / "tests").rglob("test_*.py")) for proof in proofs_in(path)]
    return sorted(found, key=lambda proof: AREAS.index(proof.area))


def proofs_in(path: Path) -> Iterator[Proof]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.works":
                    area, what = map(ast.literal_eval, decorator.args)
                    yield Proof(area, what, f"{path.relative_to(ROOT / 'tests').as_posix()}::{node.name}")


def table() -> str:
    """The rows of the page, an area after the other."""
    lines = ["| | what works | shown by |", "|---|---|---|"]
    last = ""
    for proof in proofs():
        lines.append(f"| {proof.area if proof.area != last else ''} | {proof.what} | `{proof.test}` |")
        last = proof.area
    return "\n".join(lines)


def page(text: str) -> str:
    """The page's text with the table of now."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
