"""Data sets in miniature, each in the layout in which its authors publish it."""

from pathlib import Path

import datasets
import numpy as np
import pytest
from layouts import (
    lookout_line,
    make_autovi,
    make_br35h,
    make_btad,
    make_covid,
    make_covid_update,
    make_cvc,
    make_good_and_bad,
    make_ksdd,
    make_kvasir,
    make_loco,
    make_lookout,
    make_meta_json,
    make_mvtec,
    make_mvtec_2,
    make_mvtec_3d,
    make_real_iad,
    make_visa,
    mask,
    picture,
)
from PIL import Image

from adaptclip_hf.cli import main
from adaptclip_hf.data import LAYOUTS, Row, build_dataset, load_data_set
from adaptclip_hf.data.checking import drop_unreadable
from adaptclip_hf.data.specs import resolve_spec
from adaptclip_hf.data.summary import describe

# layout -> what makes it, categories, and (train good, test good, anomalous, with a mask)
PUBLISHED = {
    "mvtec": (make_mvtec, ["bottle", "cable"], (4, 2, 2, 2)),
    "btad": (make_btad, ["01", "02"], (4, 2, 2, 2)),
    "mvtec-3d": (make_mvtec_3d, ["bagel"], (1, 1, 1, 1)),
    "mvtec-ad-2": (make_mvtec_2, ["can"], (1, 1, 1, 1)),
    "mvtec-loco": (make_loco, ["juice_bottle"], (1, 1, 2, 2)),
    "lookout": (make_lookout, ["data"], (2, 1, 1, 1)),
    "visa": (make_visa, ["candle"], (1, 1, 1, 1)),
    "real-iad": (make_real_iad, ["audiojack"], (5, 9, 1, 1)),
    "ksdd": (make_ksdd, ["kolektor_sdd"], (3, 1, 1, 1)),
    "br35h": (make_br35h, ["brain"], (0, 1, 1, 0)),
    "covid": (make_covid, ["chest"], (0, 1, 1, 0)),
    "kvasir": (make_kvasir, ["data"], (0, 0, 1, 1)),
    "meta": (make_meta_json, ["pen"], (1, 1, 1, 1)),
    "folder": (make_good_and_bad, ["data"], (2, 2, 1, 1)),
}


@pytest.mark.parametrize("named", [True, False], ids=["named", "recognised"])
@pytest.mark.parametrize("layout", PUBLISHED)
def test_published_layouts(layout, named, tmp_path):
    make, categories, expected = PUBLISHED[layout]
    make(tmp_path / "data")
    reported = []
    dataset = load_data_set(f"{layout}:{tmp_path / 'data'}" if named else tmp_path / "data", reported.append)
    counts = [0, 0, 0, 0]
    for row in dataset:
        counts[0 if row["split"] == "train" else 1 + row["label"]] += 1
        counts[3] += row["mask"] is not None
        assert row["image"].size == (20, 16)
        assert (row["defect"] == "good") == (row["label"] == 0)
        assert row["mask"] is None or (row["label"] == 1 and np.asarray(row["mask"]).max() > 0)
    assert tuple(counts) == expected
    assert dataset.unique("category") == categories
    assert len(reported) == (0 if counts[0] else 1), reported  # no normal image to compare with is said


def test_every_layout_is_tried():
    relatives = {"mpdd", "autovi", "dtd-synthetic", "real-iad-variety", "endo"}  # the same layout as another's
    assert set(LAYOUTS) == set(PUBLISHED) | relatives


def test_relatives_of_published_layouts(tmp_path):
    make_cvc(tmp_path / "cvc")
    [row] = load_data_set(f"endo:{tmp_path / 'cvc'}", lambda line: None)
    assert row["label"] == 1 and row["mask"] is not None
    make_covid_update(tmp_path / "covid")
    rows = load_data_set(f"covid:{tmp_path / 'covid'}", lambda line: None)
    assert rows["label"][:] == [0, 1] and all(row["mask"] is None for row in rows)


