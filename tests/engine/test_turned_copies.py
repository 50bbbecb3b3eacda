"""Copies of normal images, turned or mirrored: when they join, what is kept of them, and where they go."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from PIL import Image, ImageDraw
from torch.nn import functional as F

from adaptclip_hf import AdaptCLIPProcessor, AnomalyDetector, InspectionProfile, PromptBank, View
from adaptclip_hf.cli import main
from adaptclip_hf.engine import AnomalyScorer
from adaptclip_hf.engine.torch_copies import distance_ratio, something_new, turned
from adaptclip_hf.engine.turned_copies import DECIDING
from adaptclip_hf.modeling.vision_encoder import ImageFeatures
from adaptclip_hf.runtimes.numpy_arrays import NumpyArrays


def part(index: int, quarters: int, size: tuple[int, int] = (84, 84), mark: int = 0) -> Image.Image:
    """A part whose stripes and mark say how it lies; of each index another shade."""
    image = Image.new("RGB", (84, 84), (200, 200, 190))
    draw = ImageDraw.Draw(image)
    for line in range(6, 40, 8):
        draw.rectangle((line, 6, line + 4, 78), fill=(30 + 7 * index % 60, 60, 150 - 11 * index % 50))
    left, top = 46 + 5 * mark % 14, 8 + 17 * mark % 44
    draw.ellipse((left, top, left + 22, top + 22), fill=(220, 40, 30))
    return image.rotate(90 * quarters).resize(size)


class PixelModel:
    """A model whose patch tokens are the patches' own mean colours and slopes: what turns, turns in them as well."""

    backend, device, dtype, name_or_path = "torch", torch.device("cpu"), torch.float32, ""

    def __init__(self, normal_variation: bool = True):
        self.config = SimpleNamespace(normal_variation=normal_variation)
        self.encoded = 0

    def image_features(self, pixel_values: torch.Tensor) -> ImageFeatures:
        self.encoded += len(pixel_values)
        right = F.pad(pixel_values.diff(dim=-1).abs(), (0, 1))
        down = F.pad(pixel_values.diff(dim=-2).abs(), (0, 0, 0, 1))
        means = [F.avg_pool2d(each, 12).flatten(2).transpose(1, 2) for each in (pixel_values, 4 * right, 4 * down)]
        tokens = torch.cat(means, -1)
        return ImageFeatures(tokens[:, 0], (torch.cat([tokens[:, :1], tokens], 1),) * 2)

    def fingerprint(self) -> dict[str, str]:
        return {"weights": "pixels"}


@pytest.fixture(scope="module")
def processor(small_model, tokenizer) -> AdaptCLIPProcessor:
    return AdaptCLIPProcessor.for_model(small_model.config, tokenizer)


@pytest.fixture(scope="module")
def detector(make_model, processor) -> AnomalyDetector:
    """A model whose scores know how normal images differ."""
    return AnomalyDetector(make_model(normal_variation=True, few_shot_adapters=False).eval(), processor)


def test_parts_in_any_direction_are_turned_and_others_are_not(processor):
    scorer, lines = AnomalyScorer(PixelModel(), processor), []
    posed = scorer.remember((part(index, index % 4) for index in range(6)), report=lines.append)
    assert posed.added is not None and len(posed) == 6
    [line] = lines
    assert line.startswith("turned copies of the good photos join the bank: they lie ") and "nearer" in line
    for layer, owners, features in zip(posed.added, posed.added_of, posed.features, strict=True):
        assert 0 < len(layer) == len(owners) <= features.shape[0] * features.shape[1]
        assert set(owners.tolist()) == set(range(6))
    alike = scorer.remember([part(index, 0) for index in range(6)], report=lines.append)
    assert alike.added is None and lines[1].startswith("no turned copies of the good photos: turned they lie ")
    [only] = posed.added[:1]
    assert torch.allclose(only.norm(dim=-1), torch.ones(len(only)))


def test_auto_decides_by_the_first_images_and_costs_no_more(processor):
    model, seen = PixelModel(), []

    def images(quarters):
        for index in range(DECIDING + 12):
            yield part(index, quarters(index))
            seen.append(model.encoded)

    assert AnomalyScorer(model, processor).remember(images(lambda index: 0)).added is None
    assert model.encoded == DECIDING + 12 + 3 * DECIDING
    model.encoded = 0
    bank = AnomalyScorer(model, processor).remember(images(lambda index: index % 4))
    assert model.encoded == 4 * (DECIDING + 12) and set(bank.added_of[0].tolist()) == set(range(DECIDING + 12))
    model.encoded = 0
    assert AnomalyScorer(model, processor).remember([part(0, 0)]).added is None and model.encoded == 1


