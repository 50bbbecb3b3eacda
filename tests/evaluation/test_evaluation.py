"""`adaptclip evaluate` on data sets on disk: what it writes, what it leaves out and why, stopped and in parts."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from commands import CLI, launch, run_python
from layouts import make_br35h, make_good_and_bad, make_kvasir, make_real_iad, mvtec
from PIL import Image

from adaptclip_hf import AdaptCLIPModel, AdaptCLIPProcessor
from adaptclip_hf.cli import main
from adaptclip_hf.data import load_data_set
from adaptclip_hf.evaluation import ImageMetrics, PixelMetrics, eval_results
from adaptclip_hf.evaluation import evaluate as run
from adaptclip_hf.evaluation.protocol import Setting, draw_prompts, settings_of
from adaptclip_hf.evaluation.published import published_results
from adaptclip_hf.synthetic import write_dataset

PIXEL_FIGURES = ("auroc", "ap", "average_precision", "f1max", "threshold", "aupro", "aupimo")


@pytest.fixture(scope="module")
def products(tmp_path_factory):
    """Two procedural categories in MVTec AD's layout."""
    return write_dataset(tmp_path_factory.mktemp("data") / "products", 2, size=60, train=5, good=3, bad=4)


@pytest.fixture
def evaluate(small_folder, tmp_path):
    """Calls the command with the small model; gives its exit status and results.json."""

    def call(*data, output="out", **options):
        words = [
            "evaluate",
            "--model",
            str(small_folder),
            "--data",
            *map(str, data),
            "--output",
            str(tmp_path / output),
        ]
        options = {"shots": [0, 2], "seeds": [10, 20], "batch_size": [2], **options}
        for name, values in options.items():
            words += [f"--{name.replace('_', '-')}", *map(str, values)]
        status = main([*words, "--quiet"])
        file = tmp_path / output / "results.json"
        return status, json.loads(file.read_text()) if file.is_file() else None

    return call


def without_time(results: dict) -> dict:
    return {name: value for name, value in results.items() if name != "time"}


def metrics_of(results: dict, **chosen) -> dict:
    [found] = [each for each in results["results"] if all(each[name] == value for name, value in chosen.items())]
    return found["metrics"]


def test_prompt_draws(shared):
    draws = json.loads((shared / "reference" / "prompt_sampling.json").read_text())["draws"]
    assert len(draws) > 20
    for each in draws:
        assert draw_prompts(each["n"], Setting(each["k"], each["seed"])) == each["indices"]
    assert settings_of([2, 0, 2], [10, 20, 10]) == [Setting(0, 10), Setting(2, 10), Setting(2, 20)]


def test_drawing_leaves_the_callers_randomness_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    draw_prompts(50, Setting(4, 10))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.curves
def test_what_the_command_writes(evaluate, products, tmp_path):
    status, results = evaluate(products)
    assert status == 0
    out = tmp_path / "out"
    runs = {(each["category"], each["shots"], each["seed"]) for each in results["results"]}
    assert runs == {(f"category_00{n}", *run) for n in (0, 1) for run in ((0, 10), (2, 10), (2, 20))}
    for each in results["results"]:
        names = {name for name in each["metrics"] if name.startswith("pixel_")}
        assert names == {f"pixel_{name}" for name in PIXEL_FIGURES}
        assert {"image_auroc", "image_ap", "image_f1max", "image_threshold", "image_overkill@5"} <= set(each["metrics"])
        assert all(0 <= value <= 1 for value in each["metrics"].values()) and max(each["error_bounds"].values()) < 1e-3
    assert results["model"]["weights"] and results["model"]["fingerprint"] and results["versions"]["torch"]
    assert results["prompts"] == json.loads((out / "prompts.json").read_text())
    train = sorted(path.relative_to(products).as_posix() for path in (products / "category_001/train/good").iterdir())
    [drawn] = [
        each
        for each in results["prompts"]
        if (each["category"], each["shots"], each["seed"]) == ("category_001", 2, 20)
    ]
    assert drawn["images"] == [train[index] for index in draw_prompts(5, Setting(2, 20))]
    lines = list(csv.DictReader((out / "scores.csv").open()))
    assert len(lines) == 2 * 7 * 3 and all(0 <= float(line["score"]) <= 1 for line in lines)
    summary = list(csv.DictReader((out / "results.csv").open()))
    assert {line["category"] for line in summary} == {"category_000", "category_001", ""}
    report = (out / "results.md").read_text()
    assert "| 2-shot | I-AUROC |" in report and "**mean**" in report and " ± " in report
    for category in ("category_000", "category_001"):
        for kind in ("curves.png", "examples.jpg"):
            with Image.open(out / "plots" / "products" / f"{category}_{kind}") as picture:
                assert np.asarray(picture).std() > 5 and picture.width > 500
    assert 0 < results["time"]["encoder_share"] < 1


