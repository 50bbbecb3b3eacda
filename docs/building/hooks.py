"""How `make docs` changes a page before it is Markdown: equations as MathML, and links out of the documentation."""

import re
from pathlib import Path

from latex2mathml.converter import convert

ROOT = Path(__file__).resolve().parents[2]
CODE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
DISPLAYED = re.compile(r"^\$\$\n(.+?)\n\$\$$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"\$([^$\n]+)\$")
LINK_OUT = re.compile(r"\[(`?[^\]`]+`?)\]\(((?:\.\./)+)([^)#]+)\)")


def on_page_markdown(markdown: str, page, **_) -> str:
    below = Path(page.file.src_uri).parent

    def out(match: re.Match) -> str:
        """A file of the repository that is not a page is named by its path."""
        target = (ROOT / "docs" / below / match[2] / match[3]).resolve()
        if target.is_relative_to(ROOT / "docs"):
            return match[0]
        if not target.exists():
            raise FileNotFoundError(f"{page.file.src_uri} links to {match[2]}{match[3]}, which is not there.")
        text, path = match[1].strip("`"), target.relative_to(ROOT).as_posix()
        return f"`{path}`" if text == path else f"{match[1]} (`{path}`)"

    return LINK_OUT.sub(out, with_equations(markdown))


def with_equations(markdown: str) -> str:
    """LaTeX between dollars as MathML, outside of code."""
    kept: list[str] = []

    def keep(match: re.Match) -> str:
        kept.append(match[0])
        return f"\x00{len(kept) - 1}\x00"

    markdown = CODE.sub(keep, markdown)
    markdown = DISPLAYED.sub(
        lambda match: f'\n<div class="equation">{convert(match[1], display="block")}</div>\n', markdown
    )
    markdown = INLINE.sub(lambda match: convert(match[1]), markdown)
    return re.sub("\x00(\\d+)\x00", lambda match: kept[int(match[1])], markdown)
