"""Data sets in miniature, each in the layout in which its authors publish it."""

import csv
import json
from pathlib import Path
from zlib import crc32

import numpy as np
from PIL import Image


def picture(path: Path, size=(20, 16), value: int = 90) -> str:
    """No two of other names hold the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size, (value, value, 60))
    image.paste(tuple(crc32("/".join(path.parts[-5:]).encode()).to_bytes(4)[:3]), (0, 0, 8, 8))
    image.save(path)
    return str(path)


def mask(path: Path, size=(20, 16), empty: bool = False) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros((size[1], size[0]), np.uint8)
    values[2:5, 2:5] = 0 if empty else 255
    Image.fromarray(values).save(path)
    return str(path)


def mvtec(root: Path, category="bottle", good="good", bad="broken", ending="_mask", suffix=".png"):
    for index in range(2):
        picture(root / category / "train" / good / f"{index:03d}{suffix}")
    picture(root / category / "test" / good / f"000{suffix}")
    picture(root / category / "test" / bad / f"000{suffix}")
    mask(root / category / "ground_truth" / bad / f"000{ending}.png")


def make_mvtec(root):
    mvtec(root, "bottle")
    mvtec(root, "cable")
    (root / "license.txt").write_text("none")


def make_btad(root):
    mvtec(root, "01", "ok", "ko", "", ".bmp")
    mvtec(root, "02", "ok", "ko", "", ".png")
    mask(root / "02" / "ground_truth" / "ok" / "000.png", empty=True)  # of a good one
    (root / "02" / "test" / "ko" / "Thumbs.db").write_bytes(b"thumbnails")
    truth = root / "01" / "ground_truth" / "ko" / "000.png"
    Image.open(truth).save(truth.with_suffix(".bmp"))  # masks of one category are PNG, of another BMP
    truth.unlink()


def make_mvtec_3d(root):
    for split, kind in (("train", "good"), ("validation", "good"), ("test", "good"), ("test", "hole")):
        folder = root / "bagel" / split / kind
        picture(folder / "rgb" / "000.png")
        mask(folder / "gt" / "000.png", empty=kind == "good")
        (folder / "xyz").mkdir()
        (folder / "xyz" / "000.tiff").write_bytes(b"points")


def make_mvtec_2(root):
    """Names as MVTec AD 2's readme has them: the lighting is part of an image's name."""
    can = root / "can"
    for split in ("train", "validation"):
        picture(can / split / "good" / "000_regular.png")
    picture(can / "test_public" / "good" / "000_shift_1.png")
    picture(can / "test_public" / "bad" / "001_overexposed.png")
    mask(can / "test_public" / "ground_truth" / "bad" / "001_overexposed_mask.png")
    picture(can / "test_private" / "000_regular.png")
    picture(can / "test_private_mixed" / "000_mixed.png")
    (root / "license.txt").write_text("none")


def make_loco(root, category="juice_bottle", kinds=("logical_anomalies", "structural_anomalies")):
    """A mask for each way in which an image is anomalous, its value being the kind of defect's."""
    folder = root / category
    for split in ("train", "validation", "test"):
        picture(folder / split / "good" / "000.png")
    for kind in kinds:
        picture(folder / "test" / kind / "000.png")
        mask(folder / "ground_truth" / kind / "000" / "000.png")
    second = np.zeros((16, 20), np.uint8)
    second[10:12, 10:14] = 237
    Image.fromarray(second).save(folder / "ground_truth" / kinds[0] / "000" / "001.png")
    defects = [{"defect_name": "missing_top_label", "pixel_value": 237, "saturation_threshold": 1.0}]
    (folder / "defects_config.json").write_text(json.dumps(defects))


def make_autovi(root):
    make_loco(root, "engine_wiring", ("blue_hoop", "fastening"))


def lookout_line(name: str, anomalous: bool, colour: str = "#2ca02c") -> str:
    """A line as the developer guide shows it; the labelling job's own names."""
    about = {"class-name": "anomaly" if anomalous else "normal", "human-annotated": "yes", "job-name": "labeling-job/c"}
    line = {
        "source-ref": f"s3://bucket/line/images/{name}.png",
        "my-job": int(anomalous),
        "my-job-metadata": about | {"type": "groundtruth/image-classification", "confidence": 1},
    }
    if anomalous:
        classes = [("BACKGROUND", "#ffffff"), ("scratch", colour), ("dent", "#1f77b4")]
        colours = {str(n): {"class-name": each, "hex-color": code} for n, (each, code) in enumerate(classes)}
        line["my-masks-ref"] = f"s3://bucket/line/masks/{name}.png"
        line["my-masks-ref-metadata"] = {"internal-color-map": colours, "type": "groundtruth/semantic-segmentation"}
    return json.dumps(line)


