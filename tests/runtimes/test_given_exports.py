"""An exported folder that somebody gave: nothing in it runs, and what is wrong is said in one line."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from adaptclip_hf import AnomalyDetector
from adaptclip_hf.cli import main

pytest.importorskip("onnxruntime", reason="the extra [export] is not installed")
FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "v0_2"
DESCRIPTION = "adaptclip_export.json"
CANARY = '#include <stdio.h>\n__attribute__((constructor)) static void ran(void) {{ fclose(fopen("{ran}", "w")); }}\n'


@pytest.fixture
def given(tmp_path, monkeypatch) -> Path:
    """An export without sums, in the current folder, beside a module that notices when it is imported."""
    shutil.copytree(FIXTURES / "export", tmp_path / "export")
    (tmp_path / "canary_module.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\nX = str\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "export"


def opened(folder, **options) -> AnomalyDetector:
    return AnomalyDetector.from_pretrained(str(folder), device="cpu", **options)


def edit(file: Path, **fields):
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def name_in_specs(folder: Path, fqn: str, name: str):
    """Puts an enum into each structure of export.json, as torch's own reader would look it up."""
    file = folder / "export.json"
    manifest = json.loads(file.read_text())
    for component in manifest["components"].values():
        for spec in ("in_spec", "out_spec"):
            version, tree = json.loads(component["metadata"][spec])
            tree["context"] = json.dumps([{"__enum__": True, "fqn": fqn, "name": name}])
            component["metadata"][spec] = json.dumps([version, tree])
    file.write_text(json.dumps(manifest))


def test_no_module_that_a_manifest_names_is_imported(given):
    name_in_specs(given, "canary_module:X", "upper")
    opened(given)
    assert "canary_module" not in sys.modules and not (given.parent / "ran").exists()


@pytest.mark.skipif(not shutil.which("gcc"), reason="no compiler")
def test_no_library_that_a_manifest_names_is_loaded(given):
    (given / "canary.c").write_text(CANARY.format(ran=given.parent / "ran"))
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", given / "encode.bin", given / "canary.c"], check=True)
    name_in_specs(given, "ctypes:cdll", str(given / "encode.bin"))
    opened(given)
    assert not (given.parent / "ran").exists()


def test_the_manifest_is_not_read(given):
    (given / "export.json").write_text("[" * 100_000)
    opened(given)
    (given / "export.json").unlink()
    opened(given)


def test_weights_lie_beside_their_graph(given):
    import onnx

    (given.parent / "elsewhere.data").write_bytes((given / "encode.onnx.data").read_bytes())
    model = onnx.load(given / "encode.onnx", load_external_data=False)
    for initializer in model.graph.initializer:
        for entry in initializer.external_data:
            if entry.key == "location":
                entry.value = "../elsewhere.data"
    onnx.save(model, given / "encode.onnx")
    with pytest.raises(ValueError, match=r"export cannot be opened.*weights of '\.\./elsewhere\.data'"):
        opened(given)


def test_a_graph_that_takes_something_else(given):
    shutil.copy(given / "score_few_shot.onnx", given / "score_zero_shot.onnx")
    shutil.copy(given / "score_few_shot.onnx.data", given / "score_zero_shot.onnx.data")
    with pytest.raises(ValueError, match="export cannot be opened"):
        opened(given)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"format": "pickle"}, "format: Input should be 'onnx', 'openvino' or 'torch'"),
        ({"format": 1}, "format"),
        ({"made_by": {}}, r"made_by\.weights: Field required"),
        ({"made_by": {"weights": "a", "fingerprint": {"weights": 1}}}, r"made_by\.fingerprint\.weights"),
        ({"object_name": None}, "object_name: Input should be a valid string"),
        ({"profile": {"threshold": "0.5"}}, r"profile\.threshold"),
        ({"more": 1}, "more: Extra inputs"),
    ],
)
def test_a_description_is_checked_by_its_types(given, fields, said):
    edit(given / DESCRIPTION, **fields)
    with pytest.raises(ValueError, match=rf"{DESCRIPTION}.*{said}.*Export the model anew"):
        opened(given)


@pytest.mark.parametrize("content", ["[]", "{", "[" * 100_000, '{"format": NaN}', ""])
def test_a_description_that_is_none(given, content):
    (given / DESCRIPTION).write_text(content)
    with pytest.raises(ValueError, match=f"{DESCRIPTION}.*Export the model anew"):
        opened(given)


def test_a_profile_brings_no_code_in(given, capsys):
    """It may name a folder, and what lies there is data; a torch export is opened when the call itself names it."""
    profile = given.parent / "profile"
    shutil.copytree(FIXTURES / "profile", profile)
    for file in given.iterdir():
        shutil.copy(file, profile)
    name_in_specs(profile, "canary_module:X", "upper")
    edit(profile / "profile.json", model=str(profile))
    words = [
        "detect",
        str(FIXTURES / "images" / "a" / "0.png"),
        "--profile",
        str(profile),
        "--device",
        "cpu",
        "--quiet",
    ]
    assert main([*words, "--output", "out"]) == 0
    edit(profile / DESCRIPTION, format="torch")
    assert main([*words, "--output", "other", "--trust-remote-code"]) == 1
    assert "holds torch.export programs" in capsys.readouterr().err
    assert "canary_module" not in sys.modules and not (given.parent / "ran").exists()
