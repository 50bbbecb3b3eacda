"""`adaptclip detect` on an exported folder without torch and transformers: the same rows and pictures as with them."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn import functional

from adaptclip_hf import AdaptCLIPImageProcessor, AnomalyDetector, InspectionProfile, PromptBank
from adaptclip_hf.cli import detect, main
from adaptclip_hf.engine import View
from adaptclip_hf.inspection import Acceptance, Zone
from adaptclip_hf.inspection.deciding import DecidingProfile
from adaptclip_hf.modeling import token_groups
from adaptclip_hf.modeling.prompt_bank import content_digest
from adaptclip_hf.processing.map_sizes import resized
from adaptclip_hf.processing.pixel_values import LightImageProcessor
from adaptclip_hf.runtimes import numpy_bank, numpy_groups
from adaptclip_hf.runtimes.external_weights import require_own_weights
from adaptclip_hf.runtimes.light_model import LightModel
from adaptclip_hf.runtimes.numpy_bank import NumpyBank
from adaptclip_hf.runtimes.numpy_tokens import bfloat16_bytes, unit

pytest.importorskip("onnxruntime", reason="the extra [export] is not installed")
FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "v0_2"
EXPORT = FIXTURES / "export"
# runs commands, a list of words each, in a process that can import neither
WITHOUT = """
import json, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "transformers", "huggingface_hub", "onnx", "onnx_ir"}:
            raise ImportError(f"{name} is refused")

sys.meta_path.insert(0, Refuse())
sys.argv = ["adaptclip"]
from adaptclip_hf.cli import main
for words in json.loads(sys.stdin.read()):
    print(main(words), flush=True)
assert not {"torch", "transformers", "pandas", "pyarrow", "datasets"} & sys.modules.keys()
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Photos of one pattern: ten good ones, of parts with two views, and three with a bright square; one is long."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    pattern = rng.integers(60, 120, (70, 90, 3))
    for kind, count in (("good", 10), ("line", 4)):
        (folder / kind).mkdir()
        for number in range(count):
            pixels = np.clip(pattern + rng.normal(0, 6, pattern.shape), 0, 255).astype(np.uint8)
            if kind == "line" and number:
                pixels[20 : 20 + 8 * number, 30 : 30 + 8 * number] = 250
            Image.fromarray(pixels).save(folder / kind / f"p{number // 2}_view{number % 2}.png")
    (folder / "line" / "broken.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def profiles(photos, tmp_path_factory) -> Path:
    """Profiles of many kinds, fitted with the export."""
    detector = AnomalyDetector.from_pretrained(str(EXPORT), device="cpu")
    folder, good = tmp_path_factory.mktemp("profiles"), sorted((photos / "good").iterdir())
    ignore = np.zeros((70, 90), bool)
    ignore[:10] = True
    kinds = {
        "turned": {"augment": "rotations", "storage": "int8"},
        "tiles": {"view": View(tile=60, same_place="only", ignore=ignore), "storage": "float32"},
        "beside": {"view": View(tile=60, same_place=True, region=(5, 5, 80, 60))},
        "area": {"acceptance": Acceptance(min_area=30, zones=(Zone("corner", (0, 0, 30, 30)),))},
        "parts": {"part_pattern": "{part}_view{view}"},
    }
    for name, options in kinds.items():
        rate = 0.4 if name == "parts" else 0.2
        InspectionProfile.fit(detector, good, rate, verdict=False, model=EXPORT, **options).save_pretrained(
            folder / name
        )
    return folder


def lines_of(folder: Path) -> list[dict]:
    """The rows, without what is another at each run."""
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in ("time", "heatmap", "map")} for row in rows]


