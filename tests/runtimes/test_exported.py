"""Exported folders: the same numbers from every runtime, with this package and without, or one clear line."""

import json
import random
import re
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hostile_images import FORMATS, mutated, png_bomb, valid_file
from PIL import Image
from transformers import pipeline

from adaptclip_hf import DEFAULT_MODEL, AdaptCLIPProcessor, AnomalyDetector, InspectionProfile, PromptBank
from adaptclip_hf.cli import main
from adaptclip_hf.export import export_model, exporting
from adaptclip_hf.modeling import prompt_bank
from adaptclip_hf.processing.image_loading import load_image

pytest.importorskip("onnxruntime", reason="the extra [export] is not installed")
TOLERANCE = 1e-4
# small exports are shared by the tests of this file, so that one process has them all
pytestmark = pytest.mark.xdist_group("exports")


def opened(folder, **options) -> AnomalyDetector:
    return AnomalyDetector.from_pretrained(str(folder), device="cpu", **options)


@pytest.fixture(scope="module")
def folder(make_model, tokenizer, tmp_path_factory) -> Path:
    """A model of two layers: tracing a graph takes as long as it has layers."""
    folder, model = tmp_path_factory.mktemp("shallow"), make_model(clip={"layers": 2})
    model.save_pretrained(folder)
    AdaptCLIPProcessor.for_model(model.config, tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def of_torch(folder):
    return opened(folder)


@pytest.fixture(scope="module")
def exported(of_torch, tmp_path_factory) -> Path:
    """The small model in ONNX."""
    folder = tmp_path_factory.mktemp("onnx") / "export"
    export_model(of_torch, folder)
    return folder


@pytest.fixture
def graphs_at_hand(exported, monkeypatch):
    """An export takes the ONNX graphs that were traced before."""

    def copy(detector, folder, *arguments):
        folder.mkdir()
        for file in exported.glob("*"):
            if file.name in ("config.json", "export.json") or file.name.startswith(("encode.", "score_")):
                shutil.copy(file, folder)

    monkeypatch.setattr(exporting, "write_graphs", copy)


def scores(results) -> list[float]:
    return [result.score for result in results]


@pytest.mark.works("Compile and export", "ONNX, OpenVINO and torch.export programs, equal to the model")
def test_the_same_scores_and_maps_as_torch(exported, of_torch, photos):
    detector = opened(exported)
    assert detector.backend == "onnx"
    assert_the_same(detector, of_torch, photos)


def assert_the_same(detector, of_torch, photos, settings=((None, 2), (1, 1), (4, 5))):
    """Scores and maps, zero-shot and few-shot, whatever the size of a batch: (normal images, size) of each setting."""
    queries = photos["good"] + photos["bad"]
    assert detector.describe() == of_torch.describe()
    for count, batch_size in settings:
        banks = [each if count is None else each.remember(photos["normal"][:count]) for each in (of_torch, detector)]
        banks = [None, None] if count is None else banks
        found = [
            each.detect(queries, prompt_bank=bank, batch_size=batch_size)
            for each, bank in zip((of_torch, detector), banks, strict=True)
        ]
        np.testing.assert_allclose(scores(found[1]), scores(found[0]), atol=TOLERANCE)
        for one, other in zip(*found, strict=True):
            np.testing.assert_allclose(other.anomaly_map, one.anomaly_map, atol=TOLERANCE)


def test_a_bank_for_each_image_and_banks_of_torch(exported, of_torch, photos):
    detector = opened(exported)
    banks = [of_torch.remember(photos["normal"][:count]) for count in (1, 3)]
    expected = of_torch.detect(photos["bad"][:2], prompt_bank=banks)
    np.testing.assert_allclose(
        scores(detector.detect(photos["bad"][:2], prompt_bank=banks)), scores(expected), atol=TOLERANCE
    )


def test_pipeline_and_commands_take_the_folder(exported, photos, tmp_path, capsys):
    folder = str(exported)
    detect = pipeline("anomaly-detection", model=folder, device="cpu")
    expected = detect(photos["bad"][0], normal_images=photos["normal"])["score"]
    words = ["detect", photos["bad"][0], "--normal", *photos["normal"], "--model", folder, "--output", str(tmp_path)]
    assert main(words) == 0
    [line] = (tmp_path / "results.jsonl").read_text().splitlines()
    assert json.loads(line)["score"] == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ValueError, match=r"exported for the object name 'object'.*--object-name 'screw'"):
        detect(photos["bad"][0], object_name="screw")


