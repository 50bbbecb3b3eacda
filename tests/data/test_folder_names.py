"""Folders as people name them: what is good and what is bad, and what is left out is said."""

import json
import os
from pathlib import Path

import datasets
import pytest
from layouts import make_good_and_bad, make_meta_json, make_mvtec, make_real_iad, make_visa, mask, picture

from adaptclip_hf.cli import main
from adaptclip_hf.data import load_data_set
from adaptclip_hf.data.words import BAD, GOOD, is_of_masks, label_of_name

NAMES = {
    0: "good OK ok_front Non-Defective nonDefective no_defect defect-free Good_Parts good1 i.O. gut train_good 良品",
    1: "bad NG def_front n.i.O. nOK NOK_2 not_ok Defects REJECT reject_2 broken_large fail Ungood anomaly",
    None: "missing_ok ok_missing front_ok good_bad day1 covid-19 no yes 01 2024-05-01 bad_masks normal_maps",
}


@pytest.mark.parametrize("label", NAMES)
def test_what_a_name_means(label):
    for name in NAMES[label].split():
        assert label_of_name(name.replace("_", " ")) == label_of_name(name) == label, name


def test_no_word_means_both():
    assert not set(GOOD) & set(BAD) and not any(map(is_of_masks, (*GOOD, *BAD)))


def listed(root: Path, reported: list | None = None) -> set[tuple]:
    """(path below the folder, split, label) of each row."""
    rows = load_data_set(root, [].append if reported is None else reported.append)
    paths = [each["path"] for each in rows.with_format("arrow")["image"].to_pylist()]
    below = [Path(path).relative_to(root).as_posix() for path in paths]
    return set(zip(below, rows["split"], rows["label"], strict=True))


@pytest.mark.parametrize(
    ("good", "bad"), [("normal", "defect"), ("ok_front", "def_front"), ("OK", "NG"), ("Good Parts", "Bad Parts")]
)
def test_train_and_test_in_other_words(good, bad, tmp_path):
    """Casting data as it is published, and the folders of classifiers: train holds defects, too."""
    for split, kind in ((split, kind) for split in ("train", "test") for kind in (good, bad)):
        for index in range(2):
            picture(tmp_path / "cast" / split / kind / f"{index}.jpeg")
    reported = []
    assert listed(tmp_path / "cast", reported) == {
        *((f"train/{good}/{index}.jpeg", "train", 0) for index in range(2)),
        *((f"test/{good}/{index}.jpeg", "test", 0) for index in range(2)),
        *((f"test/{bad}/{index}.jpeg", "test", 1) for index in range(2)),
    }
    [line] = reported
    assert f"train/{bad}: 2 images are left out, since train holds the good images" in line


def test_folders_in_folders_and_beside_them(tmp_path):
    root = tmp_path / "parts"
    for name in (
        "good/day1/0",
        "good/day2/0",
        "good/1",
        "bad/0",
        "bad/late/0",
        "reject/1",
        "Scratch/0",
        "good/masks/0",
    ):
        picture(root / f"{name}.png")
    picture(root / "loose.png")
    picture(root / "good" / "rejected" / "0.png")
    picture(root / "good" / "@eaDir" / "0.png" / "SYNOPHOTO_THUMB_M.jpg")
    (root / "bad" / "0.heic").write_bytes(b"x")
    mask(root / "masks" / "bad" / "0.png")
    mask(root / "masks" / "bad" / "late" / "0.png")
    mask(root / "masks" / "reject" / "1.png")
    reported = []
    rows = listed(root, reported)
    assert {path for path, _, label in rows if not label} == {"good/day1/0.png", "good/day2/0.png", "good/1.png"}
    assert {path for path, _, label in rows if label} == {"bad/0.png", "bad/late/0.png", "reject/1.png"}
    assert all(each["mask"] for each in load_data_set(root, [].append) if each["label"])
    text = "\n".join(reported)
    for expected in (
        f"{root}: 1 images are left out, since no name says whether they are good or bad",
        "Scratch: 1 images are left out",
        "good/masks: 1 images are left out, since they lie in a folder of masks",
        "good/rejected: 1 images are left out, since the names of their folders mean good and bad at once",
        "passed over, photos in a format that is not read",
        "passed over, thumbnails or waste that a store or a system keeps",
    ):
        assert expected in text, expected
    assert len(reported) == 6 and main(["data", str(root)]) == 1