def without_torch(calls: list[list]) -> list[int]:
    given = json.dumps([list(map(str, words)) for words in calls])
    done = subprocess.run([sys.executable, "-c", WITHOUT], input=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [int(line) for line in done.stdout.splitlines() if line.isdigit()]


def test_rows_and_pictures_are_those_of_torch(photos, profiles, tmp_path, monkeypatch):
    """One process makes them without torch, this one makes them with it."""
    line, good = photos / "line", photos / "good"
    asked = {f"profile-{each.name}": ["--profile", each] for each in profiles.iterdir()}
    asked |= {
        "zero-shot": ["--threshold", 0.5, "--format", "coco"],
        "tiles": ["--tile", 40, "--batch-size", 3],
        "normal": ["--normal", good],
        "turned": ["--normal", good / "p0_view0.png", "--augment", "flips"],
        "bank": ["--prompt-bank", FIXTURES / "bank.safetensors"],
        "rate": ["--profile", profiles / "area", "--false-discovery-rate", 0.2, "--sort-into", tmp_path / "sorted"],
    }
    del asked["rate"]
    calls = {
        name: ["detect", line, "--model", EXPORT, "--device", "cpu", "--save-maps", *words]
        for name, words in asked.items()
    }
    there = without_torch([[*words, "--quiet", "--output", tmp_path / "light" / name] for name, words in calls.items()])
    assert there == [1] * len(calls)  # one photo is broken
    monkeypatch.setattr(detect, "is_light", lambda args: False)
    for name, words in calls.items():
        light, heavy = tmp_path / "light" / name, tmp_path / "heavy" / name
        assert main([*map(str, words), "--quiet", "--output", str(heavy)]) == 1
        assert lines_of(light) == lines_of(heavy), name
        settings = [json.loads((each / "detect.json").read_text()) for each in (light, heavy)]
        assert settings[0] == settings[1], name
        pictures = sorted(file.relative_to(light) for file in light.glob("*s/*"))
        assert len(pictures) == 8 and all(
            (light / each).read_bytes() == (heavy / each).read_bytes() for each in pictures
        )


def test_a_run_begun_without_torch_goes_on_with_it_and_is_reported(photos, profiles, tmp_path, monkeypatch, capsys):
    (tmp_path / "line").mkdir()
    for name in ("p0_view0.png", "p1_view0.png"):
        (tmp_path / "line" / name).write_bytes((photos / "line" / name).read_bytes())
    words = ["detect", tmp_path / "line", "--profile", profiles / "area", "--output"]
    calls = [
        [*words, tmp_path / "run", "--sort-into", tmp_path / "sorted"],
        [*words, tmp_path / "rate", "--false-discovery-rate", 0.3],
        ["report", tmp_path / "run"],
    ]
    assert without_torch(calls) == [0, 0, 0]
    assert (tmp_path / "run" / "report.html").is_file() and len(list((tmp_path / "sorted").rglob("*.png"))) == 2
    monkeypatch.setattr(detect, "is_light", lambda args: False)
    assert main([*map(str, words), str(tmp_path / "rate"), "--false-discovery-rate", "0.3"]) == 0
    assert "2 scored before" in capsys.readouterr().out


@pytest.mark.parametrize("storage", ["float32", "float16", "int8", "bfloat16"])
def test_banks_are_read_alike(storage, tmp_path):
    rng = torch.Generator().manual_seed(0)
    layers = [functional.normalize(torch.randn(3, 9, 40, generator=rng), dim=-1) for _ in range(2)]
    added = tuple(functional.normalize(each[0, :4] + 0.1, dim=-1) for each in layers)
    owners = torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 1, 2])
    bank = PromptBank(tuple(layers), {"weights": "a"}, {}, added=added, added_of=owners).with_variation()
    if storage == "bfloat16":
        bank.to("cpu", torch.bfloat16).save_pretrained(tmp_path)
    else:
        bank.save_pretrained(tmp_path, storage)
    ours, theirs = NumpyBank.from_pretrained(tmp_path), PromptBank.from_pretrained(tmp_path)
    assert ours.digest() == theirs.digest() and len(ours) == 3
    for one, other in zip(ours.to("cpu").blocks(), theirs.to("cpu", torch.float32).blocks(), strict=True):
        assert np.array_equal(one, other.numpy())
    assert_alike(ours.variation, theirs.variation, 0)
    assert_alike(ours.with_variation().variation, theirs.to("cpu", torch.float32).with_variation().variation, 1e-6)
    chosen, expected = ours.select([2, 0]), theirs.to("cpu", torch.float32).select([2, 0])
    assert_alike(chosen.to("cpu").variation, expected.variation, 1e-6)
    assert all(
        np.array_equal(one, other.numpy()) for one, other in zip(chosen.added_of, expected.added_of, strict=True)
    )


def assert_alike(ours, theirs, tolerance: float):
    for name, each in theirs.tensors().items():
        np.testing.assert_allclose(ours.tensors()[name], each.numpy(), atol=tolerance, rtol=tolerance, err_msg=name)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layer.0": torch.full((2, 3, 4), torch.nan)}, "not finite"),
        ({"layer.0": torch.ones(2, 3, 4)}, "lengths up to 2"),
        ({"layer.0": torch.ones(3, 4)}, r"features \(k, L, d\)"),
        ({"layer.0": torch.ones(2, 3, 4, dtype=torch.complex64)}, "float32"),
        ({"layer.1": torch.ones(2, 3, 5)}, "different shapes"),
        ({"added.0": torch.ones(1, 4), "added_of.0": torch.tensor([7])}, "images that it does not have"),
        ({"variation.mean": torch.ones(1, 3)}, "variation does not fit"),
    ],
)
def test_a_damaged_bank_is_refused_alike(change, said, tmp_path):
    content = {"layer.0": functional.normalize(torch.ones(2, 3, 4), dim=-1)} | change
    metadata = {"fingerprint": "{}", "preprocessing": "{}"}
    for digest in ({}, {"sha256": content_digest(content, metadata)}):
        save_file(content, tmp_path / "bank.safetensors", metadata | digest)
        for kind in (NumpyBank, PromptBank):
            with pytest.raises(ValueError, match=said):
                kind.from_pretrained(tmp_path / "bank.safetensors")
    save_file(content, tmp_path / "bank.safetensors", metadata | {"sha256": "0" * 64})
    with pytest.raises(ValueError, match="damaged or was changed"):
        NumpyBank.from_pretrained(tmp_path / "bank.safetensors")


