"""The paper's figures beside ours, and evaluations beside each other."""

import csv
import json
import math

import numpy as np
import pytest
from layouts import mvtec
from scipy import stats

from adaptclip_hf.cli import main
from adaptclip_hf.evaluation import published, significance
from adaptclip_hf.evaluation.comparison import Run, compare, read_run
from adaptclip_hf.evaluation.published import differs, published_categories, published_figure, published_name
from adaptclip_hf.evaluation.significance import difference_of, placements
from adaptclip_hf.synthetic import write_dataset

KINDS = {"I": "image", "P": "pixel", "S": "sample"}


def test_every_published_figure_is_its_source(shared):
    source = json.loads((shared / "paper" / "published_per_category.json").read_text())
    count = 0
    for data_set, by_shots in source.items():
        for shots, block in by_shots.items():
            for category, figures in block["categories"].items():
                for name, value in figures.items():
                    kind, _, rest = name.partition("-")
                    found = published_figure(data_set, category, int(shots), f"{KINDS[kind]}_{rest.lower()}")
                    assert list(found.values()) == (value if isinstance(value, list) else [value])
                    count += 1
                assert len(published_categories()[data_set][shots]["categories"][category]) == len(figures)
            assert len(published_categories()[data_set][shots]["categories"]) == len(block["categories"])
    assert count == 12_988 and len(source["Real-IAD-Variety"]["0"]["categories"]) == 160


def test_means_of_categories_are_the_tables_means():
    """Two sources of the same figures: the paper's tables and its supplement."""
    tables = published.published_results()["figures"]
    for data_set, by_shots in published_categories().items():
        for shots, block in by_shots.items():
            table = tables.get(data_set, {}).get(shots, {}).get("AdaptCLIP", {})
            if not block["source"].startswith("paper"):  # of another run than the tables
                continue
            whole = len(block["categories"]) == len(published.published_results()["categories"].get(data_set, ()))
            for metric, figure in table.items():
                values = [each[metric][0] for each in block["categories"].values() if metric in each]
                if whole and len(values) == len(block["categories"]):
                    assert np.mean(values) == pytest.approx(figure["mean"], abs=0.35), (data_set, shots, metric)


def test_names_and_differences():
    variety = list(published_categories()["Real-IAD-Variety"]["0"]["categories"])
    assert published_name("mvtec", variety) == "Real-IAD-Variety" and published_name("mvtec", ["bottle"]) is None
    assert published_figure("MVTec", "bottle", 0, "image_auroc") is None
    assert not differs(90.0, None, {"mean": 90.25}) and differs(90.0, None, {"mean": 90.35})
    assert not differs(90.0, 1.0, {"mean": 93.0, "std": 0.5}) and differs(90.0, 1.0, {"mean": 94.0, "std": 0.5})


@pytest.fixture
def btad(tmp_path):
    for name in ("01", "02", "03"):
        mvtec(tmp_path / "btad", name, "ok", "ko", "", ".png")
    return f"btad:{tmp_path / 'btad'}"


def test_verify_says_line_by_line(btad, small_folder, tmp_path, monkeypatch, capsys):
    words = ["--model", str(small_folder), "--data", btad, "--shots", "0", "1", "--seeds", "10", "20", "--quiet"]
    assert main(["verify", *words, "--output", str(tmp_path / "real")]) == 1
    said = capsys.readouterr().out
    assert "DIFFERS" in said and "BTAD" in (tmp_path / "real" / "results.md").read_text()
    results = json.loads((tmp_path / "real" / "results.json").read_text())
    made_up = {
        str(shots): {
            "source": "made up",
            "categories": {
                name: {
                    line["metric"]: [100 * line["mean"], 0.2]
                    for line in results["summary"]
                    if (line["category"], line["shots"]) == (name, shots) and "threshold" not in line["metric"]
                }
                for name in ("01", "02", "03")
            },
        }
        for shots in (0, 1)
    }
    monkeypatch.setattr(published, "published_categories", lambda: {"BTAD": made_up})
    monkeypatch.setattr(
        published, "published_results", lambda: {"categories": {"BTAD": ["01", "02", "03"]}, "figures": {}}
    )
    assert main(["verify", *words, "--output", str(tmp_path / "made_up")]) == 0
    said = capsys.readouterr().out
    assert "DIFFERS" not in said and said == (tmp_path / "made_up" / "verify.md").read_text() + "\n"
    made_up["1"]["categories"]["02"]["image_auroc"][0] -= 40
    assert main(["verify", *words, "--output", str(tmp_path / "made_up")]) == 1
    assert capsys.readouterr().out.count("DIFFERS") == 1
    assert "(!)" in (tmp_path / "made_up" / "results.md").read_text()


def test_verify_of_what_was_never_published(small_folder, tmp_path, capsys):
    data = write_dataset(tmp_path / "data", 1, size=60, train=2, good=2, bad=2)
    words = ["verify", "--model", str(small_folder), "--data", str(data), "--shots", "0", "--quiet"]
    assert main([*words, "--output", str(tmp_path / "out")]) == 1
    assert "Nothing was published about" in capsys.readouterr().out


def slow_delong(one, other, labels):
    """By the definition, pair by pair."""
    positive, negative = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)

    def kernel(scores):
        return np.array(
            [[float(scores[p] > scores[n]) + 0.5 * (scores[p] == scores[n]) for n in negative] for p in positive]
        )

    d = kernel(one) - kernel(other)
    variance = d.mean(1).var(ddof=1) / len(positive) + d.mean(0).var(ddof=1) / len(negative)
    return d.mean(), variance


