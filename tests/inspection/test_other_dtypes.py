from argparse import Namespace
from dataclasses import replace

import pytest
import torch

from adaptclip_hf import AnomalyDetector, InspectionProfile
from adaptclip_hf.cli import main
from adaptclip_hf.cli.dtype_choice import chosen_dtype
from adaptclip_hf.inspection.moved_scores import Moved


@pytest.fixture(scope="module")
def in_bfloat16(small_folder) -> AnomalyDetector:
    return AnomalyDetector.from_pretrained(small_folder, device="cpu", dtype="bfloat16")


@pytest.fixture(scope="module")
def made(in_bfloat16, good) -> InspectionProfile:
    """A profile in bfloat16."""
    return InspectionProfile.fit(in_bfloat16, good[:20], verdict=False)


def call(dtype: str | None = "auto") -> Namespace:
    return Namespace(dtype=dtype)


def gains(monkeypatch, gain: float):
    rates = {"float32": 1.0, "bfloat16": gain}
    monkeypatch.setattr("adaptclip_hf.product_rates.kept_rates", lambda folder: rates)
    monkeypatch.setattr("adaptclip_hf.product_rates.has_fused_products", lambda: gain > 0)


def test_a_fit_measures_how_far_scores_move_in_float32(made):
    moved = made.moved["float32"]
    assert list(made.moved) == ["float32"] and moved.photos == 8
    assert 0 < moved.largest < 0.05


def test_scores_are_compared_with_those_that_set_the_thresholds(in_bfloat16, good, monkeypatch):
    seen = []

    def kept(profile, tile, scored):
        seen.append(scored.score)
        return scored.score

    monkeypatch.setattr("adaptclip_hf.inspection.other_dtypes.deciding_score", kept)
    profile = InspectionProfile.fit(in_bfloat16, good[:20], verdict=False)
    assert len(seen) == 16 and set(seen[::2]) <= {photo.score for photo in profile.features.photos}


def test_from_float32_bfloat16_is_looked_at_where_it_is_fast(detector, good, monkeypatch):
    assert InspectionProfile.fit(detector, good[:20], verdict=False).moved == {}
    gains(monkeypatch, 2.0)
    profile = InspectionProfile.fit(detector, good[:20], verdict=False)
    assert profile.moved["bfloat16"].largest > 0


def test_the_profile_is_used_where_scores_hardly_move(made, detector, good, tmp_path):
    small = replace(made, moved={"float32": Moved(8, 1e-9, 0.0, 0)})
    opened = InspectionProfile.from_pretrained(small.save_pretrained(tmp_path / "profile"))
    assert opened.moved == small.moved
    [result] = detector.detect(good[25], profile=opened)
    assert result.label is not None


@pytest.mark.parametrize(
    ("moved", "why"),
    [
        ({}, "was not measured"),
        ({"float32": Moved(8, 0.5, 0.2, 3)}, "on 8 of its photos .* up to 0.5 then, and by 0.2 on average"),
    ],
)
def test_otherwise_it_is_refused_with_the_option(made, detector, good, moved, why):
    with pytest.raises(
        ValueError, match=rf"made by the model in bfloat16 .* float32: .*{why}.* Say --dtype bfloat16 \(dtype='bf"
    ):
        detector.detect(good[25], profile=replace(made, moved=moved))


def test_an_update_keeps_the_dtype(made, detector, good):
    with pytest.raises(ValueError, match=r"must be alike\. Say --dtype bfloat16"):
        replace(made, moved={"float32": Moved(8, 0.0, 0.0, 0)}).update(detector, good[20:22])


def test_another_model_is_refused_as_before(made, make_model, tokenizer, tmp_path):
    from adaptclip_hf import AdaptCLIPProcessor

    make_model(seed=1).save_pretrained(tmp_path)
    AdaptCLIPProcessor.for_model(make_model().config, tokenizer).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"by the model in bfloat16 .*, and this is the model in float32: their we"):
        made.require_match(AnomalyDetector.from_pretrained(tmp_path, device="cpu"))


