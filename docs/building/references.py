"""Turns names in brackets in docstrings, such as [`AdaptCLIPModel`], into links if the reference has an entry."""

import re

import griffe

REFERENCE = re.compile(r"\[`(~?)([\w.]+)`\]")
ENTRIES = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)


def entries() -> dict[str, str]:
    """{name: full path} of the entries of the reference page."""
    with open("docs/api.md", encoding="utf-8") as page:  # noqa: PTH123
        return {path.rpartition(".")[2]: path for path in ENTRIES.findall(page.read())}


class References(griffe.Extension):
    def __init__(self):
        self.entries = entries()

    def on_object(self, *, obj: griffe.Object, **_):
        if obj.docstring is not None:
            obj.docstring.value = REFERENCE.sub(self.link, obj.docstring.value)

    def link(self, match: re.Match) -> str:
        first, dot, rest = match[2].partition(".")
        path = self.entries.get(first)
        shown = match[2].rpartition(".")[2] if match[1] else match[2]
        if path is None or (dot and rest.startswith("_")):
            return f"`{shown}`"
        return f"[`{shown}`][{path}{dot}{rest}]"