def test_a_bank_of_a_dtype_that_numpy_has_not_is_refused_in_a_line(tmp_path):
    content = {"layer.0": torch.ones(2, 3, 4).to(torch.float8_e4m3fn)}
    save_file(content, tmp_path / "bank.safetensors", {"fingerprint": "{}", "preprocessing": "{}"})
    for kind, said in ((NumpyBank, "layer.0 is stored as F8_E4M3"), (PromptBank, "in float16, bfloat16, float32")):
        with pytest.raises(ValueError, match=said):
            kind.from_pretrained(tmp_path / "bank.safetensors")


def test_profiles_decide_apart_from_what_fits_them(profiles):
    for folder in profiles.iterdir():
        light, heavy = DecidingProfile.from_pretrained(folder), InspectionProfile.from_pretrained(folder)
        assert light.digest() == heavy.digest() and light.describe() == heavy.describe(), folder
        np.testing.assert_allclose(light.wholes, heavy.wholes, atol=1e-6)
        assert not isinstance(light, InspectionProfile)


def test_a_damaged_profile_is_refused(profiles, tmp_path):
    [file] = (profiles / "area").glob("features-*")
    features = load_file(file)
    features["layer.0"][3, 2, 1] = torch.nan
    damaged = replace(InspectionProfile.from_pretrained(profiles / "area"))
    damaged.features.tensors.update(features)
    damaged.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"layer\.0 of .*good.*holds numbers that are not finite"):
        DecidingProfile.from_pretrained(tmp_path)


@pytest.mark.parametrize("size", [56, 97])
def test_pixel_values_are_those_of_the_image_processor(size):
    rng = np.random.default_rng(0)
    for height, width, fields in ((40, 300, {}), (size, size, {}), (200, 131, {"do_normalize": False, "resample": 2})):
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        processor = AdaptCLIPImageProcessor(size={"height": size, "width": size}, **fields)
        light = LightImageProcessor.of(processor.to_dict())
        assert np.array_equal(light(image)["pixel_values"], processor(image)["pixel_values"].numpy())
        assert light.fingerprint() == processor.fingerprint()


def test_maps_are_resized_as_torch_does():
    rng = np.random.default_rng(0)
    for shape, size in (
        ((56, 56), (120, 96)),
        ((336, 336), (700, 1000)),
        ((336, 336), (200, 101)),
        ((70, 90), (70, 90)),
    ):
        anomaly_map = rng.random(shape, dtype=np.float32)
        values = torch.from_numpy(anomaly_map)[None, None]
        expected = functional.interpolate(values, size=size, mode="bilinear", align_corners=False)[0, 0].numpy()
        np.testing.assert_allclose(resized(anomaly_map, size), expected, atol=2e-7)
        np.testing.assert_allclose(resized(np.ones(shape, np.float32), size), 1, atol=1e-6)


def test_tokens_are_normalised_as_torch_does():
    rng = np.random.default_rng(0)
    for length in (16, 100, 512):
        tokens = rng.normal(size=(4, 9, length)).astype(np.float32)
        expected = functional.normalize(torch.from_numpy(tokens), dim=-1)
        np.testing.assert_allclose(unit(tokens), expected.numpy(), atol=1e-7)
        rounded = expected.to(torch.bfloat16).view(torch.int16).numpy().tobytes()
        assert bfloat16_bytes(expected.numpy()) == rounded
    assert not unit(np.zeros((1, 8), np.float32)).any()


