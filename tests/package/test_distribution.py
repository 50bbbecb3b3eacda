"""What `pip install adaptclip-hf` brings: sdist and wheel, checked, installed into a fresh environment and used."""

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from source_copy import copy_of_the_source

from adaptclip_hf import __version__

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.xdist_group("distributions")


def run(*words, **options) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def distributions(tmp_path_factory) -> tuple[Path, Path]:
    """The sdist, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    source = copy_of_the_source(tmp_path_factory.mktemp("source"))
    run(sys.executable, "-m", "build", "--outdir", folder, source)
    [sdist], [wheel] = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


@pytest.mark.slow
def test_sdist_and_wheel_hold_what_belongs_in_them(distributions):
    sdist, wheel = distributions
    run(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel)
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
    for name in (
        "__init__.py",
        "py.typed",
        "modeling/modeling_adaptclip.py",
        "processing/processing_adaptclip.py",
        "hub_cards/model_template.md",
        "models/adaptclip-tiny/model.safetensors",
        "evaluation/published_categories.json",
        "report/report.css",
        "report/report.html",
        "report/report.js",
    ):
        assert f"adaptclip_hf/{name}" in names, name
    modules = {file.relative_to(ROOT).as_posix() for file in (ROOT / "adaptclip_hf").rglob("*.py")}
    assert modules <= names, modules - names
    assert not [name for name in names if name.startswith(("tests/", "examples/", "benchmarks/"))]
    with tarfile.open(sdist) as opened:
        below = {name.partition("/")[2] for name in opened.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml", "modeling/modeling_adaptclip.py"} <= below
    assert wheel.stat().st_size < 26_000_000


def needed_by(package: str, extra: str = "") -> set[str]:
    """The names of what a package needs, and what that needs in turn, of what is installed here."""
    found, left = set(), {(package, extra)}
    while left:
        name, extra = left.pop()
        for requirement in map(Requirement, metadata.requires(name) or ()):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                left |= {(requirement.name, each) for each in ("", *requirement.extras)} - found
        found.add((name, extra))
    return {name for name, _ in found} - {package}


def lend(package: str, site: Path):
    """Links an installed package into the site-packages of another environment."""
    distribution = metadata.distribution(package)
    for name in {file.parts[0] for file in distribution.files} - {"..", "__pycache__"}:
        place = site / name
        if not place.exists() and Path(distribution.locate_file(name)).exists():
            place.symlink_to(distribution.locate_file(name))


@pytest.mark.slow(40)
def test_the_wheel_in_a_fresh_environment(distributions, tmp_path):
    """With what the wheel says that it needs and nothing else; that the index has it all, our own set-up shows."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    binaries = tmp_path / "venv" / "bin"
    [site] = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    for package in needed_by("adaptclip-hf"):
        lend(package, site)
    run(binaries / "pip", "install", "--quiet", "--no-deps", distributions[1], env=clean)
    run(binaries / "pip", "check", env=clean)
    images = ROOT / "examples" / "images" / "ring"
    call = ["detect", images / "test", "--normal", images / "normal", "--output", tmp_path / "out", "--quiet"]
    run(binaries / "adaptclip", *call, cwd=tmp_path, env=clean | {"HF_HUB_OFFLINE": "1"})
    lines = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    scores = {Path(line["path"]).stem: line["score"] for line in lines}
    assert max(scores["good_0"], scores["good_1"]) < min(scores["crack"], scores["hole"], scores["foreign_body"])
    code = "import adaptclip_hf; print(adaptclip_hf.__version__, adaptclip_hf.__file__)"
    version, place = run(binaries / "python", "-c", code, cwd=tmp_path, env=clean).split()
    assert version == __version__ and str(tmp_path) in place
    for command, extra in (("serve", "serve"), ("demo", "demo"), ("export", "export")):
        words = {"serve": ["--profile", "a=b"], "demo": [], "export": ["--output", "x"]}[command]
        done = subprocess.run(
            [binaries / "adaptclip", command, *words], cwd=tmp_path, env=clean, capture_output=True, text=True
        )
        assert done.returncode == 1 and f"adaptclip-hf[{extra}]" in done.stderr, done.stderr