def test_released_models_stay_as_they_are_unless_copies_are_asked_for(processor):
    scorer = AnomalyScorer(PixelModel(normal_variation=False), processor)
    images = [part(index, index) for index in range(4)]
    assert scorer.remember(images).added is None and scorer.remember(images, augment="none").added is None
    assert scorer.remember(images, augment="rotations").added is not None


def test_flips_mirror_and_rotations_turn():
    pixels = torch.arange(12.0).view(1, 3, 2, 2)
    quarter, half, three = turned(pixels, "rotations")
    assert torch.equal(torch.rot90(quarter, 1, (2, 3)), half) and torch.equal(torch.rot90(half, 1, (2, 3)), three)
    assert torch.equal(torch.rot90(three, 1, (2, 3)), pixels)
    across, down = turned(pixels, "flips")
    assert torch.equal(across.flip(3), pixels) and torch.equal(down.flip(2), pixels)


def test_only_what_is_new_is_kept():
    own = F.normalize(torch.eye(32)[:9] + 0.5, dim=-1)
    far, farther = F.normalize(torch.eye(32)[20:23], dim=-1), -own[:2]
    assert something_new(own, torch.cat([own, far, own, farther])).tolist()[:2] in ([21, 22], [22, 21])
    assert sorted(something_new(own, torch.cat([own, far, own, farther])).tolist()) == [9, 10, 11, 21, 22]
    assert len(something_new(own, own)) == 0
    many = F.normalize(torch.randn(40, 32), dim=-1)
    assert len(something_new(many[:5], many)) <= 5


def test_which_tokens_are_kept_does_not_hang_on_the_order_of_sums():
    """A bank that is made without torch has the digest of one that is made with it."""
    rng = torch.Generator().manual_seed(0)
    own, copies = (F.normalize(torch.randn(n, 768, generator=rng) + 2, dim=-1) for n in (400, 1200))
    there = something_new(own, copies)
    other_way = torch.randperm(768, generator=rng)
    assert 0 < len(there) <= 400 and torch.equal(there, something_new(own[:, other_way], copies[:, other_way]))
    assert there.tolist() == NumpyArrays().something_new(own.numpy(), copies.numpy()).tolist()


def test_ratio_of_images_that_are_one_and_the_same():
    tokens = (F.normalize(torch.randn(1, 9, 8), dim=-1),)
    assert distance_ratio([tokens, tokens], [tokens, tokens]) == 1


def test_scores_are_those_of_the_tokens_that_were_kept(detector):
    images = [part(index, 0) for index in range(3)]
    bank = detector.remember(images, augment="rotations")
    plain, query = detector.remember(images, augment="none"), part(9, 1)
    [alone], [turned_too] = (detector.detect(query, prompt_bank=each) for each in (plain, bank))
    assert turned_too.model_map.max() < alone.model_map.max()
    by_hand = replace(bank, variation=None).with_variation()
    assert turned_too.score == detector.detect(query, prompt_bank=by_hand)[0].score


def test_banks_with_copies_are_kept_grow_and_shrink(detector, tmp_path):
    images = [part(index, index) for index in range(4)]
    bank = detector.remember(images, augment="rotations")
    for storage, close in ((None, 0), ("int8", 0.02)):
        read = PromptBank.from_pretrained(bank.save_pretrained(tmp_path / "bank.safetensors", storage))
        assert all(torch.equal(*pair) for pair in zip(read.added_of, bank.added_of, strict=True))
        assert all(torch.allclose(*pair, atol=close) for pair in zip(read.added, bank.added, strict=True))
    first, last = (detector.remember(some, augment="rotations") for some in (images[:2], images[2:]))
    assert first.append(last) == bank and bank.drop([2, 3]) == first and bank.select([2, 3]) == last
    plain = detector.remember(images[2:], augment="none")
    assert set(first.append(plain).added_of[0].tolist()) == {0, 1}


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("turned")
    for index in range(12):
        part(index, index % 4, mark=index).save(folder / f"{index:02}.png")
    return sorted(map(str, folder.iterdir()))


