"""Procedural images: seeded, with exact masks, in MVTec's layout."""

import numpy as np
import pytest
from PIL import Image

from adaptclip_hf.synthetic import CATEGORIES, DEFECTS, make_category, render_sample, write_dataset
from adaptclip_hf.synthetic.categories import Category
from adaptclip_hf.synthetic.defects import add_defect
from adaptclip_hf.synthetic.traits import TRAITS


@pytest.mark.parametrize("name", CATEGORIES)
def test_every_category_renders_good_and_defective(name):
    category = make_category(3, name)
    good, mask, kind = render_sample(category, 1, 64)
    assert good.shape == (64, 64, 3) and good.dtype == np.uint8 and good.std() > 0
    assert not mask.any() and kind == "good"
    bad, mask, kind = render_sample(category, 2, 64, defect=True)
    assert bad.shape == good.shape and mask.any() and not mask.all() and kind in DEFECTS


def test_the_same_seed_gives_the_same_image():
    for _ in range(2):
        one, mask, _ = render_sample(make_category(11), 4, 96, defect=True)
        two, again, _ = render_sample(make_category(11), 4, 96, defect=True)
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(mask, again)
    assert not np.array_equal(one, render_sample(make_category(11), 5, 96, defect=True)[0])


@pytest.mark.parametrize("kind", DEFECTS)
def test_a_mask_covers_what_changed(kind):
    """Over several draws most of the change lies within the mask, and the mask shows a change."""
    inside, covered = [], []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        scene, foreground = make_category(seed, "plastic").scene(rng, 128)
        changed, mask, _ = add_defect(rng, scene, foreground, kind)
        difference = np.abs(changed - scene).max(-1)
        inside.append(difference[mask].sum() / difference.sum())
        covered.append((difference[mask] > 0.01).mean())
    assert np.median(inside) > 0.6 and np.median(covered) > 0.6


def test_data_set_in_mvtec_layout(tmp_path):
    write_dataset(tmp_path, {"nut": make_category(1, "metal ring")}, size=64, train=2, good=1, bad=2)
    assert len(list((tmp_path / "nut" / "train" / "good").glob("*.png"))) == 2
    assert len(list((tmp_path / "nut" / "test" / "good").glob("*.png"))) == 1
    masks = list((tmp_path / "nut" / "ground_truth").glob("*/*_mask.png"))
    assert len(masks) == 2
    for mask in masks:
        assert (tmp_path / "nut" / "test" / mask.parent.name / mask.name.replace("_mask", "")).is_file()
        assert set(np.unique(Image.open(mask))) == {0, 255}


def test_unknown_names_list_the_choices():
    with pytest.raises(ValueError, match="leather"):
        make_category(0, "unobtainium")


@pytest.mark.parametrize("name", TRAITS)
def test_a_trait_shows_in_every_instance_and_is_no_defect(name):
    trait = TRAITS[name](np.random.default_rng(1))
    plain = np.full((96, 96, 3), 0.5, np.float32)
    for seed in range(3):
        changed = trait(np.random.default_rng(seed), plain, np.ones((96, 96), bool))
        assert changed.shape == plain.shape and np.abs(changed - plain).max() > 0.03
    _, mask, kind = render_sample(
        Category("plastic", make_category(1).camera, lambda rng, size: plain, (trait,)), 0, 96
    )
    assert kind == "good" and not mask.any()


def test_a_faint_defect_changes_less():
    scene, foreground = make_category(4, "paper").scene(np.random.default_rng(0), 96)
    full, faint = (
        add_defect(np.random.default_rng(3), scene, foreground, "hole", strength)[0] for strength in (1.0, 0.5)
    )
    np.testing.assert_allclose(faint - scene, 0.5 * (full - scene), atol=1e-5)