def test_the_figures_are_those_of_one_image_after_the_other(evaluate, products, small_folder):
    _, results = evaluate(products, shots=[2], seeds=[10])
    model = AdaptCLIPModel.from_pretrained(small_folder)
    processor = AdaptCLIPProcessor.from_pretrained(small_folder)
    rows = load_data_set(products / "category_000")
    train = sorted((products / "category_000" / "train" / "good").iterdir())
    normal = [train[index] for index in draw_prompts(len(train), Setting(2, 10))]
    bank = model.encode_prompts(processor(normal)["pixel_values"])
    images, pixels = ImageMetrics(), PixelMetrics()
    for row in rows:
        if row["split"] == "test":
            truth = row["mask"] or Image.new("L", row["image"].size)
            inputs = processor(row["image"], masks=truth)
            with torch.inference_mode():
                output = model(inputs["pixel_values"], prompt_bank=bank)
            images.update(output.anomaly_scores, [row["label"]])
            pixels.update(output.anomaly_maps, inputs["mask_labels"])
    ours = images.compute() | pixels.compute()
    theirs = metrics_of(results, category="category_000")
    assert theirs.keys() == ours.keys()
    assert all(theirs[name] == pytest.approx(ours[name], abs=1e-4) for name in ours)


def test_mean_and_deviation_over_seeds(evaluate, products):
    _, results = evaluate(products, shots=[1], seeds=[10, 20, 30])
    values = np.array(
        [
            [metrics_of(results, category=f"category_00{n}", seed=seed)["image_auroc"] for n in (0, 1)]
            for seed in (10, 20, 30)
        ]
    )
    [mean] = [line for line in results["summary"] if (line["category"], line["metric"]) == (None, "image_auroc")]
    assert mean["mean"] == pytest.approx(values.mean()) and mean["categories"] == 2 and mean["seeds"] == 3
    assert mean["std"] == pytest.approx(values.mean(axis=1).std(ddof=1))


def test_views_and_samples(evaluate, tmp_path):
    make_real_iad(tmp_path / "iad")
    status, results = evaluate(f"real-iad:{tmp_path / 'iad'}", shots=[1], seeds=[10])
    metrics = metrics_of(results, category="audiojack")
    assert status == 0 and {"sample_auroc", "sample_ap", "image_auroc", "pixel_aupro"} <= set(metrics)
    assert results["data_sets"][0]["map_size"] == 256
    assert {each["view"]: len(each["images"]) for each in results["prompts"]} == {f"C{n}": 1 for n in range(1, 6)}
    assert all(f"_{each['view']}_" in each["images"][0] for each in results["prompts"])