def test_nested_folders_of_a_published_layout(tmp_path):
    """AeBAD sorts by light within each folder; a category may be a link."""
    blade = tmp_path / "elsewhere"
    for name in ("train/good/view/0", "train/good/background/0", "test/good/same/0", "test/ablation/same/0"):
        picture(blade / f"{name}.png")
    picture(blade / "train" / "odd" / "0.png")
    mask(blade / "ground_truth" / "ablation" / "same" / "0.png")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "blade").symlink_to(blade)
    (tmp_path / "set" / "loop").symlink_to("loop")
    (tmp_path / "set" / "more").symlink_to(tmp_path / "set")
    reported = []
    rows = load_data_set(tmp_path / "set", reported.append)
    assert sorted(zip(rows["split"], rows["defect"], strict=True)) == [
        *[("test", "ablation"), ("test", "good")],
        *[("train", "good")] * 2,
    ]
    assert [row["mask"] is not None for row in rows if row["label"]] == [True]
    text = "\n".join(reported)
    assert "blade/train/odd: 1 images are left out" in text and "loop" in text and "set/more" in text
    assert len(reported) == 3


def test_masks_that_two_folders_share(tmp_path):
    for name in ("good/0", "bad/0", "bad/1", "reject/0", "reject/2"):
        picture(tmp_path / f"{name}.png")
    for name in ("0", "1", "2", "3"):
        mask(tmp_path / "masks" / f"{name}_mask.png")
    reported = []
    rows = load_data_set(tmp_path, reported.append)
    masked = {Path(row["image"].filename).stem for row in rows if row["mask"] is not None}
    text = "\n".join(reported)
    assert masked == {"1", "2"} and "3_mask.png: a mask without an image" in text
    assert "0_mask.png: left out, 2 images of" in text and text.count("an anomalous image without a mask") == 2


def test_the_same_bytes_with_two_meanings_are_told(tmp_path, capsys):
    make_mvtec(tmp_path / "data")
    bottle = tmp_path / "data" / "bottle"
    for first, second in (("train/good/000.png", "test/good/9.png"), ("test/good/000.png", "test/broken/9.png")):
        (bottle / second).write_bytes((bottle / first).read_bytes())
    # of the same size, and the same at both ends: another picture nevertheless
    content = bytearray(200_000)
    (bottle / "test" / "good" / "a.bmp").write_bytes(content)
    content[50_000] = 1
    (bottle / "test" / "broken" / "a.bmp").write_bytes(content)
    reported = []
    load_data_set(tmp_path / "data", reported.append)
    told = [line for line in reported if "same bytes" in line]
    assert len(told) == 2
    assert "000.png (train, good) and" in told[0] and "9.png (test, good) hold the same bytes" in told[0]
    assert "9.png (test, anomalous)" in told[1] and "000.png (test, good)" in told[1]
    assert main(["data", str(tmp_path / "data")]) == 1 and "hold the same bytes" in capsys.readouterr().out


def test_the_same_bytes_in_a_data_set_of_the_hub_are_told(tmp_path):
    make_mvtec(tmp_path / "data")
    bottle = tmp_path / "data" / "bottle"
    (bottle / "test" / "good" / "9.png").write_bytes((bottle / "train" / "good" / "000.png").read_bytes())
    dataset = load_data_set(tmp_path / "data" / "bottle", [].append)
    for split in ("train", "test"):
        part = dataset.filter(lambda row, split=split: row["split"] == split)
        (tmp_path / "hub").mkdir(exist_ok=True)
        part.to_parquet(tmp_path / "hub" / f"{split}.parquet")
    reported = []
    load_data_set(f"hub:{tmp_path / 'hub'}", reported.append)
    [line] = reported
    assert "000.png (train, good) and" in line and "9.png (test, good) hold the same bytes" in line


