"""The package itself: importable from anywhere, light, registered, documented by lines that run."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from pages import FOLLOWED, NEED_THE_HUB, PAGES, ROOT
from safetensors.torch import load_file
from source_copy import copy_of_the_source
from transformers import pipeline

from adaptclip_hf import DEFAULT_MODEL, AdaptCLIPModel
from adaptclip_hf.data import LAYOUTS


def run_python(code, folder, *words, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


LIGHT = """
import os, socket, sys, time
for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"):
    os.environ.pop(name, None)
def refuse(*arguments, **more): raise OSError("no network at import")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import torch
from transformers import AutoModel, AutoProcessor, CLIPModel, Pipeline
start = time.perf_counter()
import adaptclip_hf
from adaptclip_hf.modeling import AdaptCLIPModel
from adaptclip_hf.processing import AdaptCLIPProcessor
assert time.perf_counter() - start < 5
# where it is a library it leaves that to its user
assert not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys()
assert not {"datasets", "evaluate", "accelerate", "pandas"} & {name for name in sys.modules if "." not in name} - before
from transformers.pipelines import PIPELINE_REGISTRY
assert "anomaly-detection" in PIPELINE_REGISTRY.get_supported_tasks()
print(adaptclip_hf.__file__)
""".replace("start = time", "before = {name for name in sys.modules}\nstart = time")


@pytest.mark.slow
@pytest.mark.parametrize("folder", [ROOT, ROOT / "tests", Path("/")])
def test_import_from_any_folder(folder):
    assert run_python(LIGHT, folder).endswith("__init__.py")


NO_NETWORK = """
import socket, sys
calls = []
def refuse(*arguments, **more):
    calls.append(arguments)
    raise OSError("no network here")
socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refuse
import adaptclip_hf
from huggingface_hub import constants
assert not constants.HF_HUB_OFFLINE
from transformers import AutoModel, AutoProcessor, pipeline
model, photo = sys.argv[1:]
adaptclip_hf.AdaptCLIPModel.from_pretrained(model)
adaptclip_hf.AdaptCLIPProcessor.from_pretrained(model)
AutoModel.from_pretrained(model), AutoProcessor.from_pretrained(model)
detect = pipeline("anomaly-detection", model=model)
detect.encode_prompts([photo]).save_pretrained("bank.safetensors")
print(detect(photo)["score"], detect(photo, normal_images=[photo])["score"])
print(detect(photo, prompt_bank="bank.safetensors", threshold=0.5)["label"])
print(pipeline("anomaly-detection")(photo)["score"])
from adaptclip_hf.cli import main
assert main(["detect", photo, "--model", model, "--output", "out", "--quiet"]) == 0
assert not calls, calls
"""


@pytest.mark.slow
def test_no_network_call_at_import_load_or_in_a_local_pipeline(small_folder, photos, tmp_path):
    online = {"HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "empty")}
    assert run_python(NO_NETWORK, tmp_path, str(small_folder), photos["bad"][0], **online)


@pytest.mark.slow
def test_plain_install_works_from_the_root_too(tmp_path):
    target = tmp_path / "site"
    source = str(copy_of_the_source(tmp_path / "source"))
    call = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), source]
    subprocess.run(call, check=True)
    installed = target / "adaptclip_hf"
    assert (installed / "modeling" / "modeling_adaptclip.py").is_file()
    assert (installed / "models" / "adaptclip-tiny" / "model.safetensors").is_file()
    assert (installed / "hub_cards" / "model_template.md").is_file()
    code = "import adaptclip_hf, adaptclip_hf.modeling as m; print(adaptclip_hf.__file__, m.__file__)"
    elsewhere = run_python(code, tmp_path, PYTHONPATH=str(target))
    assert elsewhere.count(str(installed)) == 2
    assert str(ROOT) in run_python(code, ROOT, PYTHONPATH=str(target))


def test_versions_from_a_checkout_that_is_not_installed(monkeypatch):
    from importlib.metadata import PackageNotFoundError

    from adaptclip_hf import __version__, versions

    def not_installed(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(versions, "version", not_installed)
    found = versions.package_versions("torch")
    assert found == {"adaptclip-hf": __version__, "torch": "not installed"}


def test_the_embedded_model_is_small_and_in_half_precision():
    file = Path(DEFAULT_MODEL) / "model.safetensors"
    assert file.stat().st_size <= 24_000_000
    tensors = load_file(file)
    assert {tensor.element_size() for name, tensor in tensors.items() if name.startswith("clip.")} == {2}
    model = AdaptCLIPModel.from_pretrained(DEFAULT_MODEL)
    assert str(model.dtype) == "torch.float32" and not model.training


def test_the_embedded_model_finds_the_defects_of_the_sample_images():
    """The main job: every defective sample scores above every good one, and its map peaks in the defect."""
    import numpy as np
    from PIL import Image

    detect = pipeline("anomaly-detection", model=DEFAULT_MODEL, device="cpu")
    for product in sorted((ROOT / "examples" / "images").iterdir()):
        normal = [str(path) for path in sorted((product / "normal").iterdir())]
        scores = {"good": [], "bad": []}
        for path in sorted((product / "test").iterdir()):
            result = detect(str(path), normal_images=normal)
            scores["good" if "good" in path.name else "bad"].append(result["score"])
            mask = product / "masks" / f"{path.stem}.png"
            if mask.exists():
                inside = np.asarray(Image.open(mask)) > 0
                anomaly_map = result["anomaly_map"]
                assert anomaly_map[inside].mean() > 1.5 * anomaly_map[~inside].mean(), path
        assert min(scores["bad"]) > max(scores["good"]), product.name


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent != FOLLOWED], ids=lambda page: page.name)
def test_the_lines_of_the_pages_run(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("adaptclip_hf.data.specs.LAYOUTS", dict(LAYOUTS))
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    for block in blocks:
        if not any(word in block for word in (*NEED_THE_HUB, "s3://")):
            exec(compile(block, page.name, "exec"), {})
    assert blocks or page.name != "README.md"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_the_links_of_the_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        assert target.startswith("http") or (page.parent / target).exists(), target


def test_the_commands_of_the_pages_are_known():
    """Each `adaptclip ...` line of README and docs is a call that the parser takes."""
    from adaptclip_hf.cli import build_parser

    calls = []
    for page in PAGES:
        for block in re.findall(r"^```(?:\w*)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE):
            lines = re.sub(r"\\\n\s*", "", block).splitlines()  # a call over several lines is one
            calls += [(page.name, line) for line in lines if line.startswith("adaptclip ")]
    assert len(calls) > 30
    for page, line in calls:
        for words in expanded(shlex.split(line.partition("#")[0])[1:]):
            args, more = build_parser().parse_known_args(words)
            assert not more or args.command == "train", (page, line)


def expanded(words: list[str]) -> list[list[str]]:
    """A call's words; `[...]` in a line stands for words that may be left out."""
    return [[word.strip("[]") for word in words if word != "..."]]


def test_the_project_names_no_registry_host():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    hosts = ["pypi" + ".org", "python" + "hosted", "download.pytorch" + ".org"]
    for name in tracked:
        path = ROOT / name
        if path.suffix in (".py", ".md", ".toml", ".txt", "") and path.is_file():
            text = path.read_text(errors="ignore")
            assert not any(host in text for host in hosts), name


def test_no_text_of_ours_shows_a_threshold_as_if_it_could_be_right():
    """What good parts score is another for every product."""
    texts = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("hub_cards/*.md"), *ROOT.glob("examples/**/*.py")]
    texts += ROOT.glob("adaptclip_hf/**/*.py")
    shown = re.compile(r"threshold(=|`?,? |\")\s*0?\.\d")
    found = [f"{file.name}: {line}" for file in texts for line in file.read_text().splitlines() if shown.search(line)]
    assert not found