def test_delong_and_bootstrap_against_a_reference():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    labels = (rng.random(80) < 0.4).astype(int)
    one = np.round(rng.normal(labels, 1.0), 1)  # with ties
    other = np.round(0.5 * one + rng.normal(0.3 * labels, 1.0), 1)
    value, variance, resampled = difference_of([[one, other]], labels, 400)
    expected = slow_delong(one, other, labels)
    assert value == pytest.approx(expected[0]) and variance == pytest.approx(expected[1])
    assert value == pytest.approx(roc_auc_score(labels, one) - roc_auc_score(labels, other))
    assert np.mean(placements(one, labels)[1]) == pytest.approx(roc_auc_score(labels, one))
    assert resampled.std() == pytest.approx(math.sqrt(variance), rel=0.25)
    # no difference: the test rejects about as often as its level says
    rejected = 0
    for _ in range(300):
        base = rng.normal(labels, 1.0)
        a, b = base + rng.normal(0, 0.5, 80), base + rng.normal(0, 0.5, 80)
        value, variance, _ = difference_of([[a, b]], labels, 1)
        rejected += abs(value) > 1.96 * math.sqrt(variance)
    assert 3 <= rejected <= 30


def test_draws_are_ranked_together_as_one_by_one(monkeypatch):
    rng = np.random.default_rng(1)
    labels = (np.arange(30) % 3 == 0).astype(int)
    pairs = [np.round(rng.random((2, 30)), 1) for _ in range(2)]
    together = difference_of(pairs, labels, 40).resampled
    monkeypatch.setattr(significance, "AT_ONCE", 1)  # each by itself
    assert np.array_equal(difference_of(pairs, labels, 40).resampled, together) and together.std() > 0


def test_the_mean_over_data_sets_counts_each_once():
    rng, names = np.random.default_rng(2), {"a": ("x",), "b": ("y", "z")}
    labels = np.array([0] * 12 + [1] * 8)
    runs, values, variances = [], {}, {}
    scores = {
        place: rng.normal(labels, 1.0) for data_set in names for place in [(data_set, c) for c in names[data_set]]
    }
    other = {place: each + rng.normal(0, 0.7, 20) for place, each in scores.items()}
    for name, found in (("one", scores), ("two", other)):
        by_image = {
            (*place, 1): {10: {str(n): (int(labels[n]), float(each[n])) for n in range(20)}}
            for place, each in found.items()
        }
        aurocs = {place: placements(each, labels)[0].mean() for place, each in found.items()}
        figures = {(*place, 1, "image_auroc"): value for place, value in aurocs.items()}
        for data_set, categories in names.items():
            figures[data_set, None, 1, "image_auroc"] = np.mean([aurocs[data_set, each] for each in categories])
        runs.append(Run(name, figures, by_image))
    for place in scores:
        values[place], variances[place] = slow_delong(other[place], scores[place], labels)
    [mean] = [line for line in compare(runs, resamples=200) if line.data_set is None]
    weights = {("a", "x"): 0.5, ("b", "y"): 0.25, ("b", "z"): 0.25}
    difference = sum(weights[place] * values[place] for place in weights)
    deviation = math.sqrt(sum(weights[place] ** 2 * variances[place] for place in weights))
    assert mean.values[1] - mean.values[0] == pytest.approx(difference)
    assert mean.p_values[0] == pytest.approx(2 * stats.norm.sf(abs(difference) / deviation))
    assert mean.intervals[0][0] < difference < mean.intervals[0][1]


def test_compare_two_models(make_model, tokenizer, small_folder, tmp_path, monkeypatch, capsys):
    from adaptclip_hf import AdaptCLIPProcessor

    monkeypatch.setattr(compare, "__defaults__", (100,))  # resamples
    data = write_dataset(tmp_path / "data", 2, size=60, train=3, good=6, bad=6)
    other = make_model(seed=3)
    other.save_pretrained(tmp_path / "other")
    AdaptCLIPProcessor.for_model(other.config, tokenizer).save_pretrained(tmp_path / "other")
    for name, model in (("a", small_folder), ("b", tmp_path / "other")):
        words = ["evaluate", "--model", str(model), "--data", str(data), "--shots", "0", "1", "--seeds", "10", "20"]
        assert main([*words, "--output", str(tmp_path / name), "--quiet"]) == 0
    call = ["compare", *(str(tmp_path / name) for name in "aba")]
    assert main([*call, "--names", "one", "two", "again", "--output", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert said.startswith("# one, two, again") and (tmp_path / "out" / "compare.png").stat().st_size > 5000
    lines = list(csv.DictReader((tmp_path / "out" / "compare.csv").open()))
    results = [json.loads((tmp_path / name / "results.json").read_text())["summary"] for name in "ab"]
    for line in lines:
        if line["run"] == "again" and line["metric"] == "image_auroc":
            assert (float(line["low"]), float(line["high"]), float(line["p_value"])) == (0, 0, 1)
    [mean] = [
        line
        for line in lines
        if (line["run"], line["category"], line["shots"], line["metric"]) == ("two", "", "1", "image_auroc")
    ]
    ours = [
        next(
            each["mean"]
            for each in summary
            if (each["category"], each["shots"], each["metric"]) == (None, 1, "image_auroc")
        )
        for summary in results
    ]
    assert float(mean["value"]) == pytest.approx(ours[1])
    assert float(mean["low"]) <= ours[1] - ours[0] <= float(mean["high"])
    assert main(["compare", str(tmp_path / "a")]) == 1
    assert "at least two" in capsys.readouterr().err
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "data")]) == 1
    assert "No evaluation in" in capsys.readouterr().err
    text = (tmp_path / "b" / "scores.csv").read_text().splitlines()
    (tmp_path / "b" / "scores.csv").write_text("\n".join([text[0], *text[3:]]))
    with pytest.raises(ValueError, match="scored other images"):
        compare([read_run(tmp_path / name) for name in "ab"])