def make_lookout(root):
    for index in range(4):
        picture(root / "images" / f"{index}.png")
    coloured = np.full((16, 20, 3), 255, np.uint8)
    coloured[2:5, 2:9], coloured[8, 8] = (0x2C, 0xA0, 0x2C), (0x1F, 0x77, 0xB4)
    (root / "masks").mkdir()
    Image.fromarray(coloured).save(root / "masks" / "3.png")
    lines = [lookout_line(str(index), index == 3) for index in range(4)]
    (root / "output.manifest").write_text("\n".join(lines) + "\n")


def make_visa(root):
    rows = [("candle", "train", "normal", "Normal/0000.JPG", ""), ("candle", "test", "normal", "Normal/0001.JPG", "")]
    rows.append(("candle", "test", "anomaly", "Anomaly/000.JPG", "candle/Data/Masks/Anomaly/000.png"))
    (root / "split_csv").mkdir(parents=True)
    with (root / "split_csv" / "1cls.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["object", "split", "label", "image", "mask"])
        for category, split, label, image, truth in rows:
            writer.writerow([category, split, label, f"candle/Data/Images/{image}", truth])
            picture(root / "candle" / "Data" / "Images" / image)
    mask(root / "candle" / "Data" / "Masks" / "Anomaly" / "000.png")


def make_real_iad(root):
    train = [real_iad_entry(root, "OK", "S0001", view) for view in range(1, 6)]
    test = [real_iad_entry(root, "OK", "S0002", view) for view in range(1, 6)]
    test += [real_iad_entry(root, "NG/AK", "S0003", view, visible=view == 2) for view in range(1, 6)]
    meta = {"normal_class": "OK", "prefix": "audiojack/", "pre_transforms": {}}
    lists = root / "realiad_jsons" / "realiad_jsons"
    lists.mkdir(parents=True)
    (lists / "audiojack.json").write_text(json.dumps({"meta": meta, "train": train, "test": test}))


def real_iad_entry(root, kind, sample, view, visible=False) -> dict:
    path = f"{kind}/{sample}/audiojack_{sample[1:]}_{kind.replace('/', '_')}_C{view}_20231021120000.jpg"
    picture(root / "realiad_1024" / "audiojack" / path)
    truth = path.replace(".jpg", ".png") if visible else None
    if truth:
        mask(root / "realiad_1024" / "audiojack" / truth)
    return {
        "category": "audiojack",
        "anomaly_class": kind.rpartition("/")[2] if visible else "OK",
        "image_path": path,
        "mask_path": truth,
    }


def make_ksdd(root):
    for part in range(5):
        picture(root / "kos01" / f"Part{part}.jpg")
        mask(root / "kos01" / f"Part{part}_label.bmp", empty=part != 4)


def make_br35h(root):
    picture(root / "no" / "no0.jpg")
    picture(root / "yes" / "y0.jpg")
    picture(root / "pred" / "pred0.jpg")


def make_covid(root):
    picture(root / "NORMAL" / "NORMAL (1).png")
    picture(root / "COVID-19" / "COVID-19 (1).png")
    picture(root / "Viral Pneumonia" / "Viral Pneumonia (1).png")


def make_covid_update(root):
    for name in ("Normal", "COVID", "Lung_Opacity"):
        picture(root / name / "images" / f"{name}-1.png")
        mask(root / name / "masks" / f"{name}-1.png")  # of the lungs, not of an anomaly


def make_kvasir(root):
    picture(root / "images" / "cju0.jpg")
    mask(root / "masks" / "cju0.jpg")
    (root / "kavsir_bboxes.json").write_text("{}")


def make_cvc(root):
    picture(root / "Original" / "1.tif")
    mask(root / "Ground Truth" / "1.tif")


def make_meta_json(root):
    paths = [picture(root / "pen" / name) for name in ("a.png", "b.png", "c.png")]
    mask(root / "pen" / "c_mask.png")
    entries = [
        {"img_path": f"pen/{Path(path).name}", "mask_path": "", "cls_name": "pen", "specie_name": "good", "anomaly": 0}
        for path in paths
    ]
    entries[2] |= {"mask_path": "pen/c_mask.png", "specie_name": "scratch", "anomaly": 1}
    (root / "meta.json").write_text(json.dumps({"train": {"pen": entries[:1]}, "test": {"pen": entries[1:]}}))


def make_good_and_bad(root):
    for index in range(4):
        picture(root / "good" / f"{index}.png")
    picture(root / "bad" / "0.png")
    mask(root / "masks" / "0.png")