def test_what_is_missing_is_said_and_the_rest_reported(evaluate, tmp_path):
    make_br35h(tmp_path / "brains")
    make_kvasir(tmp_path / "polyps")
    make_good_and_bad(tmp_path / "parts")
    (tmp_path / "parts" / "masks" / "0.png").unlink()
    status, results = evaluate(f"br35h:{tmp_path / 'brains'}", f"kvasir:{tmp_path / 'polyps'}", tmp_path / "parts")
    assert status == 0
    notes = {place: " / ".join(lines) for place, lines in results["notes"].items()}
    assert "no masks: pixel figures are left out" in notes["brains/brain"]
    assert "no normal image to compare with: few-shot figures are left out" in notes["brains/brain"]
    assert "no normal test image: image figures are left out" in notes["polyps/polyps"]
    assert "no masks" in notes["parts/parts"]
    brains, polyps = (metrics_of(results, data_set=name) for name in ("brains", "polyps"))
    assert "image_auroc" in brains and not any(name.startswith("pixel") for name in brains)
    assert "pixel_auroc" in polyps and not any(name.startswith("image") for name in polyps)
    assert {each["shots"] for each in results["results"] if each["data_set"] == "parts"} == {0, 2}
    report = (tmp_path / "out" / "results.md").read_text()
    assert "What is missing, and why" in report and "polyps/polyps: no normal test image" in report
    # the data sets' own published figures, where the paper has them
    assert "*AdaptCLIP, published*" in report


def test_broken_images_do_not_stop_it(evaluate, products, tmp_path):
    data = shutil.copytree(products, tmp_path / "data")
    broken = sorted((data / "category_000" / "test" / "good").iterdir())[1]
    broken.write_bytes(broken.read_bytes()[:80])
    prompts = sorted((data / "category_001" / "train" / "good").iterdir())
    drawn = set(draw_prompts(5, Setting(2, 10))) - set(draw_prompts(5, Setting(2, 20)))
    prompts[drawn.pop()].write_bytes(b"")
    status, results = evaluate(data)
    assert status == 1
    assert [each["image"] for each in results["failures"]] == [broken.relative_to(data).as_posix()]
    assert results["images"]["data/category_000"] == {"normal": 2, "anomalous": 4}
    [note] = results["notes"]["data/category_001"]
    assert "2-shot, seed 10 is left out, a normal image drawn for it cannot be read" in note
    assert {(each["category"], each["seed"]) for each in results["results"] if each["shots"]} == {
        ("category_000", 10),
        ("category_000", 20),
        ("category_001", 20),
    }