def test_where_the_weights_of_a_graph_lie(tmp_path):
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    tensor = helper.make_tensor("w", TensorProto.FLOAT, [2], [1.0, 2.0])
    for location in ("graph.onnx.data", "other.data", "../graph.onnx.data"):
        outside = TensorProto(name="v", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
        outside.external_data.add(key="location", value=location)
        inner = helper.make_graph([helper.make_node("Constant", [], ["c"], value=outside)], "inner", [], [])
        branch = helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
        graph = helper.make_graph([branch], "outer", [], [], [tensor])
        onnx.save(helper.make_model(graph), tmp_path / "graph.onnx")
        if location == "graph.onnx.data":
            require_own_weights(tmp_path / "graph.onnx")
        else:
            with pytest.raises(ValueError, match=r"graph\.onnx reads weights of"):
                require_own_weights(tmp_path / "graph.onnx")
    (tmp_path / "graph.onnx").write_bytes(b"\xff" * 40)
    with pytest.raises(ValueError, match="damaged"):
        require_own_weights(tmp_path / "graph.onnx")


def test_a_key_that_a_runtime_cuts_off_hides_no_file(tmp_path):
    """ONNX Runtime takes a key above 32 bits for the one that is left of it, and would read the weights of any file."""
    onnx = pytest.importorskip("onnx")
    import onnxruntime
    from onnx import helper
    from onnx.external_data_helper import convert_model_to_external_data

    values = helper.make_tensor("v", onnx.TensorProto.FLOAT, [400], np.ones(400, np.float32).tobytes(), raw=True)
    output = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [400])
    graph = helper.make_graph([helper.make_node("Identity", ["v"], ["y"])], "graph", [], [output], [values])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    convert_model_to_external_data(model, location="other.data", size_threshold=0)
    onnx.save(model, tmp_path / "graph.onnx")
    [entry] = [each for each in model.graph.initializer[0].external_data if each.key == "location"]
    inside = entry.SerializeToString()
    name = b"\x0a\x08location"
    hidden = b"\x8a\x80\x80\x80\x10\x08location"
    changed = model.graph.initializer[0]
    rest = onnx.TensorProto()
    rest.CopyFrom(changed)
    del rest.external_data[:]
    long = inside.replace(name, hidden)
    tensor = rest.SerializeToString() + b"\x6a" + bytes([len(long)]) + long
    del model.graph.initializer[:]
    whole = model.graph.SerializeToString() + b"\x2a" + bytes([len(tensor)]) + tensor
    model.ClearField("graph")
    assert max(len(tensor), len(whole)) < 128  # lengths of one byte
    (tmp_path / "graph.onnx").write_bytes(model.SerializeToString() + b"\x3a" + bytes([len(whole)]) + whole)
    [read] = onnxruntime.InferenceSession(tmp_path / "graph.onnx").run(None, {})
    assert read.all()
    with pytest.raises(ValueError, match="damaged"):
        require_own_weights(tmp_path / "graph.onnx")


def test_a_large_bank_is_searched_as_torch_searches_it():
    pool, other = (functional.normalize(torch.randn(3000, 24), dim=-1) for _ in range(2))
    query = torch.cat([pool[:50], functional.normalize(torch.randn(400, 24), dim=-1)])
    tokens, groups = numpy_groups.arranged(pool.numpy())
    others = numpy_groups.arranged(other.numpy())[1]
    of_torch, others_of_torch = (token_groups.arranged(each)[1] for each in (pool, other))
    assert np.array_equal(np.sort(tokens, 0), np.sort(pool.numpy(), 0))
    near = groups.nearest(query.numpy())
    assert np.array_equal(near[:50], pool[:50].numpy())
    assert (near == of_torch.nearest(query).numpy()).all(1).mean() > 0.99
    both = numpy_groups.NearerOfNumpy(groups, others).nearest(query.numpy())
    both_of_torch = token_groups.NearerOf(of_torch, others_of_torch).nearest(query).numpy()
    assert (both == both_of_torch).all(1).mean() > 0.99


def test_an_export_without_torch_searches_a_large_bank_before_its_graph(photos, profiles, tmp_path, monkeypatch):
    detector = AnomalyDetector.from_pretrained(str(EXPORT), device="cpu")
    bank = detector.remember(sorted((photos / "good").iterdir()))
    model = LightModel.from_pretrained(EXPORT)
    read = NumpyBank.from_pretrained(bank.save_pretrained(tmp_path))
    pixels = np.concatenate(
        [detector.pixel_values(Image.open(photo)) for photo in sorted((photos / "line").glob("p*"))]
    )
    features = model.image_features(pixels)
    plain = model(image_features=features, prompt_bank=read)
    monkeypatch.setattr(numpy_bank, "LARGE", 1)
    grouped = read.in_groups()
    assert grouped.grouped is not None and grouped.select([0, 1]).grouped is None
    together = model(image_features=features, prompt_bank=grouped)
    alone = [model(image_features=features.select([n]), prompt_bank=grouped) for n in range(len(pixels))]
    assert np.allclose(together.anomaly_scores, plain.anomaly_scores, atol=0.02)
    assert np.array_equal(together.anomaly_maps, np.concatenate([each.anomaly_maps for each in alone]))