@pytest.fixture(scope="module")
def profile(detector, photos) -> InspectionProfile:
    return InspectionProfile.fit(detector, photos[:10], 0.1, augment="rotations", calibration="leave-one-out")


def test_a_photo_is_compared_with_the_others_and_their_copies(profile, detector, photos):
    assert profile.settings.augment == "rotations" and "turned copies" in profile.describe()
    others = detector.remember(photos[1:10], augment="rotations")
    [result] = detector.detect(photos[0], prompt_bank=others)
    assert profile.features.photos[0].score == pytest.approx(result.score, abs=1e-3)


def test_profiles_keep_copies(profile, detector, photos, tmp_path):
    read = InspectionProfile.from_pretrained(profile.save_pretrained(tmp_path / "profile"))
    assert read.digest() == profile.digest() and read.prompt_bank == profile.prompt_bank
    assert read.prompt_bank.added is not None
    without = replace(profile, features=replace(profile.features, added=type(profile.features.added)()))
    assert without.digest() != profile.digest()
    whole = InspectionProfile.fit(
        detector, photos, 0.1, augment="rotations", calibration="leave-one-out", storage="int8"
    )
    small = InspectionProfile.from_pretrained(whole.save_pretrained(tmp_path / "int8"))
    assert small.digest() == whole.digest() and len(small.prompt_bank.added[0]) == len(whole.prompt_bank.added[0])


def test_updates_turn_new_photos_and_keep_the_copies_of_old_ones(profile, detector, photos):
    updated = profile.update(detector, photos[10:], drop=photos[:1])
    fresh = detector.remember(photos[1:], augment="rotations")
    assert [len(layer) for layer in updated.prompt_bank.added] == [len(layer) for layer in fresh.added]
    assert all(torch.equal(*pair) for pair in zip(updated.prompt_bank.added_of, fresh.added_of, strict=True))
    with pytest.raises(ValueError, match="augment 'rotations', and more photos get the same"):
        profile.update(detector, photos[10:], augment="none")


def test_chosen_photos_bring_their_copies(detector, photos):
    chosen = InspectionProfile.fit(
        detector, photos, 0.1, augment="flips", calibration="leave-one-out", bank_size=5
    ).prompt_bank
    assert len(chosen) == 5 and set(chosen.added_of[0].tolist()) == set(range(5))


def test_tiles_are_turned_when_asked_and_never_where_each_has_its_place(detector, processor):
    images = [part(index, index % 2, (160, 80)) for index in range(3)]
    model = PixelModel()
    assert AnomalyScorer(model, processor).remember(images, view=View(tile=64)).added is None
    tiled = detector.remember(images, view=View(tile=64), augment="rotations")
    assert set(tiled.added_of[0].tolist()) == set(range(len(tiled))) and len(tiled) > 3
    places = View(tile=64, same_place=True)
    assert detector.remember(images, view=places).added is None
    for call in (
        lambda: detector.remember(images, view=places, augment="rotations"),
        lambda: InspectionProfile.fit(detector, images * 7, 0.1, view=places, augment="flips"),
    ):
        with pytest.raises(ValueError, match="a turned copy has none: leave augment="):
            call()


@pytest.mark.parametrize("tiled_at", [0, 3, DECIDING + 2])
def test_one_image_in_tiles_leaves_copies_out_wherever_it_comes(processor, tiled_at):
    images = [part(index, index % 4) for index in range(DECIDING + 2)]
    images.insert(tiled_at, part(0, 0, (300, 84)))
    scorer, lines = AnomalyScorer(PixelModel(), processor), []
    assert scorer.remember(images, report=lines.append).added is None
    assert scorer.remember(images, augment="rotations").added is not None
    assert not lines or lines[-1].startswith("turned copies are left out after all")


def test_unknown_ways_are_refused_with_those_there_are(detector, photos, capsys):
    for wrong in ("rotation", None, 4):
        for call in (
            lambda wrong=wrong: detector.remember(photos, augment=wrong),
            lambda wrong=wrong: InspectionProfile.fit(detector, photos, 0.1, augment=wrong),
        ):
            with pytest.raises(ValueError, match=r"no augment .*there are auto, none, rotations, flips"):
                call()
    with pytest.raises(SystemExit):
        main(["detect", photos[0], "--augment", "flips"])
    assert "give both" in capsys.readouterr().err