def test_stopped_anywhere_and_started_again(evaluate, products, tmp_path, monkeypatch):
    _, whole = evaluate(products, output="whole")
    monkeypatch.setattr(run, "SAVE_EVERY", 0.0)
    add, calls = run.CategoryCounts.add, []

    def stop_after(counts, *arguments):
        add(counts, *arguments)
        calls.append(arguments)
        if len(calls) in (2, 5, 6):
            raise KeyboardInterrupt

    monkeypatch.setattr(run.CategoryCounts, "add", stop_after)
    for _ in range(3):
        assert evaluate(products) == (130, None)
        assert not (tmp_path / "out" / "results.json").exists()
    status, again = evaluate(products)
    assert status == 0 and without_time(again) == without_time(whole)
    for name in ("scores.csv", "results.csv", "prompts.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    # 4 batches a category, of which none was counted twice
    assert len(calls) == 8


def test_another_evaluation_is_not_overwritten_unless_asked(evaluate, products, tmp_path, capsys):
    assert evaluate(products, shots=[0])[0] == 0
    assert evaluate(products, shots=[0], batch_size=[3])[0] == 1
    message = capsys.readouterr().err
    assert "another run, which differs in batch_size (batch_size: 2 there, 3 now)" in message
    assert "--overwrite" in message
    status, results = evaluate(products, shots=[1], seeds=[10], batch_size=[3], overwrite=[])
    assert status == 0 and {each["shots"] for each in results["results"]} == {1}


def test_changed_images_are_another_evaluation(evaluate, products, tmp_path, capsys):
    data = shutil.copytree(products, tmp_path / "data")
    assert evaluate(data, shots=[0])[0] == 0
    next((data / "category_000" / "test" / "good").iterdir()).unlink()
    assert evaluate(data, shots=[0])[0] == 1
    assert "differs in data_sets" in capsys.readouterr().err


def test_published_figures_beside_ours(evaluate, tmp_path):
    names = published_results()["categories"]["BTAD"]
    for name in names:
        mvtec(tmp_path / "btad", name, "ok", "ko", "", ".png")
    _, results = evaluate(f"btad:{tmp_path / 'btad'}", shots=[0, 1], seeds=[10])
    assert results["data_sets"][0]["published_as"] == "BTAD"
    figures = published_results()["figures"]["BTAD"]
    for shots in (0, 1):
        theirs = figures[str(shots)]["AdaptCLIP"]["image_auroc"]["mean"]
        [line] = [
            each
            for each in results["summary"]
            if (each["category"], each["metric"], each["shots"]) == (None, "image_auroc", shots)
        ]
        assert line["published"] == pytest.approx(theirs / 100)
        assert f"| *AdaptCLIP, published* | {theirs:.1f}" in (tmp_path / "out" / "results.md").read_text()


def test_model_index(evaluate, products, tmp_path):
    _, results = evaluate(products)
    [model] = yaml.safe_load((tmp_path / "out" / "model-index.yml").read_text())["model-index"]
    values = {
        (each["dataset"]["config"], metric["type"]): metric["value"]
        for each in model["results"]
        for metric in each["metrics"]
    }
    found = eval_results(tmp_path / "out" / "results.json")
    assert len(values) == len(found) == 2 * 7 and values["2-shot", "pixel_aupro"] == pytest.approx(
        next(
            round(100 * each["mean"], 1)
            for each in results["summary"]
            if (each["category"], each["shots"], each["metric"]) == (None, 2, "pixel_aupro")
        )
    )


def test_folders_of_one_name_stay_apart(evaluate, products, tmp_path):
    second = shutil.copytree(products, tmp_path / "other" / "products")
    _, results = evaluate(products, second, shots=[0])
    assert [each["name"] for each in results["data_sets"]] == ["products", "other_products"]


def test_bad_calls(evaluate, products, tmp_path, capsys):
    assert evaluate(tmp_path / "nothing")[0] == 1 and "No data folder" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        evaluate(products, shots=[-1])
    assert stop.value.code == 2 and "-1" in capsys.readouterr().err
    (tmp_path / "empty" / "train" / "good").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "empty" / "train" / "good" / "0.png")
    assert evaluate(f"mvtec:{tmp_path / 'empty'}")[0] == 1 and "empty" in capsys.readouterr().err


def test_more_data_sets_shots_and_seeds_are_added_to_what_is_there(evaluate, products, tmp_path, monkeypatch):
    other = write_dataset(tmp_path / "others", 1, size=60, train=2, good=2, bad=2)
    _, whole = evaluate(products, other, output="whole", shots=[0, 1, 2], seeds=[10, 20])
    scored, original = [], run.ModelScorer.score_batch

    def count(scorer, rows):
        scored.append((scorer.category.data_set, tuple(scorer.settings), len(rows)))
        return original(scorer, rows)

    monkeypatch.setattr(run.ModelScorer, "score_batch", count)
    _, first = evaluate(products, shots=[0, 1], seeds=[10])
    _, second = evaluate(products, shots=[0, 1, 2], seeds=[10, 20])
    _, third = evaluate(other, shots=[0, 1, 2], seeds=[10, 20])
    assert sum(images for name, settings, images in scored for _ in settings) == 14 * 5 + 4 * 5
    assert len(first["results"]) == 4 and len(second["results"]) == 10
    key = lambda each: (each["data_set"], each["category"], each["shots"], each["seed"])  # noqa: E731
    assert sorted(third["results"], key=key) == sorted(whole["results"], key=key)
    assert [each["name"] for each in third["data_sets"]] == ["products", "others"]
    by_line = {json.dumps([each[name] for name in ("data_set", "category", "shots", "metric")]): each["mean"]
               for each in whole["summary"]}  # fmt: skip
    for each in third["summary"]:
        name = json.dumps([each[name] for name in ("data_set", "category", "shots", "metric")])
        assert each["mean"] == pytest.approx(by_line.pop(name))
    assert not by_line
    scores = [sorted((tmp_path / name / "scores.csv").read_text().splitlines()) for name in ("whole", "out")]
    assert scores[0] == scores[1]
    # nothing is left to do
    scored.clear()
    assert without_time(evaluate(products, shots=[0])[1]) == without_time(third) and not scored
    assert (tmp_path / "out" / "plots" / "products" / "category_000_1-shot_2-shot_curves.png").is_file()


