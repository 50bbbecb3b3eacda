"""Names that come from data: an evaluation writes below its output alone, and shows them as text."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest

from adaptclip_hf.cli import main
from adaptclip_hf.evaluation.markdown import plain
from adaptclip_hf.evaluation.plots import drawable
from adaptclip_hf.evaluation.protocol import EvaluatedCategory, Setting
from adaptclip_hf.evaluation.saved_maps import read_scores, save_maps
from adaptclip_hf.evaluation.scoring import ScoredBatch
from adaptclip_hf.synthetic import write_dataset


@pytest.fixture
def products(tmp_path) -> Path:
    return write_dataset(tmp_path / "products", 1, size=60, train=2, good=1, bad=1)


def evaluate(products, output, small_folder, *words) -> int:
    call = ["evaluate", "--data", products, "--model", small_folder, "--device", "cpu", "--output", output, "--quiet"]
    return main([*map(str, call), "--shots", "0", *words])


def files(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*")}


def test_no_map_leaves_the_output(products, small_folder, tmp_path, capsys):
    """Through names of categories, and through links in the output."""
    root, [category] = tmp_path / "listed", [each for each in products.iterdir() if each.is_dir()]
    root.mkdir()
    shutil.move(category, tmp_path / "elsewhere")
    image = next((tmp_path / "elsewhere" / "test").rglob("*.png"))
    shutil.copy(image, root / "x.png")
    entry = {"mask_path": "", "anomaly": 0, "cls_name": "a"}
    test = [{**entry, "img_path": "x.png"}]
    (root / "meta.json").write_text(json.dumps({"train": {}, "test": {"../../a": test}}))
    before = files(tmp_path)
    evaluate(root, tmp_path / "out", small_folder, "--save-maps")
    assert all(name == "out" or name.startswith("out/") for name in files(tmp_path) - before)
    assert (tmp_path / "out" / "results.md").is_file()
    (tmp_path / "mine").mkdir()
    for name in ("maps", "plots"):
        output = tmp_path / f"out-{name}"
        output.mkdir()
        (output / name).symlink_to(tmp_path / "mine")
        capsys.readouterr()
        assert evaluate(root, output, small_folder, "--save-maps") == 1
        assert "leads out of" in capsys.readouterr().err and not list((tmp_path / "mine").iterdir())


def test_an_image_named_through_another_folder_has_no_path_below(tmp_path):
    rows = datasets.Dataset.from_dict({"image": [{"path": f"{tmp_path}/{name}"} for name in ("a/b.png", "../x/b.png")]})
    category = EvaluatedCategory("a", rows, tmp_path)
    assert category.path_below(0) == Path("a/b.png") and category.path_below(1) is None
    maps = np.zeros((2, 8, 8), np.float32)
    save_maps(ScoredBatch([0, 1], {}, {Setting(0, 10): maps}), replace(category, data_set="../up"), tmp_path / "out")
    found = sorted(file.name for file in tmp_path.rglob("*.npy"))
    assert found == ["b.npy", "row 1.npy"] and [file.name for file in tmp_path.iterdir()] == ["out"]


def test_files_that_no_evaluation_wrote_stay(products, small_folder, tmp_path, capsys):
    (tmp_path / "out" / "progress").mkdir(parents=True)
    for name in ("results.csv", "progress/mine.txt"):
        (tmp_path / "out" / name).write_text("mine")
    assert evaluate(products, tmp_path / "out", small_folder) == 1
    assert "results.csv is there" in capsys.readouterr().err
    assert (tmp_path / "out" / "results.csv").read_text() == "mine"
    assert evaluate(products, tmp_path / "out", small_folder, "--overwrite") == 0
    assert (tmp_path / "out" / "progress" / "mine.txt").read_text() == "mine"


def test_maps_that_would_replace_one_another_are_refused(products, small_folder, tmp_path, capsys):
    image = next(products.glob("*/test/good/*.png"))
    shutil.copy(image, image.with_suffix(".jpg"))
    assert evaluate(products, tmp_path / "out", small_folder, "--save-maps") == 1
    assert "would be one file" in capsys.readouterr().err
    image.with_suffix(".jpg").unlink()
    assert evaluate(products, tmp_path / "out", small_folder, "--save-maps") == 0
    maps = tmp_path / "out" / "maps" / "0-shot_seed-10"
    call = ["evaluate", "--data", str(products), "--maps", str(maps), "--save-maps", "--quiet", "--overwrite"]
    assert main([*call, "--output", str(tmp_path / "out")]) == 1
    assert "would be replaced" in capsys.readouterr().err


def test_shots_without_normal_images(products, small_folder, tmp_path, capsys):
    shutil.rmtree(next(products.glob("*/train")))
    assert evaluate(products, tmp_path / "out", small_folder, "--shots", "1") == 1
    error = capsys.readouterr().err
    assert "no normal training image" in error and "--shots 0" in error and len(error.strip().splitlines()) == 1


def test_markdown_and_plots_take_names_as_text():
    hostile = "a|b\n<img src=x onerror=alert(1)> [c](javascript:d) `e` *f* \u202eg"
    shown = plain(hostile)
    assert "<" not in shown and "\n" not in shown and "\u202e" not in shown
    assert r"a\|b\\n" in shown and r"\[c\](" in shown and r"\`e\`" in shown
    assert plain("metal_nut-2.png") == "metal_nut-2.png"
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    figure = Figure()
    figure.suptitle(drawable(r"a$\nonsense$b"))
    figure.canvas.draw()


SCORES = {
    "NaN": (b"image,score\na.png,0.5\nb.png,nan\n", "line 3"),
    "infinity": (b"image,score\na.png,inf\n", "line 2"),
    "text": (b"image,score\na.png,high\n", "line 2"),
    "short": (b"image,score\na.png,1\nb.png\n", "line 3"),
    "twice": (b"image,score\na.png,1\na.png,2\n", "line 3"),
    "no score": (b"image,value\na.png,1\n", "line 1"),
    "empty": (b"", "line 1"),
    "latin-1": ("image,score\na.png,1\nTeil ü.png,2\n".encode("latin-1"), "line 3"),
    "UTF-16": ("image,score\na.png,1\n".encode("utf-16"), "line 1"),
    "large cell": (b"image,score\na.png,1\n" + b"b" * 200_000 + b",1\n", "line"),
}


@pytest.mark.parametrize("kind", SCORES)
def test_scores_beside_maps_are_checked_before_anything_is_scored(kind, tmp_path):
    content, named = SCORES[kind]
    (tmp_path / "scores.csv").write_bytes(content)
    with pytest.raises(ValueError, match=rf"scores\.csv.*{named}") as refused:
        read_scores(tmp_path / "scores.csv")
    assert len(str(refused.value).splitlines()) == 1


def test_scores_of_a_spreadsheet(tmp_path):
    (tmp_path / "scores.csv").write_bytes("\ufeffimage,score\r\nTeil ü.png,-0.5\r\n'=a.png,1e-3\r\n".encode())
    assert read_scores(tmp_path / "scores.csv") == {("", "Teil ü.png"): -0.5, ("", "=a.png"): 0.001}