def test_a_profile_of_torch_decides_alike(exported, of_torch, photos):
    normal = [*photos["normal"], *photos["good"]]
    profile = InspectionProfile.fit(of_torch, normal, false_alarm_rate=0.4, model="small", verdict=False)
    found = [each.detect(photos["bad"], profile=profile) for each in (of_torch, opened(exported))]
    assert [each.label for each in found[0]] == [each.label for each in found[1]]
    assert [each.p_value for each in found[0]] == [each.p_value for each in found[1]]


def run_standalone(folder: Path, *words) -> list[dict]:
    command = [sys.executable, folder / "detect.py", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_program_in_the_folder_scores_alike(exported, of_torch, photos):
    folder, queries = exported, photos["good"] + photos["bad"]
    for normal in ([], photos["normal"]):
        bank = of_torch.remember(normal) if normal else None
        found = run_standalone(folder, *queries, *(["--normal", *normal] if normal else []))
        expected = scores(of_torch.detect(queries, prompt_bank=bank))
        np.testing.assert_allclose([line["score"] for line in found], expected, atol=TOLERANCE)


def test_the_program_reads_pixels_bit_for_bit(exported, of_torch, photos, tmp_path):
    from importlib.util import module_from_spec, spec_from_file_location

    from PIL import Image

    spec = spec_from_file_location("standalone", exported / "detect.py")
    program = module_from_spec(spec)
    spec.loader.exec_module(program)
    picture = Image.open(photos["bad"][0])
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    picture.save(tmp_path / "turned.jpg", exif=exif, quality=80)
    picture.convert("P").save(tmp_path / "palette.gif")
    picture.convert("RGBA").save(tmp_path / "alpha.png")
    picture.convert("LA").save(tmp_path / "grey_alpha.png")
    picture.convert("CMYK").save(tmp_path / "cmyk.jpg")
    sixteen = np.asarray(picture.convert("L")).astype(np.uint16) * 257
    Image.fromarray(sixteen).save(tmp_path / "sixteen.png")
    for path in (*tmp_path.iterdir(), *photos["good"]):
        [photo] = of_torch.reader.read([str(path)])
        expected = of_torch.pixel_values(photo.image).numpy()
        np.testing.assert_array_equal(program.pixel_values(program.read_rgb(str(path))), expected, err_msg=str(path))


def test_the_program_reads_and_refuses_what_the_product_does(exported, tmp_path):
    """File by file: the cases, and images of every format, whole and damaged."""
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("standalone", exported / "detect.py")
    program = module_from_spec(spec)
    spec.loader.exec_module(program)
    rng, chance, refused = np.random.default_rng(0), random.Random(0), 0
    for index in range(150):
        kind, mode = FORMATS[index % len(FORMATS)]
        content = valid_file(kind, mode, rng)
        (tmp_path / f"{index}.png").write_bytes(content if index < len(FORMATS) else mutated(content, chance))
    (tmp_path / "part.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n")
    (tmp_path / "narrow.png").write_bytes(png_bomb(900, 8))
    cases = [file for file in (Path(__file__).parents[1] / "cases").iterdir() if file.suffix != ".md"]
    for file in [*cases, *sorted(tmp_path.iterdir())]:
        found = []
        for read in (load_image, program.read_rgb):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    found.append(np.asarray(read(str(file))))
            except (OSError, ValueError) as error:
                assert file.name in str(error)
                found.append(None)
        ours, theirs = found
        assert (ours is None) == (theirs is None) and (ours is None or np.array_equal(ours, theirs)), file
        refused += ours is None
    assert 30 < refused < 150


@pytest.mark.slow(15)
def test_the_program_names_what_it_cannot_score(exported, photos, tmp_path):
    cases = Path(__file__).parents[1] / "cases"
    names = ("float_0_255.tif", "float_nan.tif", "two_pages.tif")
    command = [sys.executable, exported / "detect.py", *(cases / name for name in names), *[photos["bad"][0]] * 2]
    done = subprocess.run([*command, "--maps", tmp_path / "maps"], capture_output=True, text=True, cwd="/")
    *wrong, _, right = map(json.loads, done.stdout.splitlines())
    assert done.returncode == 1 and right["score"] is not None and "Traceback" not in done.stderr
    for name, line in zip(names, wrong, strict=True):
        assert line["score"] is None and name in line["error"] and "label" not in line
    assert sorted(file.name for file in (tmp_path / "maps").iterdir()) == ["bad_0-2.npy", "bad_0.npy"]


def test_a_baked_profile_decides_without_this_package(of_torch, graphs_at_hand, photos, tmp_path):
    normal = [*photos["normal"], *photos["good"]]
    profile = InspectionProfile.fit(of_torch, normal, false_alarm_rate=0.4, model="small", verdict=False)
    export_model(of_torch, tmp_path / "baked", profile=profile)
    expected = of_torch.detect(photos["bad"], profile=profile)
    found = run_standalone(tmp_path / "baked", *photos["bad"])
    np.testing.assert_allclose([line["score"] for line in found], scores(expected), atol=TOLERANCE)
    assert [line["label"] for line in found] == [each.label for each in expected]
    assert [line["p_value"] for line in found] == pytest.approx([each.p_value for each in expected])


def test_nothing_is_left_of_an_export_that_disagrees(of_torch, graphs_at_hand, tmp_path, monkeypatch):
    from adaptclip_hf.export import parity

    monkeypatch.setattr(parity, "TOLERANCE", -1.0)
    with pytest.raises(ValueError, match=r"disagrees with torch on 5 images: .* Nothing was written"):
        export_model(of_torch, tmp_path / "wrong")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["scores", "maps"])