def test_labels_of_the_hub_in_other_words(tmp_path):
    for name in ("ok_front", "def_front"):
        picture(tmp_path / "hub" / "train" / name / f"{name}.png")
    rows = load_data_set(f"hub:{tmp_path / 'hub'}", [].append)
    assert {Path(row["image"].filename).stem: row["label"] for row in rows} == {"ok_front": 0, "def_front": 1}
    for value in (-1, 0.5, float("nan")):
        folder = tmp_path / f"labels {value}"
        folder.mkdir()
        datasets.Dataset.from_dict({"image": ["0.png"], "label": [value]}).to_parquet(folder / "train.parquet")
        with pytest.raises(ValueError, match=f"row 0: the label {value} is not known"):
            load_data_set(f"hub:{folder}")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "train.parquet").write_bytes(b"PAR1" + b"\0" * 100)
    with pytest.raises((ValueError, OSError), match="damaged"):
        load_data_set(f"hub:{tmp_path / 'damaged'}")


GOOD_ROW = {"img_path": "pen/a.png", "mask_path": "", "cls_name": "pen", "specie_name": "good", "anomaly": 0}
METAS = {
    "flat list": ([GOOD_ROW], "expected an object"),
    "text": ("pen", "expected an object"),
    "split a list": ({"test": [GOOD_ROW]}, "expected an object as test"),
    "category an object": ({"test": {"pen": {"0": GOOD_ROW}}}, r"test: expected a list as pen"),
    "entry a text": ({"test": {"pen": ["pen/a.png"]}}, "test, pen, entry 0: expected img_path"),
    "path a number": ({"test": {"pen": [GOOD_ROW | {"img_path": 3}]}}, "entry 0: expected a text as img_path, got '3'"),
    "mask a list": ({"test": {"pen": [GOOD_ROW | {"mask_path": []}]}}, "expected a text as mask_path"),
    "kind a number": ({"test": {"pen": [GOOD_ROW | {"specie_name": 1}]}}, "expected a text as specie_name"),
    "anomaly a text": ({"test": {"pen": [GOOD_ROW | {"anomaly": "0"}]}}, "expected an anomaly of 0 or 1, got 0"),
    "anomaly 2": ({"test": {"pen": [GOOD_ROW | {"anomaly": 2}]}}, "expected an anomaly of 0 or 1, got 2"),
    "absolute": ({"test": {"pen": [GOOD_ROW | {"img_path": "/etc/x.png"}]}}, "img_path: '/etc/x.png' leads out of"),
    "above": ({"test": {"pen": [GOOD_ROW | {"img_path": "../x.png"}]}}, "img_path: '../x.png' leads out of"),
    "mask above": ({"test": {"pen": [GOOD_ROW | {"anomaly": 1, "mask_path": "a/../../x"}]}}, "mask_path: 'a/../../x'"),
    "NUL": ({"test": {"pen": [GOOD_ROW | {"img_path": "a\0.png"}]}}, "leads out of"),
    "NaN": ('{"test": {"pen": [{"img_path": "pen/a.png", "anomaly": NaN}]}}', "is not JSON: .*NaN is no number"),
    "deep": ("[" * 100_000, "is not JSON: it is nested too deep"),
    "latin-1": ('{"test": {"prü": []}}'.encode("latin-1"), "is not JSON"),
}


