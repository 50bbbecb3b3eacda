"""Which good photo an inspected one is most like."""

import json

import numpy as np
import pytest
from PIL import Image
from small_profiles import fit_small_profile

from adaptclip_hf import AdaptCLIPProcessor, AnomalyDetector, InspectionProfile, View
from adaptclip_hf.cli import main
from adaptclip_hf.synthetic import make_category, render_sample


@pytest.fixture(scope="module")
def folder(make_model, tokenizer, tmp_path_factory):
    """A model that knows how normal images differ, its profile of twelve photos, the fourth of them with a mark."""
    folder, category = tmp_path_factory.mktemp("nearest"), make_category(5, "metal ring")
    model = make_model(normal_variation=True, few_shot_adapters=False)
    model.save_pretrained(folder / "model")
    AdaptCLIPProcessor.for_model(model.config, tokenizer).save_pretrained(folder / "model")
    (folder / "good").mkdir()
    for index in range(12):
        Image.fromarray(render_sample(category, index, 60, defect=False)[0]).save(folder / "good" / f"{index:02}.png")
    marked = np.array(Image.open(folder / "good" / "03.png"))
    marked[20:30, 20:30] = (255, 0, 255)
    Image.fromarray(marked).save(folder / "marked.png")
    fit_small_profile(folder / "good", folder / "model", 0.1, folder / "profile")
    return folder


def test_the_nearest_good_photo_is_named_in_result_row_and_report(folder, capsys):
    call = ["detect", str(folder / "marked.png"), "--profile", str(folder / "profile"), "--output", str(folder / "out")]
    assert main([*call, "--quiet", "--format", "csv"]) == 0
    [row] = map(json.loads, (folder / "out" / "results.jsonl").read_text().splitlines())
    assert row["nearest"] == str(folder / "good" / "03.png")
    assert "good/03.png" in (folder / "out" / "results.csv").read_text()
    assert main(["report", str(folder / "out")]) == 0
    assert "most like this good part: " in (folder / "out" / "report.html").read_text()


def test_it_is_not_named_where_it_is_not_known(folder):
    detector = AnomalyDetector.from_pretrained(folder / "model")
    photo = str(folder / "marked.png")
    [result] = detector.detect(photo)
    assert result.nearest is None  # nothing to be like
    [result] = detector.detect(photo, prompt_bank=detector.remember([str(folder / "good" / "03.png")] * 2))
    assert result.nearest is None  # a bank keeps no names
    good = sorted(map(str, (folder / "good").iterdir()))
    tiled = InspectionProfile.fit(detector, good, 0.1, view=View(tile=40), verdict=False)
    [result] = detector.detect(photo, profile=tiled)
    assert result.nearest is None  # what is looked at in tiles is like one photo here and another there