def test_what_is_no_number_does_not_pass(of_torch, tmp_path, monkeypatch, kind):
    from adaptclip_hf.export import parity

    compute, calls = parity.scores_and_maps, []

    def broken(detector, pixel_values, object_name):
        found = compute(detector, pixel_values, object_name)
        if calls:  # the export's, in one score of many
            scores, maps = found[3]
            (scores if kind == "scores" else maps).view(-1)[-1] = float("nan")
        calls.append(detector)
        return found

    monkeypatch.setattr(parity, "scores_and_maps", broken)
    found = parity.compare(of_torch, of_torch, parity.sample_images())
    with pytest.raises(ValueError, match=r"disagrees with torch on 5 images: .*nan"):
        parity.require_parity(found, tmp_path)


def test_each_image_is_encoded_once_for_the_gate(of_torch, monkeypatch):
    from adaptclip_hf.export import parity

    encoded, encode = [], type(of_torch.model).image_features

    def counting(model, pixel_values):
        encoded.append(len(pixel_values))
        return encode(model, pixel_values)

    monkeypatch.setattr(type(of_torch.model), "image_features", counting)
    assert parity.compare(of_torch, of_torch, parity.sample_images()) == {"images": 5, "scores": 0, "maps": 0}
    assert sum(encoded) == 2 * 5


