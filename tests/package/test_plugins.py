"""Plug-ins: layouts and adapter variants of one's own, from a file or an installed package, and the examples."""

import json
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from adaptclip_hf import AdaptCLIPModel, load_plugin
from adaptclip_hf.cli import main
from adaptclip_hf.data import LAYOUTS, Layout, Row, load_data_set, register_layout
from adaptclip_hf.hub.model_folders import save_model_folder
from adaptclip_hf.modeling import register_adapter, variants
from adaptclip_hf.processing import AdaptCLIPProcessor
from adaptclip_hf.synthetic import write_dataset

EXAMPLES = Path(__file__).parents[2] / "examples" / "plugins"


@pytest.fixture(autouse=True)
def nothing_registered(monkeypatch):
    """What a test registers goes with it."""
    monkeypatch.setattr(variants, "_registered", {})
    before, modules = dict(LAYOUTS), set(sys.modules)
    yield
    LAYOUTS.clear()
    LAYOUTS.update(before)
    for name in set(sys.modules) - modules:
        if name.startswith("adaptclip_plugin_"):
            del sys.modules[name]


@pytest.fixture
def line(tmp_path) -> Path:
    root = tmp_path / "line3"
    for day, count in (("2026-11-24", 3), ("2026-11-25", 3)):
        (root / day).mkdir(parents=True)
        for index in range(count):
            Image.new("RGB", (40, 30), (90, 20 * index, 60)).save(root / day / f"{index}.jpg")
    (root / "rejected.txt").write_text("2026-11-25/1.jpg\n2026-11-25/9.jpg\n")
    return root


def test_the_example_of_a_layout(line, small_folder, tmp_path, capsys):
    plugin = ["--plugin", str(EXAMPLES / "factory_layout.py")]
    assert main([*plugin, "data", f"factory:{line}"]) == 1  # one is listed and not there
    assert "9.jpg is listed and not there" in capsys.readouterr().out
    dataset = load_data_set(line, lambda said: None)
    assert (dataset["split"].count("train"), sum(dataset["label"])) == (3, 1)
    call = ["evaluate", "--data", f"factory:{line}", "--model", str(small_folder), "--output", str(tmp_path / "out")]
    assert main([*plugin, *call, "--shots", "0", "1", "--seeds", "10", "--quiet"]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["data_sets"][0]["layout"] == "factory" and len(results["results"]) == 2


def test_the_example_of_an_adapter(small_folder, tmp_path, capsys, photos):
    parts = write_dataset(tmp_path / "parts", 1, size=96, train=3, good=2, bad=4)
    plugin = ["--plugin", str(EXAMPLES / "signed_residual.py")]
    call = ["train", "--data", parts, "--model", small_folder, "--output", tmp_path / "signed", "--max-steps", "1"]
    call += ["--per-device-train-batch-size", "4", "--use-cpu", "True", "--feature-cache", tmp_path / "cache"]
    call += ["--variant", "prompt_query_adapter=signed-residual"]
    assert main([*plugin, *map(str, call)]) == 0
    model = AdaptCLIPModel.from_pretrained(tmp_path / "signed")
    assert type(model.prompt_query_adapter).__name__ == "SignedResidualAdapter"
    assert not model.untrained_adapters()
    with pytest.raises(ValueError, match="code is not pushed"):
        save_model_folder(
            model, AdaptCLIPProcessor.from_pretrained(tmp_path / "signed"), tmp_path / "pushed", "remote-code"
        )
    variants._registered.clear()
    detect = ["detect", photos["good"][0], "--normal", photos["normal"][0], "--model", str(tmp_path / "signed")]
    assert main([*detect, "--output", str(tmp_path / "out")]) == 1
    assert "variant 'signed-residual', which is not known here" in capsys.readouterr().err


def test_a_variant_scores_otherwise_and_is_saved_by_its_name(make_model, tmp_path):
    load_plugin(EXAMPLES / "signed_residual.py")
    named = {"prompt_query_adapter": "signed-residual"}
    published, signed = make_model(), make_model(adapter_variants=named)
    pixels = torch.randn(1, 3, 84, 84, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        scores = [model(pixels, pixels.flip(-1)[:, None]).anomaly_scores.item() for model in (published, signed)]
        signed.save_pretrained(tmp_path)
        again = AdaptCLIPModel.from_pretrained(tmp_path)(pixels, pixels.flip(-1)[:, None]).anomaly_scores.item()
    assert scores[0] != scores[1] and again == scores[1]


def test_an_installed_one_by_its_entry_point(monkeypatch, tmp_path, line):
    package = tmp_path / "site" / "factory_plugin.py"
    package.parent.mkdir()
    package.write_text((EXAMPLES / "factory_layout.py").read_text())
    about = package.parent / "factory_plugin-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: factory-plugin\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[adaptclip_hf.plugins]\nfactory = factory_plugin\n")
    monkeypatch.syspath_prepend(str(package.parent))
    assert "factory" not in LAYOUTS  # being installed does not run it
    load_plugin("factory")
    assert "factory" in LAYOUTS
    with pytest.raises(FileNotFoundError, match=r"installed one \(here: factory"):
        load_plugin("other")


def test_wrong_plugins(tmp_path, capsys):
    assert main(["--plugin", str(tmp_path / "none.py"), "data", str(tmp_path)]) == 1
    assert "No plug-in at" in capsys.readouterr().err
    (tmp_path / "broken.py").write_text("import nothing_of_the_kind\n")
    assert main(["--plugin", str(tmp_path / "broken.py"), "data", str(tmp_path)]) == 1
    assert "cannot be run: ModuleNotFoundError" in capsys.readouterr().err
    layout = Layout("nothing", lambda root: False, lambda root, report: iter([Row("a", 0, "b", "test")]))
    with pytest.raises(ValueError, match="another layout 'mvtec'"):
        register_layout("mvtec", layout)
    with pytest.raises(ValueError, match="cannot be called 'a:b'"):
        register_layout("a:b", layout)
    with pytest.raises(ValueError, match="no adapter 'head'"):
        register_adapter("head", "mine", torch.nn.Linear)
    register_adapter("visual_adapter", "mine", torch.nn.Linear)
    register_adapter("visual_adapter", "mine", torch.nn.Linear)
    with pytest.raises(ValueError, match="another variant 'mine'"):
        register_adapter("visual_adapter", "mine", torch.nn.Conv2d)
    with pytest.raises(SystemExit):
        main(["train", "--data", "a", "--output", "b", "--variant", "visual_adapter"])