def test_the_masks_of_an_image_are_one(tmp_path):
    make_autovi(tmp_path / "data")
    assert resolve_spec(tmp_path / "data")[0] == "mvtec-loco"
    rows = {row["defect"]: row for row in load_data_set(f"autovi:{tmp_path / 'data'}")}
    first, second = (np.asarray(rows[name]["mask"]) > 0 for name in ("blue_hoop", "fastening"))
    assert first.sum() == 9 + 8 and first[11, 13] and second.sum() == 9


def test_the_colours_of_a_lookout_mask(tmp_path):
    make_lookout(tmp_path / "data")
    [row] = [row for row in load_data_set(tmp_path / "data") if row["label"]]
    found = np.asarray(row["mask"]) > 0
    assert found.sum() == 3 * 7 + 1 and found[8, 8] and not found[0, 0] and row["defect"] == "scratch"


def test_lookout_manifests_of_two_parts_and_what_does_not_lie_here(tmp_path):
    make_lookout(tmp_path)
    (tmp_path / "output.manifest").rename(tmp_path / "train.manifest")
    lines = [lookout_line("gone", False), lookout_line("../../secret", False), lookout_line("2", False)]
    (tmp_path / "test.manifest").write_text("\n".join([*lines, lookout_line("0", True), ""]))
    Image.new("RGB", (20, 16), "white").save(tmp_path / "masks" / "0.png")
    reported = []
    dataset = load_data_set(tmp_path, reported.append)
    assert sorted(zip(dataset["split"], dataset["label"], strict=True)) == [
        ("test", 0),
        *[("test", 1)] * 2,
        *[("train", 0)] * 3,
    ]
    assert "line 1" in reported[0] and "secret" in reported[1] and "colours" in reported[2]
    assert len(reported) == 5 and all("hold the same bytes" in line for line in reported[3:])  # two are there twice
    (tmp_path / "test.manifest").write_text('{"source-ref": "s3://a/b.png"}\n')
    with pytest.raises(ValueError, match=r"test\.manifest, line 1 is not a line of a Lookout"):
        load_data_set(tmp_path)


def test_a_folder_around_the_data_set_says_which_one_to_name(tmp_path):
    make_btad(tmp_path / "btad" / "BTech_Dataset_transformed")
    with pytest.raises(ValueError, match=r"its subfolder BTech_Dataset_transformed looks like (btad|mvtec): name that"):
        load_data_set(tmp_path / "btad")
    with pytest.raises(ValueError, match="BTech_Dataset_transformed looks like btad"):
        load_data_set(f"btad:{tmp_path / 'btad'}")


@pytest.mark.parametrize("make", [make_mvtec_2, make_loco])
def test_a_layout_is_not_taken_for_its_relative(make, tmp_path):
    make(tmp_path)
    if make is make_mvtec_2:
        with pytest.raises(ValueError, match="does not look like mvtec"):
            load_data_set(f"mvtec:{tmp_path}")
    with pytest.raises(ValueError, match="does not look like visa"):
        load_data_set(f"visa:{tmp_path}")


def test_one_category_of_a_data_set(tmp_path):
    make_mvtec(tmp_path)
    assert load_data_set(tmp_path / "cable").unique("category") == ["cable"]


def test_views_and_samples_of_real_iad(tmp_path):
    make_real_iad(tmp_path)
    dataset = load_data_set(tmp_path)
    assert sorted(dataset.unique("view")) == ["C1", "C2", "C3", "C4", "C5"]
    samples = dataset.unique("sample_id")
    assert samples == ["audiojack/OK/S0001", "audiojack/OK/S0002", "audiojack/NG/AK/S0003"]
    last = dataset.filter(lambda row: row["sample_id"] == samples[-1])
    assert last["label"][:] == [0, 1, 0, 0, 0] and last["defect"][1] == "AK"


