"""Templates, styles and script of the page, as they lie in this folder."""

from importlib.resources import files

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup


def template(name: str) -> Template:
    """A Jinja template of this folder."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(text_of(name))


def inlined(name: str) -> Markup:
    """Styles or script of this folder, to stand in a page as they are."""
    return Markup(text_of(name))


def text_of(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