def test_other_folders_are_never_replaced(of_torch, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds something else than an export"):
        export_model(of_torch, tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def damaged(folder: Path, into: Path) -> Path:
    shutil.copytree(folder, into)
    return into


def test_broken_folders(exported, tmp_path):
    folder = exported
    truncated = damaged(folder, tmp_path / "truncated")
    weights = truncated / "encode.onnx.data"
    weights.write_bytes(weights.read_bytes()[:1000])
    graph = damaged(folder, tmp_path / "graph")
    (graph / "encode.onnx").write_bytes((graph / "encode.onnx").read_bytes()[:2000])
    missing = damaged(folder, tmp_path / "missing")
    (missing / "score_few_shot.onnx").unlink()
    for each in (truncated, graph, missing):
        (each / "SHA256SUMS").unlink()  # as an older version wrote it
        with pytest.raises(ValueError, match=f"{each} cannot be opened, a file is missing or damaged"):
            opened(each)
    without = damaged(folder, tmp_path / "without")
    (without / "adaptclip_export.json").unlink()
    with pytest.raises(ValueError, match="is not what `adaptclip export` wrote"):
        opened(without)


READ = ["encode.onnx", "encode.onnx.data", "score_zero_shot.onnx", "score_few_shot.onnx", "config.json"]
READ += ["adaptclip_export.json", "processor_config.json", "tokenizer.json"]


@pytest.mark.parametrize("name", READ)
def test_a_flipped_bit_in_any_file_that_is_read_is_refused(exported, tmp_path, name):
    folder = damaged(exported, tmp_path / "damaged")
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} is damaged or was changed: its SHA-256"):
        opened(folder)


def test_the_program_in_the_folder_refuses_a_flipped_bit(exported, photos, tmp_path):
    folder = damaged(exported, tmp_path / "damaged")
    content = bytearray((folder / "detect_zero_shot.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "detect_zero_shot.onnx").write_bytes(content)
    command = [sys.executable, folder / "detect.py", photos["bad"][0]]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert done.returncode == 1 and "detect_zero_shot.onnx is damaged" in done.stderr and not done.stdout


def test_an_export_gives_no_score_for_a_damaged_bank(exported, photos):
    detector = opened(exported)
    bank = detector.remember(photos["normal"][:1])
    bank.features[0][0, 5, 0] = float("nan")
    with pytest.raises(ValueError, match=r"layer\.0 holds values that are not finite"):
        detector.score(detector.encode(torch.zeros(1, 3, 84, 84)), bank)


def test_what_does_not_fit_is_refused(exported, of_torch, photos, make_model, folder, tmp_path):
    detector = opened(exported)
    other = AnomalyDetector(make_model(seed=3, clip={"layers": 2}), of_torch.processor).remember(photos["normal"])
    with pytest.raises(ValueError, match="made by another model"):
        detector.detect(photos["bad"], prompt_bank=other)
    with pytest.raises(ValueError, match=r"Expected pixel_values of shape \(B, 3, 84, 84\)"):
        detector.encode(torch.zeros(1, 3, 70, 70))
    with pytest.raises(ValueError, match="is for the backend 'torch', not 'onnx'"):
        opened(folder, backend="onnx")
    with pytest.raises(ValueError, match="is for the backend 'onnx', not 'openvino'"):
        opened(exported, backend="openvino")
    with pytest.raises(ValueError, match="computes in float32, as it was exported, not bfloat16: leave out --dtype"):
        opened(exported, dtype="bfloat16")
    opened(exported, dtype="float32")
    with pytest.raises(ValueError, match="is an export already"):
        export_model(detector, tmp_path / "again")
    with pytest.raises(ValueError, match="int8 is calibrated with images"):
        export_model(of_torch, tmp_path / "int8", precision="int8")


def test_a_library_that_is_not_there(exported, monkeypatch):
    from adaptclip_hf.runtimes import formats

    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"The format onnx needs onnxruntime.*: pip install 'adaptclip-hf\[export\]'"):
        opened(exported)


@pytest.fixture(scope="module")
def varied_torch(make_model, tokenizer, tmp_path_factory) -> AnomalyDetector:
    """A model whose normal images' variation enters the scores, and with them no adapter."""
    folder = tmp_path_factory.mktemp("varied")
    model = make_model(clip={"layers": 2}, normal_variation=True, few_shot_adapters=False)
    model.save_pretrained(folder)
    AdaptCLIPProcessor.for_model(model.config, tokenizer).save_pretrained(folder)
    return opened(folder)


@pytest.fixture(scope="module")
def varied(varied_torch, photos, tmp_path_factory) -> Path:
    """It in ONNX, with a profile in the graph."""
    folder = tmp_path_factory.mktemp("varied_onnx") / "export"
    export_model(varied_torch, folder, profile=fitted(varied_torch, photos))
    return folder


def fitted(detector, photos) -> InspectionProfile:
    normal = [*photos["normal"], *photos["good"]]
    return InspectionProfile.fit(detector, normal, false_alarm_rate=0.4, model="small")


def test_normal_variation_is_exported(varied, varied_torch, photos):
    detector = opened(varied)
    assert_the_same(detector, varied_torch, photos)
    bank = varied_torch.remember(photos["normal"])
    unknown = replace(bank, variation=None)
    copies = [layer[:2].flatten(0, 1)[:50].roll(1, -1) for layer in bank.features]
    owners = [torch.arange(len(layer)) % len(bank) for layer in copies]
    turned = replace(unknown, added=tuple(copies), added_of=tuple(owners)).with_variation()
    for banks in (unknown, turned, [bank, turned, bank]):
        found, expected = (each.detect(photos["bad"], prompt_bank=banks) for each in (detector, varied_torch))
        np.testing.assert_allclose(scores(found), scores(expected), atol=TOLERANCE)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one.anomaly_map, other.anomaly_map, atol=TOLERANCE)
    about = json.loads((varied / "adaptclip_export.json").read_text())
    assert about["made_by"]["normal_variation"] and not about["made_by"]["few_shot_adapters"]
    inputs = json.loads((varied / "export.json").read_text())
    assert "whole_scale" in json.dumps(inputs)


def test_an_export_searches_a_large_bank_before_its_graph(varied, varied_torch, photos, monkeypatch):
    """The graph is given the nearest tokens alone, of each image its own, whatever is in its batch."""
    detector, bank = opened(varied), varied_torch.remember(photos["normal"])
    queries = photos["good"] + photos["bad"]
    expected = varied_torch.detect(queries, prompt_bank=bank)
    monkeypatch.setattr(prompt_bank, "LARGE", 1)
    given, run = [], detector.model._run
    monkeypatch.setattr(detector.model, "_run", lambda graph, **inputs: given.append(inputs) or run(graph, **inputs))
    for batch_size in (1, len(queries)):
        given.clear()
        found = list(detector.stream(queries, bank, batch_size=batch_size))
        np.testing.assert_allclose(scores(found), scores(expected), atol=TOLERANCE)
        assert {len(layer) for inputs in given for layer in inputs.get("bank", [])} == {1}


def test_a_profile_fits_with_an_export_that_has_normal_variation(varied, varied_torch, photos, tmp_path):
    detector = opened(varied)
    ours, theirs = (fitted(each, photos) for each in (varied_torch, detector))
    np.testing.assert_allclose(theirs.calibration.scores, ours.calibration.scores, atol=TOLERANCE)
    theirs = InspectionProfile.from_pretrained(theirs.save_pretrained(tmp_path / "profile"))
    found, expected = varied_torch.detect(photos["bad"], profile=theirs), detector.detect(photos["bad"], profile=ours)
    np.testing.assert_allclose(scores(found), scores(expected), atol=TOLERANCE)
    assert [each.label for each in found] == [each.label for each in expected]
    normal, folder = [*photos["normal"], *photos["good"]], str(tmp_path / "by_command")
    words = ["fit", "--normal", *normal, "--false-alarm-rate", "0.4", "--model", str(varied), "--output", folder]
    assert main(words) == 0
    assert main(["detect", *photos["bad"], "--profile", folder, "--output", str(tmp_path / "run")]) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "results.jsonl").read_text().splitlines()]
    assert [line["label"] for line in lines] == [each.label for each in expected]
    np.testing.assert_allclose([line["score"] for line in lines], scores(expected), atol=1e-4)


