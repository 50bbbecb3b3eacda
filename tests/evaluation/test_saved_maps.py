"""`adaptclip evaluate --maps` and `--save-maps`: a model's own maps again, and other programs' in their formats."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score

from adaptclip_hf.cli import main
from adaptclip_hf.synthetic import write_dataset


@pytest.fixture(scope="module")
def products(tmp_path_factory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "products", 2, size=60, train=4, good=3, bad=4)


def call(data, output, *words) -> tuple[int, dict | None]:
    status = main(["evaluate", "--data", str(data), "--output", str(output), "--quiet", *map(str, words)])
    file = output / "results.json"
    return status, json.loads(file.read_text()) if file.is_file() else None


def test_saved_maps_give_the_figures_of_their_model(products, small_folder, tmp_path):
    options = ["--shots", 0, 2, "--seeds", 10]
    _, model = call(products, tmp_path / "model", "--model", small_folder, *options, "--save-maps")
    maps = tmp_path / "model" / "maps"
    assert sorted(each.name for each in maps.iterdir()) == ["0-shot_seed-10", "2-shot_seed-10"]
    for shots in (0, 2):
        folder = maps / f"{shots}-shot_seed-10"
        status, again = call(products, tmp_path / str(shots), "--maps", folder, "--shots", shots, "--seeds", 10)
        assert status == 0 and not again["failures"] and again["model"]["scores"] == "given"
        of_model = [each for each in model["results"] if each["shots"] == shots]
        assert [each["metrics"] for each in again["results"]] == [each["metrics"] for each in of_model]
    assert main(["compare", str(tmp_path / "model"), str(tmp_path / "2")]) == 0


def foreign_maps(products: Path, folder: Path, write) -> tuple[list, dict]:
    """Maps as another program may have them, at the images' own size, and what it thinks of each test image."""
    rng, found = np.random.default_rng(3), {}
    for image in sorted(products.glob("*/test/*/*.png")):
        below = image.relative_to(products)
        truth = products / below.parts[0] / "ground_truth" / below.parts[2] / f"{image.stem}_mask.png"
        with Image.open(image) as opened:
            mask = np.zeros((opened.height, opened.width), bool)
        if truth.is_file():
            mask = np.asarray(Image.open(truth)) > 0
        values = ndimage.gaussian_filter(rng.normal(20 + 9 * mask, 6), 1.5).astype(np.float32)
        file = folder / below.with_suffix("")
        file.parent.mkdir(parents=True, exist_ok=True)
        found[below.as_posix()] = (write(file, values), mask)
    return found


def as_npy(file, values):
    np.save(f"{file}.npy", values[None])
    return values


def as_npz(file, values):
    np.savez_compressed(f"{file}.npz", anomaly_map=values.astype(np.float64))
    return values


def as_tiff(file, values):
    Image.fromarray(values).save(f"{file}.tiff")
    return values


def as_png(file, values):
    values = np.clip(values * 500, 0, 65535).astype(np.uint16)
    Image.fromarray(values).save(f"{file}.png")
    return values


