"""The examples in the docstrings, run as a reader would."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest
from PIL import Image

from adaptclip_hf.synthetic import make_category, render_sample

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {"adaptclip_hf": "adaptclip_hf", "adaptclip_hf.modeling": "modeling", "adaptclip_hf.processing": "processing"}


def modules_with_examples() -> list[str]:
    found = []
    for package, folder in FOLDERS.items():
        for file in sorted((ROOT / folder).rglob("*.py")):
            if ">>> " in file.read_text(encoding="utf-8"):
                below = file.relative_to(ROOT / folder).with_suffix("").parts
                found.append(".".join([package, *below]))
    return found


class MarkdownParser(doctest.DocTestParser):
    """Examples in fenced blocks, whose end is no output."""

    def get_examples(self, string, name="<string>"):
        return super().get_examples(string.replace("```\n", "\n"), name)

    def parse(self, string, name="<string>"):
        return super().parse(string.replace("```\n", "\n"), name)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """What the examples call ok1.jpg, ok2.jpg, part.jpg and good/0.jpg to 39.jpg: a ring, good and cracked."""
    folder = tmp_path_factory.mktemp("photos")
    category = make_category(2_000_009, "metal ring")
    (folder / "good").mkdir()
    for number in range(40):
        Image.fromarray(render_sample(category, number, 336)[0]).save(folder / "good" / f"{number}.jpg", quality=88)
    for name, seed, defect in (("ok1", 40, False), ("ok2", 41, False), ("part", 20, "crack")):
        Image.fromarray(render_sample(category, seed, 336, defect)[0]).save(folder / f"{name}.jpg", quality=88)
    return folder


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_of_docstrings(name, photos, monkeypatch):
    pytest.importorskip("ray") if name.endswith(".ray") else None
    monkeypatch.chdir(photos)
    module = import_module(name)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    said: list[str] = []
    for test in doctest.DocTestFinder(parser=MarkdownParser()).find(module, name):
        runner.run(test, out=said.append)
    assert not runner.summarize(verbose=False).failed, "".join(said)
    assert runner.tries > 0