def test_the_program_in_the_folder_knows_normal_variation(varied, varied_torch, photos, tmp_path):
    queries = photos["good"] + photos["bad"]
    for count in (1, 2, 4):
        normal = photos["normal"][:count]
        expected = scores(varied_torch.detect(queries, prompt_bank=varied_torch.remember(normal, augment="none")))
        found = [line["score"] for line in run_standalone(varied, *queries, "--normal", *normal)]
        np.testing.assert_allclose(found, expected, atol=TOLERANCE)
    expected = varied_torch.detect(photos["bad"], profile=fitted(varied_torch, photos))
    found = run_standalone(varied, *photos["bad"], "--heatmaps", tmp_path)
    np.testing.assert_allclose([line["score"] for line in found], scores(expected), atol=TOLERANCE)
    assert [line["label"] for line in found] == [each.label for each in expected]
    assert [len(line["regions"]) > 0 for line in found] == [len(each.regions) > 0 for each in expected]
    for path, line in zip(photos["bad"], found, strict=True):
        drawn = Image.open(tmp_path / f"{Path(path).stem}.png")
        assert drawn.size == Image.open(path).size and drawn.info["Software"] == "adaptclip-hf"
        assert all(len(region["polygon"]) >= 3 and region["area"] > 0 for region in line["regions"])


