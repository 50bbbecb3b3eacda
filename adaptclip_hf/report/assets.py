"""Templates, styles and scripts of pages, as they lie in the folders of packages."""

from importlib.resources import files

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup


def template(name: str, package: str | None = __package__) -> Template:
    """A Jinja template in the folder of a package, by default of this one."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(text_of(name, package))


def inlined(name: str) -> Markup:
    """Styles or script of this folder, to stand in a page as they are."""
    return Markup(text_of(name))


def text_of(name: str, package: str | None = __package__) -> str:
    assert package is not None
    return files(package).joinpath(name).read_text(encoding="utf-8")