def test_auto_takes_what_the_machine_multiplies_clearly_faster(monkeypatch):
    for gain, expected in ((0.0, None), (1.3, None), (2.5, "bfloat16")):
        gains(monkeypatch, gain)
        dtype, why = chosen_dtype(call(), "cpu", None, None)
        assert dtype == expected
    assert why == "which this machine multiplies 2.5 times as fast as float32 (--dtype)"
    assert chosen_dtype(call("float32"), "cpu", None, None) == ("float32", None)
    assert chosen_dtype(call(None), "cpu", None, None) == (None, None)  # of commands that measure


def test_auto_takes_the_dtype_of_the_profile_or_of_the_run(made, monkeypatch):
    def chosen(profile, dtype: str | None = "auto", earlier: str | None = None) -> str | None:
        return chosen_dtype(call(dtype), "cpu", profile, earlier)[0]

    older = replace(made, made_by=made.made_by | {"dtype": "float32"}, moved={})
    for gain in (0.0, 3.0):
        gains(monkeypatch, gain)
        assert chosen(older) == chosen(older, None) == "float32"
        assert chosen(replace(made, moved={})) == chosen(made, earlier="bfloat16") == "bfloat16"
    assert chosen(made) == "bfloat16"
    gains(monkeypatch, 0.5)  # slow: float32, where that is as good
    assert chosen(replace(made, moved={"float32": Moved(8, 0.0, 0.0, 0)})) == "float32"
    assert chosen(replace(made, moved={"float32": Moved(8, 0.5, 0.2, 0)})) == "bfloat16"


def test_what_was_chosen_is_told_once_and_not_to_who_is_quiet(small_folder, good, tmp_path, monkeypatch, capsys):
    gains(monkeypatch, 2.5)
    words = ["detect", good[25], "--model", str(small_folder), "--device", "cpu", "--no-heatmaps", "--overwrite"]
    for more, expected in (
        ([], "computing in bfloat16, which this machine multiplies 2.5 times as fast as float32 (--dtype)"),
        (["--quiet"], ""),
        (["--dtype", "bfloat16"], ""),
    ):
        assert main([*words, "--output", str(tmp_path / "out"), *more]) == 0
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("computing")]
        assert lines == ([expected] if expected else [])


def test_the_commands_of_a_day(small_folder, good, tmp_path, monkeypatch):
    """A profile in bfloat16, runs by it, and a run in float32 that goes on though bfloat16 is faster now."""
    from adaptclip_hf.runs.rows import read_row

    def rows(folder):
        return [read_row(line) for line in (tmp_path / folder / "results.jsonl").read_text().splitlines()]

    def run(*words):
        return main([*map(str, words), "--model", str(small_folder), "--device", "cpu", "--quiet"])

    alone = ("detect", good[25], "--no-heatmaps", "--output", tmp_path / "alone")
    assert run(*alone) == 0
    gains(monkeypatch, 2.5)
    assert run("fit", "--no-verdict", "--normal", *good[:20], "--output", tmp_path / "profile") == 0
    by_it = ("--no-heatmaps", "--profile", tmp_path / "profile", "--output", tmp_path / "out")
    assert run("detect", good[25], *by_it) == 0
    gains(monkeypatch, 0.0)
    assert run("detect", good[26], *by_it) == 0
    assert {row["dtype"] for row in rows("out")} == {"bfloat16"} and len(rows("out")) == 2
    gains(monkeypatch, 2.5)
    assert run("detect", good[26], *alone[1:]) == 0
    assert {row["dtype"] for row in rows("alone")} == {"float32"} and len(rows("alone")) == 2
    assert run("detect", good[26], *alone[2:], "--overwrite") == 0
    assert [row["dtype"] for row in rows("alone")] == ["bfloat16"]


def test_exports_have_their_precision(in_bfloat16, detector):
    assert (in_bfloat16.dtype, detector.dtype) == ("bfloat16", "float32")
    assert in_bfloat16.in_another_dtype().model.dtype == torch.float32
    assert detector.in_another_dtype() is None