@pytest.mark.parametrize("count", [1, 2, 7, 70])
def test_the_program_in_the_folder_computes_what_the_model_does(varied, count):
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("standalone", varied / "detect.py")
    program = module_from_spec(spec)
    spec.loader.exec_module(program)
    generator = torch.Generator().manual_seed(0)
    tokens = [torch.randn(9, 32, generator=generator) + 0.3 * torch.randn(count, 9, 32) for _ in range(2)]
    layers = tuple(torch.nn.functional.normalize(each, dim=-1) for each in tokens)
    found = program.variation([layer.numpy() for layer in layers])
    for name, expected in PromptBank(layers, {}, {}).with_variation().variation.tensors().items():
        np.testing.assert_allclose(found[f"variation.{name}"], expected, atol=1e-6, err_msg=name)


@pytest.mark.slow(15)
@pytest.mark.parametrize(
    ("name", "fields"),
    [("openvino", {"few_shot_adapters": False}), ("openvino", {"score_fusion": "mean"}), ("torch", {})],
)
def test_normal_variation_in_other_runtimes_and_beside_adapters(make_model, of_torch, photos, tmp_path, name, fields):
    model = make_model(clip={"layers": 2}, normal_variation=True, **fields)
    known = AnomalyDetector(model, of_torch.processor)
    export_model(known, tmp_path / "export", name)
    if name == "torch":  # opened for who trusts them alone
        with pytest.raises(ValueError, match=r"runs code that lies in them.*trust_remote_code=True"):
            opened(tmp_path / "export")
    assert_the_same(opened(tmp_path / "export", trust_remote_code=True), known, photos)


@pytest.mark.slow(15)
def test_normal_variation_beside_adapters_in_onnx(make_model, of_torch, photos, tmp_path):
    model = make_model(clip={"layers": 2}, normal_variation=True, score_fusion="mean")
    known = AnomalyDetector(model, of_torch.processor)
    export_model(known, tmp_path / "export", profile=fitted(known, photos))
    assert_the_same(opened(tmp_path / "export"), known, photos)
    expected = scores(known.detect(photos["bad"], prompt_bank=known.remember(photos["normal"], augment="none")))
    found = run_standalone(tmp_path / "export", *photos["bad"], "--normal", *photos["normal"])
    np.testing.assert_allclose([line["score"] for line in found], expected, atol=TOLERANCE)


@pytest.mark.slow(15)
@pytest.mark.parametrize(
    ("name", "precision"), [("onnx", "int8"), ("onnx", "float16"), ("openvino", "int8"), ("openvino", "float16")]
)
def test_a_lower_precision_is_another_model(varied_torch, photos, tmp_path, name, precision):
    if (name, precision) == ("openvino", "int8"):
        pytest.importorskip("nncf")
    images = [*photos["normal"], *photos["good"], *photos["bad"]]
    export_model(varied_torch, tmp_path / "less", name, precision, images=images)
    detector = opened(tmp_path / "less")
    calibrated = f"int8 {name} [0-9a-f]{{8}}" if precision == "int8" else precision
    assert re.match(f"{calibrated} of ", detector.describe()["weights"])
    assert detector.dtype == detector.describe()["dtype"] == ("int8" if precision == "int8" else "float32")
    bank = varied_torch.remember(photos["normal"])
    with pytest.raises(ValueError, match="made by another model"):
        detector.detect(photos["bad"], prompt_bank=bank)
    for banks in ((None, None), (detector.remember(photos["normal"]), bank)):
        found, expected = (
            scores(each.detect(images, prompt_bank=one))
            for each, one in zip((detector, varied_torch), banks, strict=True)
        )
        assert np.isfinite(found).all() and np.abs(np.subtract(found, expected)).max() < 0.2
    theirs = fitted(detector, photos)
    assert theirs.variation is not None and detector.detect(photos["bad"], profile=theirs)[0].label is not None


