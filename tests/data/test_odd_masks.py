"""Masks that are not two-valued are named before a long run, and used as `load_mask` says."""

import numpy as np
from PIL import Image

from adaptclip_hf.data.checking import readable_rows
from adaptclip_hf.data.rows import Row, build_dataset


def test_masks_of_more_than_two_values_are_named(tmp_path):
    mask, rows = np.zeros((60, 80), np.uint8), []
    mask[15:35, 20:60] = 255
    Image.new("RGB", (80, 60), "grey").save(tmp_path / "photo.png")
    for name in ("mask.png", "mask.jpg"):
        Image.fromarray(mask).save(tmp_path / name, **({"quality": 70} if name.endswith("jpg") else {}))
        rows.append(Row(str(tmp_path / "photo.png"), 1, "part", "test", "hole", mask=str(tmp_path / name)))
    told = []
    assert readable_rows(build_dataset(rows), told.append, progress=False) == [0, 1]
    [line] = told
    assert "mask.jpg: the mask has" in line and "cut at half of the highest" in line