def test_hub_data_sets_with_the_same_columns(tmp_path):
    make_mvtec(tmp_path / "data")
    dataset = load_data_set(tmp_path / "data")
    (tmp_path / "hub" / "data").mkdir(parents=True)
    for split in ("train", "test"):
        part = dataset.filter(lambda row, split=split: row["split"] == split)
        part.to_parquet(tmp_path / "hub" / "data" / f"{split}-00000.parquet")
    again = load_data_set(f"hub:{tmp_path / 'hub'}")
    assert again.features == dataset.features
    assert sorted(again["category"]) == sorted(dataset["category"]) and sum(again["label"]) == 2
    assert drop_unreadable(again, print, progress=False).num_rows == len(dataset)

    bare = dataset.select_columns(["image", "label"]).filter(lambda row: row["label"] == 1)
    (tmp_path / "bare").mkdir()
    bare.to_parquet(tmp_path / "bare" / "test.parquet")
    row = load_data_set(f"hub:{tmp_path / 'bare'}", lambda line: None)[0]
    assert (row["category"], row["defect"], row["split"], row["mask"]) == ("bare", "anomaly", "test", None)

    bare.remove_columns("label").to_parquet(tmp_path / "bare" / "test.parquet")
    with pytest.raises(ValueError, match="lacks the column label"):
        load_data_set(f"hub:{tmp_path / 'bare'}")


def test_what_does_not_fit_is_named_and_the_rest_is_kept(tmp_path):
    make_mvtec(tmp_path)
    bottle = tmp_path / "bottle"
    mask(bottle / "ground_truth" / "broken" / "009_mask.png")
    picture(bottle / "test" / "broken" / "008.png")
    picture(bottle / "test" / "broken" / "007.png")
    mask(bottle / "ground_truth" / "broken" / "007_mask.png", size=(9, 9))
    (bottle / "test" / "good" / "broken.png").write_bytes(Path(bottle / "test/good/000.png").read_bytes()[:60])
    (bottle / "test" / "good" / "empty.png").write_bytes(b"")
    picture(tmp_path / "lone" / "train" / "good" / "0.png")
    (tmp_path / "hollow" / "train").mkdir(parents=True)
    reported = []
    dataset = load_data_set(tmp_path, reported.append)
    assert len(dataset) == 8 + 2 + 2 + 1
    readable = drop_unreadable(dataset, reported.append, progress=False)
    assert len(readable) == len(dataset) - 2
    text = "\n".join(reported)
    for expected in (
        "009_mask.png: a mask without an image",
        "008.png: an anomalous image without a mask",
        "007_mask.png: the mask has 9x9, its image 20x16",
        "good/broken.png: left out",
        "good/empty.png: left out",
        "category lone has no test image",
        "hollow: a category without an image",
    ):
        assert expected in text, expected
    assert len(reported) == 7