@pytest.mark.slow(15)
def test_float16_of_float16_weights_loses_nothing(make_model, of_torch, photos, tmp_path, capsys):
    halved = AnomalyDetector(make_model(clip={"layers": 2}).half().float(), of_torch.processor)
    halved.model.save_pretrained(tmp_path / "model")
    halved.processor.save_pretrained(tmp_path / "model")
    words = ["export", "--model", str(tmp_path / "model"), "--output", str(tmp_path / "half"), "--object-name", "ring"]
    assert main([*words, "--precision", "float16"]) == 0
    assert "scores differ by" in capsys.readouterr().out
    about = json.loads((tmp_path / "half" / "adaptclip_export.json").read_text())
    assert about["object_name"] == "ring" and about["parity"]["scores"] <= TOLERANCE
    detector = opened(tmp_path / "half")
    assert detector.describe() == halved.describe("ring")  # banks and profiles of torch fit
    assert detector.dtype == "float32"  # which its products are in
    expected = halved.detect(photos["bad"], object_name="ring")
    np.testing.assert_allclose(scores(detector.detect(photos["bad"])), scores(expected), atol=1e-5)


@pytest.mark.slow
def test_bfloat16_is_another_model_on_either_way(of_torch, photos, tmp_path, monkeypatch, caplog, capsys):
    """Opened with torch and without: the encoder computes in bfloat16, and scores in float32."""
    openvino = pytest.importorskip("openvino")
    hints, compile_model = [], openvino.Core.compile_model

    def noting(core, program, device, config):
        hints.append(config["INFERENCE_PRECISION_HINT"])
        return compile_model(core, program, device, config)

    monkeypatch.setattr(openvino.Core, "compile_model", noting)
    monkeypatch.setattr("adaptclip_hf.runtimes.formats.Format.multiplies", lambda self, precision: False)
    folder = tmp_path / "bfloat16"
    words = ["export", "--model", of_torch.model.name_or_path, "--format", "openvino", "--output", str(folder)]
    assert main([*words, "--precision", "bfloat16"]) == 0
    assert "writing checksums" in capsys.readouterr().err  # the bar
    about = json.loads((folder / "adaptclip_export.json").read_text())
    assert about["precision"] == "bfloat16" and about["made_by"]["fingerprint"]["weights"].startswith("bfloat16 of ")
    detector = opened(folder)
    assert main(["detect", *photos["bad"], "--model", str(folder), "--output", str(tmp_path / "run")]) == 0
    assert hints == ["bf16", "f32", "f32"] * 3
    assert "This processor has no products in bfloat16" in caplog.text
    found, expected = (scores(each.detect(photos["bad"])) for each in (detector, of_torch))
    assert np.abs(np.subtract(found, expected)).max() < 0.05
    lines = [json.loads(line) for line in (tmp_path / "run" / "results.jsonl").read_text().splitlines()]
    np.testing.assert_allclose([line["score"] for line in lines], found, atol=1e-3)
    settings = json.loads((tmp_path / "run" / "detect.json").read_text())
    assert settings["dtype"] == lines[0]["dtype"] == "bfloat16"
    with pytest.raises(ValueError, match="made by another model"):
        detector.detect(photos["bad"], prompt_bank=of_torch.remember(photos["normal"]))


def test_wrong_calls(tmp_path, capsys):
    assert main(["export", "--format", "openvino", "--profile", "nowhere", "--output", str(tmp_path / "no")]) == 1
    assert "nowhere" in capsys.readouterr().err