def test_mean_over_data_sets(evaluate, products, tmp_path):
    other = write_dataset(tmp_path / "others", 1, size=60, train=2, good=2, bad=2)
    _, results = evaluate(products, other, shots=[0])
    means = {line["data_set"]: line["mean"] for line in results["summary"]
             if line["category"] is None and line["metric"] == "image_auroc"}  # fmt: skip
    assert means[None] == pytest.approx((means["products"] + means["others"]) / 2)
    report = (tmp_path / "out" / "results.md").read_text()
    assert "## Mean over data sets" in report and f"{100 * means[None]:.1f} (2)" in report


def test_a_category_may_be_called_mean_or_anything(evaluate, products, tmp_path):
    """Names are data: they neither pass for a mean nor leave the output folder."""
    long = "検査対象の部品" * 20
    folder = products / "category_000"
    good, bad = sorted((folder / "test/good").iterdir()), sorted(folder.glob("test/[!g]*/*"))
    entries = [{"img_path": str(path), "mask_path": "", "anomaly": int(path in bad)} for path in (*good, *bad)]
    names = ("mean", "../../escaped", long)
    content = {"train": {name: entries[:1] for name in names}, "test": dict.fromkeys(names, entries)}
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "meta.json").write_text(json.dumps(content))
    status, results = evaluate(f"meta:{tmp_path / 'data'}", shots=[0])
    assert status == 0 and {each["category"] for each in results["results"]} == {"mean", "../../escaped", long}
    lines = [line for line in results["summary"] if line["metric"] == "image_auroc"]
    assert [line["category"] for line in lines].count(None) == 1 and len(lines) == 4
    written = {path.resolve() for path in tmp_path.rglob("*") if path.is_file()}
    assert all(path.is_relative_to(tmp_path / "out") or path.is_relative_to(tmp_path / "data") for path in written)
    assert not list(tmp_path.parent.glob("escaped*"))
    assert len(list((tmp_path / "out" / "plots" / "data").glob("*_examples.jpg"))) == 3


def test_progress_on_disk_is_small(products):
    """Counts of a million different scores, of which few are large."""
    from adaptclip_hf.evaluation.category_counts import pack, unpack

    pixels = PixelMetrics()
    maps = torch.rand(8, 300, 300, generator=torch.Generator().manual_seed(0)) ** 3
    pixels.update(maps, (maps > 0.9).long())
    state = pixels.state()
    packed = pack(state)
    assert len(packed) < 0.12 * sum(array.nbytes for array in state.values())
    again = PixelMetrics()
    again.add_state(unpack(packed))
    assert again.compute() == pixels.compute()


def test_what_would_surprise_is_said(products, small_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(run, "can_plot", lambda: False)
    call = ["evaluate", "--data", str(products), "--model", str(small_folder), "--output", str(tmp_path / "out")]
    assert main([*call, "--shots", "9", "--seeds", "10"]) == 0
    printed = capsys.readouterr().out
    assert "no curves are drawn: they need matplotlib" in printed
    assert "9-shot of 5 normal images; they are drawn with replacement" in printed


@pytest.mark.works("Trainer and Accelerate", "`torchrun` of an evaluation")
@pytest.mark.slow
def test_two_processes_give_the_same_results(small_folder, products, tmp_path):
    results = []
    for processes in (1, 2):
        call = [*CLI, "evaluate", "--model", small_folder, "--data", products, "--quiet"]
        call += ["--output", tmp_path / str(processes), "--shots", "0", "2", "--batch-size", "1"]
        done = run_python(*call) if processes == 1 else launch(*call)
        assert done.returncode == 0, done.stderr
        results.append(json.loads((tmp_path / str(processes) / "results.json").read_text()))
    one, two = map(without_time, results)
    assert one == two