@pytest.mark.parametrize("case", METAS)
def test_a_meta_json_that_is_refused(case, tmp_path, capsys):
    make_meta_json(tmp_path)
    content, message = METAS[case]
    content = content if isinstance(content, str | bytes) and case != "text" else json.dumps(content)
    (tmp_path / "meta.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message) as error:
        load_data_set(tmp_path)
    assert str(error.value).startswith(str(tmp_path / "meta.json")) and len(str(error.value).splitlines()) == 1
    assert main(["data", str(tmp_path)]) == 1 and "meta.json" in capsys.readouterr().err


def test_other_lists_that_are_refused(tmp_path):
    def refused(make, name: str, change, message: str):
        root = tmp_path / name
        if not root.exists():
            make(root)
        [file] = root.rglob(name)
        before = file.read_bytes()
        file.write_bytes(change(before))
        with pytest.raises(ValueError, match=message) as error:
            load_data_set(root)
        assert str(file) in str(error.value) and len(str(error.value).splitlines()) == 1
        file.write_bytes(before)

    for change, message in (
        (lambda text: text.replace(b"candle,test", b"candle,tset"), "line 3: expected the split train or test"),
        (lambda text: text.replace(b"candle/Data/Images/Anomaly", b"../.."), r"line 4, image: '\.\./\.\./000"),
        (lambda text: text + b"pr\xfcf,test,normal,a.png,\r\n", "line 5: it is not in UTF-8"),
        (lambda text: text + b"candle\r\n", "line 5: expected the split train or test, got ''"),
    ):
        refused(make_visa, "1cls.csv", change, message)
    for change, message in (
        (
            lambda text: text.replace(b'"OK/S0001', b'"/OK/S0001', 1),
            "train, entry 0, image_path: .* leads out of|lists",
        ),
        (
            lambda text: text.replace(b'"anomaly_class": "OK"', b'"anomaly_class": 7', 1),
            "expected a text as anomaly_class",
        ),
        (lambda text: text.replace(b'"train": [', b'"train": [3, '), "entry 0: expected a text as image_path"),
        (lambda text: b'{"meta": {"normal_class": "OK", "prefix": "a"}, "train": [], "test": []}', "it lists no image"),
        (lambda text: b'[{"normal_class": "OK"}]', "expected an object"),
    ):
        refused(make_real_iad, "audiojack.json", change, message)


def test_lists_with_a_byte_order_mark(tmp_path):
    for make, name in ((make_visa, "1cls.csv"), (make_meta_json, "meta.json")):
        make(tmp_path / name)
        [file] = (tmp_path / name).rglob(name)
        before = len(load_data_set(tmp_path / name, [].append))
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
        assert len(load_data_set(tmp_path / name, [].append)) == before


@pytest.mark.parametrize(
    "line",
    [
        '["a"]',
        '{"source-ref": NaN}',
        "[" * 100_000,
        '{"source-ref": 3, "a": 0, "a-metadata": {"class-name": "normal"}}',
    ],
)
def test_lookout_manifests_that_are_refused(line, tmp_path):
    (tmp_path / "a.manifest").write_text(f"\n{line}\n")
    with pytest.raises(ValueError, match=r"a\.manifest, line 2 is not a line of a Lookout"):
        load_data_set(tmp_path)
    (tmp_path / "a.manifest").write_bytes(b"\n\n\xff\xfe\n")
    with pytest.raises(ValueError, match=r"a\.manifest, line 3: it is not in UTF-8"):
        load_data_set(tmp_path)


def test_a_folder_that_cannot_be_listed_ends_nothing(tmp_path, monkeypatch):
    from adaptclip_hf import image_files

    make_good_and_bad(tmp_path)
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "locked").mkdir()
    scandir = os.scandir

    def refuse(folder):
        if str(folder).endswith(("lost+found", "locked")):
            raise PermissionError(13, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr(image_files.os, "scandir", refuse)
    reported = []
    assert len(load_data_set(tmp_path, reported.append)) == 5
    assert len(reported) == 2 and "lost+found" in "".join(reported)
    assert any("locked" in line and "Permission denied" in line for line in reported)