@pytest.mark.slow(30)
@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_the_embedded_model_and_large_banks(photos, tmp_path, name):
    of_torch = opened(DEFAULT_MODEL)
    export_model(of_torch, tmp_path / "tiny", name)
    (tmp_path / "tiny" / "export.json").write_text("[")  # for other programs: nothing of it is read
    detector = opened(tmp_path / "tiny")
    assert detector.backend == name
    # the export has compared eight images with torch already, in batches
    assert_the_same(detector, of_torch, {**photos, "bad": photos["bad"][:1], "good": photos["good"][:1]}, [(4, 2)])
    side = of_torch.model.config.image_size
    features = of_torch.encode(torch.randn(1, 3, side, side))
    bank = of_torch.remember(photos["normal"])
    for count in (1, 40):
        layers = tuple(
            torch.nn.functional.normalize(torch.randn(count, *each.shape[1:]), dim=-1) for each in bank.features
        )
        large = PromptBank(layers, bank.fingerprint, bank.preprocessing)
        for found, expected in zip(detector.score(features, large), of_torch.score(features, large), strict=True):
            torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)
    if name == "openvino":
        weights = tmp_path / "tiny" / "openvino_encode.bin"
        weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
        with pytest.raises(ValueError, match=r"openvino_encode\.bin is damaged"):
            opened(tmp_path / "tiny")
    if name == "onnx":  # the weights once, in float32, and little else
        weights = sum(each.numel() for each in of_torch.model.parameters()) * 4
        assert sum(file.stat().st_size for file in (tmp_path / "tiny").iterdir()) < 1.05 * weights


@pytest.mark.slow(15)
def test_what_a_lower_precision_costs_is_measured_and_kept(folder, photos, tmp_path, capsys):
    for kind, split in (("normal", "train/good"), ("good", "test/good"), ("bad", "test/stain")):
        (tmp_path / "ring" / split).mkdir(parents=True)
        for path in photos[kind]:
            shutil.copy(path, tmp_path / "ring" / split)
    words = ["export", "--model", str(folder), "--output", str(tmp_path / "out"), "--precision", "float16"]
    assert main([*words, "--data", str(tmp_path / "ring")]) == 0
    about = json.loads((tmp_path / "out" / "adaptclip_export.json").read_text())
    figures = about["accuracy"]["ring 4-shot image_auroc"]
    assert figures.keys() == {"torch", "float16"} and abs(figures["torch"] - figures["float16"]) < 0.2
    assert "ring 0-shot image_auroc: torch" in capsys.readouterr().out
    assert about["made_by"]["weights"].startswith("float16 of ")


@pytest.mark.slow(15)
@pytest.mark.skipif(not shutil.which("cmake") or not shutil.which("c++"), reason="no compiler")
def test_the_cpp_example_scores_alike(exported, of_torch, varied, varied_torch, photos, tmp_path):
    from PIL import Image

    package = Path(pytest.importorskip("openvino").__file__).parent
    source = Path(__file__).resolve().parents[2] / "examples" / "cpp"
    for command in (
        ["cmake", "-S", source, "-B", tmp_path / "build", f"-DOpenVINO_DIR={package / 'cmake'}"],
        ["cmake", "--build", tmp_path / "build"],
    ):
        subprocess.run(command, check=True, capture_output=True)
    paths = {}
    for path in (*photos["normal"], photos["bad"][0]):
        paths[path] = tmp_path / Path(path).with_suffix(".ppm").name
        Image.open(path).save(paths[path])
    for folder, detector in ((exported, of_torch), (varied, varied_torch)):
        for count in (0, 1, 4):
            normal = photos["normal"][:count]
            bank = detector.remember(normal, augment="none") if normal else None
            [expected] = detector.detect(photos["bad"][0], prompt_bank=bank)
            words = [paths[photos["bad"][0]], *(paths[each] for each in normal)]
            command = [tmp_path / "build" / "detect", folder, *words]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            assert float(done.stdout) == pytest.approx(expected.score, abs=TOLERANCE)
    broken = subprocess.run([command[0], exported, photos["bad"][0]], capture_output=True, text=True)
    assert broken.returncode == 1 and "is not a binary PPM" in broken.stderr
