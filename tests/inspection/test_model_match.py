"""What a person reads where a profile meets another model than the one that made it."""

from dataclasses import replace

import pytest

from adaptclip_hf import AnomalyDetector, InspectionProfile
from adaptclip_hf.cli import main
from adaptclip_hf.export import export_model
from adaptclip_hf.inspection.moved_scores import Moved
from adaptclip_hf.inspection.photos import made_by
from adaptclip_hf.serving.products import Products


class Lowered(AnomalyDetector):
    """Says of itself what an export in bfloat16 does."""

    is_export = True

    def describe(self, object_name=None) -> dict:
        about = super().describe(object_name)
        weights = f"bfloat16 of {about['weights']}"
        fingerprint = about["fingerprint"] | {"weights": f"bfloat16 of {about['fingerprint']['weights']}"}
        return about | {"dtype": "bfloat16", "weights": weights, "fingerprint": fingerprint}


@pytest.fixture(scope="module")
def made(detector, good) -> InspectionProfile:
    return InspectionProfile.fit(detector, good[:20], verdict=False, model="small/")


@pytest.fixture(scope="module")
def lowered(detector) -> Lowered:
    return Lowered(detector.model, detector.processor)


def refusal(profile: InspectionProfile, detector: AnomalyDetector) -> str:
    with pytest.raises(ValueError) as told:
        profile.require_match(detector)
    return str(told.value)


def test_an_export_in_a_lower_precision_wants_a_profile_of_its_own(made, lowered):
    said = refusal(made, lowered)
    assert said.startswith("This profile was made by the model in float32 (small/), and this is an export in bfloat16:")
    assert "`adaptclip fit --normal PHOTOS --model " in said and "(--model small/ --dtype float32; in" in said


def test_and_its_profile_is_not_for_the_model_nor_for_another_calibration(made, detector, lowered):
    theirs = replace(made, made_by=made_by(lowered, None), model="export/")
    theirs.require_match(lowered)
    said = refusal(theirs, detector)
    assert "made by an export in bfloat16 (export/), and this is the model in float32: their weights" in said
    assert "(--model export/; in" in said
    calibrated = replace(theirs, made_by=theirs.made_by | {"weights": "int8 onnx 1234abcd of abc", "dtype": "int8"})
    other = Lowered(detector.model, detector.processor)
    other.describe = lambda name=None: calibrated.made_by | {"device": "cpu", "weights": "int8 onnx 5678abcd of abc"}
    said = refusal(calibrated, other)
    assert "by an export in int8 onnx 1234abcd (export/), and this is an export in int8 onnx 5678" in said


def test_a_profile_of_such_an_export_by_an_earlier_version_is_taken(made, lowered):
    theirs = replace(made, made_by=made_by(lowered, None))
    assert theirs.made_by["dtype"] == "bfloat16"
    replace(theirs, made_by=theirs.made_by | {"dtype": "float32"}).require_match(lowered)


def test_the_advice_is_one_that_its_reader_can_follow(made, detector, good, tmp_path, monkeypatch):
    in_bfloat16 = replace(made, made_by=made.made_by | {"dtype": "bfloat16"}, moved={})
    assert "Say --dtype bfloat16 (dtype='bfloat16' in Python), or fit" in refusal(in_bfloat16, detector)
    with pytest.raises(ValueError, match=r"not measured.* \(`adaptclip fit --normal PHOTOS --dtype float32`") as told:
        export_model(detector, tmp_path / "export", profile=in_bfloat16)
    assert "Say --dtype" not in str(told.value)
    folder = in_bfloat16.save_pretrained(tmp_path / "profile")
    for scorer in (detector, Lowered(detector.model, detector.processor)):
        with pytest.raises(
            ValueError, match=r"Product ring: .* fit this one with it, .* or start a second service"
        ) as told:
            Products(scorer, {"ring": str(folder)})
        assert "Say --dtype" not in str(told.value)
    monkeypatch.setattr(AnomalyDetector, "is_export", True)
    said = refusal(in_bfloat16, detector)
    assert "this is an export in float32: how far" in said and "Fit a profile with it (`adaptclip fit" in said
    assert "Say --dtype" not in said and "(--model small/ --dtype bfloat16; in" in said


def test_weights_that_another_dtype_rounds_do_not_hide_it(made, detector, lowered, small_folder, tmp_path):
    in_float16 = AnomalyDetector.from_pretrained(small_folder, device="cpu", dtype="float16")
    said = refusal(made, in_float16)
    assert "by the model in float32 (small/), and this is the model in float16" in said
    assert "(--model small/ --dtype float32; in" in said
    theirs = replace(made, made_by=made_by(in_float16, None))
    with pytest.raises(ValueError, match="Graphs compute in float32") as told:
        export_model(detector, tmp_path / "export", profile=theirs)
    assert "Say --dtype" not in str(told.value)
    assert "Fit a profile with it" in refusal(theirs, lowered)


def test_an_int8_profile_meets_the_model_itself(made, small_folder, good, tmp_path, capsys):
    """No model of torch computes in int8: the command loads the model as it is, and refuses in our words."""
    calibrated = made.made_by | {"weights": f"int8 onnx 1234abcd of {made.made_by['weights']}", "dtype": "int8"}
    folder = replace(made, made_by=calibrated, model="export/").save_pretrained(tmp_path / "profile")
    words = ["detect", good[0], "--profile", str(folder), "--model", str(small_folder)]
    assert main([*words, "--output", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "made by an export in int8 onnx 1234abcd (export/), and this is the model in float32" in said


def test_a_model_that_was_moved_is_asked_for(made, good, tmp_path, capsys):
    folder = replace(made, model=str(tmp_path / "gone")).save_pretrained(tmp_path / "profile")
    assert main(["detect", good[0], "--profile", str(folder), "--output", str(tmp_path / "out")]) == 1
    assert f"{tmp_path / 'gone'}, which is not there: say where it lies now (--model FOLDER)" in capsys.readouterr().err


def test_a_profile_tells_where_it_may_be_used(made, lowered):
    assert made.describe().endswith("made by the model in float32; it decides in that dtype alone")
    theirs = replace(made, made_by=made_by(lowered, None))
    assert theirs.describe().endswith("made by an export in bfloat16; it decides with that export alone")
    moved = {"bfloat16": Moved(8, 1e-9, 0.0, 1), "float16": Moved(8, 0.5, 0.2, 3)}
    told = replace(made, moved=moved).describe()
    assert "it may be used in bfloat16, where scores of 8 of its photos move by up to 1e-09 and 1 label changes" in told
    assert "it is refused in float16, where scores of 8 of its photos move by up to 0.5 and 3 labels change" in told