@pytest.mark.parametrize("write", [as_npy, as_npz, as_tiff, as_png])
def test_maps_of_another_program(products, tmp_path, write):
    found = foreign_maps(products, tmp_path / "theirs", write)
    status, results = call(products, tmp_path / "out", "--maps", tmp_path / "theirs")
    assert status == 0 and results["model"]["name"] == "theirs" and len(results["results"]) == 2
    for each in results["results"]:
        own = [pair for name, pair in found.items() if name.startswith(f"{each['category']}/")]
        pixels, truth = (np.concatenate([pair[index].ravel() for pair in own]) for index in (0, 1))
        metrics = each["metrics"]
        assert metrics["pixel_auroc"] == pytest.approx(roc_auc_score(truth, pixels), abs=2e-5)
        assert metrics["pixel_average_precision"] == pytest.approx(average_precision_score(truth, pixels), abs=2e-4)
        labels, scores = [pair[1].any() for pair in own], [pair[0].max() for pair in own]
        assert metrics["image_auroc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)
    notes = [line for lines in results["notes"].values() for line in lines]
    assert len(notes) == 2 and "all on one scale" in notes[0]
    assert "Saved maps" in (tmp_path / "out" / "results.md").read_text()


def test_scores_may_stand_beside_the_maps(products, tmp_path):
    found = foreign_maps(products, tmp_path / "theirs", as_npy)
    with (tmp_path / "theirs" / "scores.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [("image", "score"), *((name, -7 + mask.any()) for name, (_, mask) in found.items())]
        )
    _, results = call(products, tmp_path / "out", "--maps", tmp_path / "theirs")
    assert [each["metrics"]["image_auroc"] for each in results["results"]] == [1, 1]
    assert results["results"][0]["metrics"]["image_threshold"] == -6


def test_maps_and_masks_at_another_size(products, tmp_path):
    foreign_maps(products, tmp_path / "theirs", as_npy)
    _, own = call(products, tmp_path / "own", "--maps", tmp_path / "theirs")
    _, small = call(products, tmp_path / "small", "--maps", tmp_path / "theirs", "--map-size", 24)
    assert own["results"][0]["metrics"]["pixel_auroc"] != small["results"][0]["metrics"]["pixel_auroc"]
    status, _ = call(products, tmp_path / "own", "--maps", tmp_path / "theirs", "--map-size", 24)
    assert status == 1


def test_maps_that_are_missing_or_no_maps(products, tmp_path, capsys):
    found = list(foreign_maps(products, tmp_path / "theirs", as_npy))
    files = [tmp_path / "theirs" / f"{name.removesuffix('.png')}.npy" for name in found]
    files[0].unlink()
    np.save(files[1], np.zeros((4, 4, 3)))
    np.save(files[2], np.full((4, 4), np.nan))
    np.save(files[3], np.array([{}]), allow_pickle=True)
    files[4].with_suffix(".npz").write_bytes(b"no map")
    files[5].write_bytes(files[5].read_bytes()[:60])
    status, results = call(products, tmp_path / "out", "--maps", tmp_path / "theirs")
    said = [each["error"] for each in results["failures"]]
    assert status == 1 and len(said) == 6
    words = ["no map at", "one channel", "finite", "cannot be read", "two maps", "cannot be read"]
    assert all(word in line for word, line in zip(words, said, strict=True)), said


def test_wrong_calls(products, tmp_path, capsys):
    assert call(products, tmp_path / "out", "--maps", tmp_path / "nothing")[0] == 1
    assert "No folder of maps" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert call(products, tmp_path / "out", "--maps", tmp_path / "empty")[0] == 1
    assert "holds no map" in capsys.readouterr().err
    foreign_maps(products, tmp_path / "theirs", as_npy)
    with pytest.raises(SystemExit):
        call(products, tmp_path / "out", "--maps", tmp_path / "theirs", "--training-free")
    assert call(products, tmp_path / "out", "--maps", tmp_path / "theirs", "--shots", 0, 1)[0] == 1
    assert "one of each" in capsys.readouterr().err
    (tmp_path / "theirs" / "scores.csv").write_text("file,value\n")
    assert call(products, tmp_path / "out", "--maps", tmp_path / "theirs")[0] == 1
    assert "columns image and score" in capsys.readouterr().err


def test_changed_maps_are_not_taken_for_the_old_ones(products, tmp_path, capsys):
    foreign_maps(products, tmp_path / "theirs", as_npy)
    assert call(products, tmp_path / "out", "--maps", tmp_path / "theirs")[0] == 0
    np.save(next((tmp_path / "theirs").rglob("*.npy")), np.ones((5, 5)))
    assert call(products, tmp_path / "out", "--maps", tmp_path / "theirs")[0] == 1
    assert "differs in maps" in capsys.readouterr().err