def test_a_list_with_missing_files_or_wrong_fields(tmp_path):
    make_visa(tmp_path / "visa")
    (tmp_path / "visa/candle/Data/Images/Normal/0001.JPG").unlink()
    reported = []
    assert len(load_data_set(tmp_path / "visa", reported.append)) == 2
    assert "0001.JPG: listed and not there" in reported[0]

    (tmp_path / "visa/split_csv/1cls.csv").write_text("object,image\n")
    with pytest.raises(ValueError, match=r"1cls.csv: expected the columns .*label"):
        load_data_set(tmp_path / "visa")

    make_meta_json(tmp_path / "meta")
    (tmp_path / "meta/meta.json").write_text('{"test": {"pen": [{"img_path": "pen/a.png"}]}}')
    with pytest.raises(ValueError, match="test, pen, entry 0: expected img_path"):
        load_data_set(tmp_path / "meta")
    (tmp_path / "meta/meta.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        load_data_set(tmp_path / "meta")


def test_wrong_specs(tmp_path):
    with pytest.raises(FileNotFoundError, match="No data folder at"):
        load_data_set("mvtec:/nowhere/at/all")
    with pytest.raises(ValueError, match="no layout 'mvtek'; there are visa"):
        load_data_set("mvtek:data")
    with pytest.raises(ValueError, match=r"is not known:\n  visa: split_csv"):
        load_data_set(tmp_path)
    make_visa(tmp_path / "visa")
    with pytest.raises(ValueError, match="does not look like mvtec: expected CATEGORY/train/good"):
        load_data_set(f"mvtec:{tmp_path / 'visa'}")


def test_many_rows_are_listed_without_being_opened():
    rows = (Row(f"/nowhere/{index}.png", index % 2, "part", "test", mask=None) for index in range(20_000))
    dataset = build_dataset(rows)
    assert len(dataset) == 20_000
    assert isinstance(dataset.features["image"], datasets.Image)


def test_the_command_lists_and_checks(tmp_path, capsys):
    make_mvtec(tmp_path)
    assert main(["data", f"mvtec:{tmp_path}", "--check"]) == 0
    assert "bottle" in (out := capsys.readouterr().out) and "2 in all" in out and "broken" in out
    (tmp_path / "bottle" / "test" / "good" / "x.png").write_bytes(b"no image")
    assert main(["data", str(tmp_path), "--check"]) == 1
    assert "x.png: left out" in capsys.readouterr().out
    assert main(["data", str(tmp_path / "nothing")]) == 1
    assert "No data folder" in capsys.readouterr().err


def test_the_projects_real_images(shared):
    names = ("mvtec_ad", "magnetic_tile", "neu_sd900", "aws_cookies", "ksdd_crops", "elpv", "aws_aliens", "crackforest")
    reported = []
    loaded = {name: load_data_set(shared / "data" / name, reported.append) for name in names}
    assert len(loaded["mvtec_ad"]) == 209 + 20 + 63
    assert sum(loaded["magnetic_tile"]["label"]) == 388
    assert len(reported) == 2  # steel and road have no normal image


@pytest.mark.parametrize("names", [["anomaly", "normal"], ["good", "bad"], ["OK", "NG"]])
def test_labels_of_the_hub_are_read_by_their_names(tmp_path, names):
    for name in names:
        (tmp_path / "parts" / "train" / name).mkdir(parents=True)
        Image.new("RGB", (20, 20)).save(tmp_path / "parts" / "train" / name / f"{name}.png")
    rows = load_data_set(f"hub:{tmp_path / 'parts'}")
    found = {Path(row["image"].filename).stem.lower(): row["label"] for row in rows}
    assert {each for each, label in found.items() if label} == {names[0 if "anomaly" in names else 1].lower()}


def test_labels_of_the_hub_that_are_not_known(tmp_path):
    for labels, message in (
        (["cat", "dog"], r"row 0: the label 'cat' is not known \(normal: good, ok, normal"),
        ([0, None], "row 1: the label None"),
        ([0, 2], "row 1: the label 2"),
    ):
        rows = datasets.Dataset.from_dict({"image": [str(tmp_path / "0.png")] * 2, "label": labels})
        folder = tmp_path / str(labels[1])
        folder.mkdir()
        rows.to_parquet(folder / "train.parquet")
        with pytest.raises(ValueError, match=message):
            load_data_set(f"hub:{folder}")


def test_good_and_bad_beside_images_and_masks_are_no_polyps(tmp_path):
    for name in ("good", "bad", "images", "masks"):
        (tmp_path / name).mkdir()
        Image.new("L", (20, 20), 255).save(tmp_path / name / "0.png")
    assert {row["defect"] for row in load_data_set(tmp_path)} == {"good", "bad"}


def test_a_long_list_of_defects_says_that_it_goes_on(tmp_path):
    kinds = [f"kind of defect number {index}" for index in range(6)]
    rows = [Row(f"{kind}.png", 1, "part", "test", kind) for kind in kinds]
    assert describe(build_dataset(rows)).splitlines()[1].endswith("number 0, kind of defect number 1, ...")
