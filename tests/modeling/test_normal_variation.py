"""How normal images differ from one another: computed by hand, kept right in banks, and what it does to scores."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.export import Dim, export
from torch.nn import functional as F

from adaptclip_hf import PromptBank
from adaptclip_hf.modeling import normal_variation
from adaptclip_hf.modeling.alignment import cosine_distance, nearest_tokens
from adaptclip_hf.modeling.fusion import fuse_distances, gaussian_filter
from adaptclip_hf.modeling.normal_variation import NormalComparison, NormalVariation

LAYERS, PLACES, SIZE = 2, 9, 32
NAMES = ("mean", "spread", "whole", "whole_scale")


def unit_tokens(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, SIZE, generator=torch.Generator().manual_seed(seed)), dim=-1)


def lying_alike(count: int, seed: int = 0) -> PromptBank:
    """Images that show the same thing, at some places with more noise than at others."""
    noise = torch.linspace(0.05, 0.6, PLACES)[:, None]
    layers = []
    for layer in range(LAYERS):
        what = unit_tokens(PLACES, seed=seed + layer)
        layers.append(F.normalize(what + noise * unit_tokens(count, PLACES, seed=seed + 50 + layer), dim=-1))
    return PromptBank(tuple(layers), {"weights": "1234"}, {"size": "84"})


def with_copies(bank: PromptBank, seed: int = 9) -> PromptBank:
    """With tokens that copies of its images add, of different numbers for each image and layer."""
    added = tuple(unit_tokens(5 + layer, seed=seed + layer) for layer in range(len(bank.features)))
    owners = tuple(torch.arange(len(tokens)) * 7 % len(bank) for tokens in added)
    return replace(bank, added=added, added_of=owners)


def assert_same(found: NormalVariation | None, expected: NormalVariation | None, tolerance: float = 1e-6):
    assert found is not None and expected is not None
    for name in NAMES:
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), atol=tolerance, rtol=0)


def known(bank: PromptBank) -> NormalVariation:
    assert bank.variation is not None
    return bank.variation


def distances_by_hand(bank: PromptBank) -> torch.Tensor:
    """(n, k, L): each patch against all patches of all other images, one by one."""
    found = torch.zeros(len(bank.features), len(bank), bank.features[0].shape[1])
    for layer, images in enumerate(bank.features):
        for image in range(len(images)):
            others = [tokens for other, tokens in enumerate(bank.tokens_by_image(layer)) if other != image]
            for place, patch in enumerate(images[image]):
                found[layer, image, place] = (1 - torch.cat(others) @ patch).min()
    return found


@pytest.mark.parametrize("copies", [False, True])
def test_mean_and_spread_patch_by_patch(copies):
    bank = with_copies(lying_alike(5)) if copies else lying_alike(5)
    own, variation = distances_by_hand(bank), NormalComparison.of(bank).variation()
    for layer in range(LAYERS):
        values = own[layer]
        overall, typical = values.mean(), values.var(0).mean()
        between = (values.mean(0) - overall).square().mean()
        weight = max(0.0, float(1 - typical / 5 / between))
        assert weight > 0.5  # they lie alike: the places tell
        own_share = weight * 5 / 9
        spreads = (own_share * values.var(0) + (1 - own_share) * typical).sqrt()
        for place in range(PLACES):
            mean = overall + weight * (values[:, place].mean() - overall)
            assert float(variation.mean[layer, place]) == pytest.approx(float(mean), abs=1e-6)
            spread = spreads[place] + 0.5 * spreads.mean()
            assert float(variation.spread[layer, place]) == pytest.approx(float(spread), abs=1e-6)
        whole = F.normalize(bank.features[layer].mean(1), dim=-1)
        nearest = [min(float(1 - whole[i] @ whole[j]) for j in range(5) if j != i) for i in range(5)]
        assert float(variation.whole_scale[layer]) == pytest.approx(sum(nearest) / 5, abs=1e-6)
    assert (variation.mean[:, -1] > variation.mean[:, 0]).all()  # where they differ more


def test_a_copy_of_ones_own_image_is_no_other_image():
    bank = lying_alike(3)
    own = replace(
        bank,
        added=tuple(layer[0] for layer in bank.features),
        added_of=tuple(torch.zeros(PLACES, dtype=torch.int64) for _ in bank.features),
    )
    assert_same(own.with_variation().variation, bank.with_variation().variation)


def test_one_image_is_only_scaled():
    variation = known(lying_alike(1).with_variation())
    assert not variation.mean.any() and (variation.spread == 0.1).all() and (variation.whole_scale == 0.1).all()


def test_where_images_do_not_lie_alike_all_places_get_one_mean():
    layers = tuple(unit_tokens(6, 100, seed=seed) for seed in range(LAYERS))
    variation = known(PromptBank(layers, {}, {}).with_variation())
    own = distances_by_hand(PromptBank(layers, {}, {})).mean(1)
    assert (variation.mean.std(1) < 0.3 * own.std(1)).all()
    alike = known(lying_alike(6).with_variation())
    assert (alike.mean.std(1) > 0.9 * distances_by_hand(lying_alike(6)).mean(1).std(1)).all()


def test_equal_images_have_a_spread_and_finite_scores():
    bank = lying_alike(1).select([0, 0, 0]).with_variation()
    for each in known(bank).tensors().values():
        assert each.isfinite().all()
    assert (known(bank).spread > 0).all() and (known(bank).whole_scale > 0).all()


def test_of_many_images_some_are_compared_with_all(monkeypatch):
    bank = lying_alike(12)
    monkeypatch.setattr(normal_variation, "MOST_COMPARED", 4)
    comparison = NormalComparison.of(bank)
    assert comparison.queries.tolist() == [0, 4, 7, 11] and comparison.minima.shape == (LAYERS, 4, 12, PLACES)
    some = distances_by_hand(bank)[:, [0, 4, 7, 11]]
    torch.testing.assert_close(comparison.variation().mean, normal_variation.shrunk(some)[0], atol=1e-6, rtol=0)
    assert_same(comparison.variation([1, 2]), normal_variation.unknown_variation(comparison.whole[[1, 2]], PLACES))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_changes_little(dtype):
    """Distances are those of the tokens as they are rounded, not of rounded similarities."""
    bank = lying_alike(6).to("cpu", dtype)
    expected = known(replace(bank, features=tuple(layer.float() for layer in bank.features)).with_variation())
    assert_same(known(bank.with_variation()), expected, 1e-3 if dtype == torch.bfloat16 else 1e-4)


@pytest.mark.parametrize("copies", [False, True])
def test_banks_keep_it_right(copies):
    plain, other = lying_alike(5), lying_alike(3, seed=100)
    if copies:
        plain, other = with_copies(plain), with_copies(other, seed=19)
    bank = plain.with_variation()
    for found, expected in (
        (bank.select([3, 1, 4]), plain.select([3, 1, 4])),
        (bank.drop([0, 2]), plain.drop([0, 2])),
        (bank.append(other), plain.append(other)),
        (plain.append(other.with_variation()), plain.append(other)),
        (bank.append(lying_alike(2)), plain.append(lying_alike(2))),
        (lying_alike(2).append(bank), lying_alike(2).append(plain)),
        (PromptBank.concatenate([bank, other, bank]), PromptBank.concatenate([plain, other, plain])),
    ):
        assert expected.variation is None and replace(found, variation=None) == expected
        assert_same(found.variation, expected.with_variation().variation)
        assert_same(found.variation, known(found.to("cpu", torch.float32)), 0)
    comparison = NormalComparison.of(plain)
    assert_same(comparison.variation([3, 1, 4]), plain.select([3, 1, 4]).with_variation().variation)
    assert_same(comparison.variation([2]), plain.select([2]).with_variation().variation)


@pytest.mark.parametrize("copies", [False, True])
def test_what_is_left_of_a_bank_is_judged_by_all_its_images(copies):
    plain = with_copies(lying_alike(8)) if copies else lying_alike(8)
    reduced = plain.with_variation().reduce(3)
    assert len(reduced) == 3 and plain.reduce(3) == replace(reduced, variation=None)
    kept = [
        next(index for index in range(8) if torch.equal(plain.features[0][index], layer))
        for layer in reduced.features[0]
    ]
    own = []
    for layer in range(LAYERS):
        tokens = list(plain.tokens_by_image(layer))
        rows = []
        for image in range(8):
            pool = torch.cat([tokens[other] for other in kept if other != image])
            rows.append((1 - plain.features[layer][image] @ pool.T).amin(-1))
        own.append(torch.stack(rows))
    mean, spread = normal_variation.shrunk(torch.stack(own))
    torch.testing.assert_close(known(reduced).mean, mean, atol=1e-6, rtol=0)
    torch.testing.assert_close(known(reduced).spread, spread, atol=1e-6, rtol=0)
    assert len(known(reduced).whole) == 3


def test_blocks_hold_the_added_tokens():
    bank = with_copies(lying_alike(3))
    assert bank.added is not None
    for layer, block, pool, added in zip(bank.features, bank.blocks(), bank.pools(), bank.added, strict=True):
        assert block.shape == (4, PLACES, SIZE) and torch.equal(block[:3], layer)
        assert torch.equal(block.flatten(0, 1)[: len(pool)], pool)
        assert torch.equal(block[3, : len(added)], added) and torch.equal(block[3, -1], layer[0, 0])
    assert lying_alike(3).blocks() is not None and len(lying_alike(3).blocks()[0]) == 3


@pytest.mark.parametrize("storage", [None, "float16", "int8"])
@pytest.mark.parametrize("copies", [False, True])
def test_saved_and_loaded(copies, storage, tmp_path):
    bank = (with_copies(lying_alike(4)) if copies else lying_alike(4)).with_variation()
    again = PromptBank.from_pretrained(bank.save_pretrained(tmp_path / "bank.safetensors", storage=storage))
    assert_same(again.variation, bank.variation, 0)
    assert (again.added is None) == (not copies)
    if copies:
        assert all(map(torch.equal, again.added_of, bank.added_of))
        for found, expected in zip(again.added, bank.added, strict=True):
            torch.testing.assert_close(found.float(), expected, atol=4e-3, rtol=0)
    without = replace(bank, variation=None).save_pretrained(tmp_path / "without.safetensors")
    assert PromptBank.from_pretrained(without).variation is None


def edited(file: Path, **changes: torch.Tensor | None) -> Path:
    """Other tensors, as a version without a digest would have written them; `None` leaves one out."""
    with safe_open(file, "pt") as opened:
        metadata, content = opened.metadata(), {name: opened.get_tensor(name) for name in opened.keys()}
    content |= {name.replace("__", "."): value for name, value in changes.items()}
    metadata.pop("sha256")
    save_file({name: value for name, value in content.items() if value is not None}, file, metadata)
    return file


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"variation__mean": torch.zeros(LAYERS, PLACES + 1)}, "variation does not fit its layers"),
        ({"variation__spread": torch.ones(1, PLACES)}, "variation does not fit its layers"),
        ({"variation__whole": torch.ones(4, LAYERS, SIZE - 1)}, "variation does not fit its layers"),
        ({"variation__whole": torch.ones(0, LAYERS, SIZE)}, "variation does not fit its layers"),
        ({"variation__whole": torch.tensor(1.0)}, "variation does not fit its layers"),
        ({"variation__whole_scale": torch.ones(LAYERS + 1)}, "variation does not fit its layers"),
        ({"variation__whole_scale": None}, "variation does not fit its layers"),
        ({"variation__mean": torch.zeros(LAYERS, PLACES, dtype=torch.int64)}, "variation does not fit its layers"),
        ({"variation__spread": torch.zeros(LAYERS, PLACES)}, "spreads that are not above 0"),
        ({"variation__whole_scale": -torch.ones(LAYERS)}, "spreads that are not above 0"),
        ({"variation__mean": torch.full((LAYERS, PLACES), torch.nan)}, "mean holds values that are not finite"),
        ({"variation__whole": torch.full((4, LAYERS, SIZE), torch.inf)}, "whole holds values that are not finite"),
        ({"added_of__0": torch.full((5,), 4)}, "belong to images that it does not have"),
        ({"added_of__0": torch.full((5,), -1)}, "belong to images that it does not have"),
        ({"added_of__0": torch.zeros(4, dtype=torch.int64)}, "added tokens do not fit its layers"),
        ({"added_of__1": torch.zeros(6)}, "added tokens do not fit its layers"),
        ({"added_of__1": None}, "added_of.1"),
        ({"added__1": None}, "added tokens for each layer or for none"),
        ({"added__0": unit_tokens(5)[:, :-1].contiguous()}, "added tokens do not fit its layers"),
        ({"added__0": unit_tokens(5) * 3}, "tokens of lengths up to 3, expected 1"),
        ({"added__0": torch.full((5, SIZE), torch.nan)}, "holds values that are not finite"),
    ],
)
def test_a_damaged_variation_is_refused(changes, said, tmp_path):
    bank = with_copies(lying_alike(4)).with_variation()
    file = edited(bank.save_pretrained(tmp_path / "bank.safetensors"), **changes)
    with pytest.raises(ValueError, match=rf"bank\.safetensors.*{said}"):
        PromptBank.from_pretrained(file)


def test_a_flipped_bit_of_it_is_refused(tmp_path):
    file = lying_alike(4).with_variation().save_pretrained(tmp_path / "bank.safetensors")
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"bank\.safetensors"):
        PromptBank.from_pretrained(file)


# scores


@pytest.fixture(scope="module")
def varied(make_model):
    return make_model(clip={"layers": 2}, normal_variation=True, few_shot_adapters=False, peak_share=0.01)


def pixels(count: int, seed: int = 0) -> torch.Tensor:
    """Pictures of one thing, each with some noise."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, 3, 84, 84, generator=torch.Generator().manual_seed(77)) + 0.5 * torch.randn(
        count, 3, 84, 84, generator=generator
    )


def assert_equal(found, expected, tolerance: float = 0):
    torch.testing.assert_close(found.anomaly_scores, expected.anomaly_scores, atol=tolerance, rtol=0)
    torch.testing.assert_close(found.anomaly_maps, expected.anomaly_maps, atol=tolerance, rtol=0)


@torch.no_grad()
def test_scores_and_maps_by_a_plain_computation(varied):
    queries, bank = pixels(2), varied.encode_prompts(pixels(4, 1))
    features, variation = varied.image_features(queries), known(bank)
    found = varied(queries, prompt_bank=bank)
    for index in range(2):
        beyond, distances, whole = [], [], []
        for layer, tokens in enumerate(features.patch_embeds):
            patches = F.normalize(tokens[index, 1:], dim=-1)
            distance = (1 - patches @ bank.features[layer].flatten(0, 1).T).amin(-1)
            distances.append(distance)
            beyond.append((distance - variation.mean[layer]) / variation.spread[layer])
            mean, normals = F.normalize(patches.mean(0), dim=-1), F.normalize(bank.features[layer].mean(1), dim=-1)
            whole.append((1 - normals @ mean).amin() / variation.whole_scale[layer])
        maps = []
        for values in (beyond, distances):
            small = torch.stack(values).mean(0).view(1, 1, 6, 6)
            large = F.interpolate(small, size=(84, 84), mode="bilinear")[0]
            maps.append(gaussian_filter(large, 4.0)[0])
        highest = maps[0].flatten().sort().values[-round(0.01 * 84 * 84) :].mean()
        total = F.softplus(highest + 0.3 * torch.stack(whole).mean())
        torch.testing.assert_close(found.anomaly_scores[index], total / (total + 8), atol=1e-5, rtol=0)
        positive = F.softplus(maps[0])
        expected = positive / (positive + 8) * maps[1] / (maps[1] + 1e-3)
        torch.testing.assert_close(found.anomaly_maps[index], expected, atol=1e-5, rtol=0)


def test_fusion_of_distances_rises_with_each_of_them():
    beyond, near, whole = torch.zeros(3, 20, 20), torch.full((3, 20, 20), 0.1), torch.tensor([0.0, 0.0, 5.0])
    beyond[1, 5:9, 5:9] = 20
    _, scores = fuse_distances(beyond, near, whole, 0.0, 0.0)
    assert scores[0] < scores[2] < scores[1] < 1
    maps, _ = fuse_distances(beyond, near * 0, whole, 0.0, 0.0)
    assert not maps.any()


@torch.no_grad()
def test_a_bank_without_it_scores_as_one_with_it(varied):
    bank = varied.encode_prompts(pixels(3, 1))
    assert bank.variation is not None
    expected = varied(pixels(2), prompt_bank=bank)
    assert_equal(varied(pixels(2), prompt_bank=replace(bank, variation=None)), expected)
    prompts = pixels(3, 1)[None].expand(2, -1, -1, -1, -1)
    assert_equal(varied(pixels(2), prompt_pixel_values=prompts), expected, 1e-5)


@torch.no_grad()
def test_a_bank_for_each_image_is_what_each_scores_alone(varied):
    banks = [varied.encode_prompts(pixels(count, count)) for count in (1, 3, 5)]
    banks[1] = replace(banks[1], variation=None)
    copies = tuple(unit_tokens(4, seed=layer) for layer in range(len(banks[2].features)))
    banks[2] = replace(banks[2], variation=None, added=copies, added_of=(torch.tensor([0, 1, 1, 4]),) * len(copies))
    found = varied(pixels(3), prompt_bank=banks)
    for index, bank in enumerate(banks):
        alone = varied(pixels(3)[index : index + 1], prompt_bank=bank)
        torch.testing.assert_close(found.anomaly_scores[index], alone.anomaly_scores[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(found.anomaly_maps[index], alone.anomaly_maps[0], atol=1e-5, rtol=0)


@torch.no_grad()
def test_nothing_that_is_not_finite_becomes_a_score(varied, small_folder):
    bank = varied.encode_prompts(pixels(3, 1))
    for name in NAMES:
        broken = getattr(known(bank), name).clone()
        broken.view(-1)[0] = torch.nan
        damaged = replace(bank, variation=replace(known(bank), **{name: broken}))
        assert varied(pixels(2), prompt_bank=damaged).anomaly_scores.isnan().all(), name
        with pytest.raises(ValueError, match=f"{name} holds values that are not finite"):
            damaged.require_finite()
    tokens = [layer.clone() for layer in bank.features]
    tokens[0][1, 3, 0] = torch.nan
    unknown = replace(bank, features=tuple(tokens), variation=None)
    assert varied(pixels(2), prompt_bank=unknown).anomaly_scores.isnan().all()


@torch.no_grad()
def test_released_models_take_no_notice(make_model):
    """Whatever a bank knows: scores are those of the features alone, to the bit."""
    model = make_model(clip={"layers": 2})
    bank = model.encode_prompts(pixels(3, 1))
    assert bank.variation is None
    assert_equal(model(pixels(2), prompt_bank=bank.with_variation()), model(pixels(2), prompt_bank=bank))
    assert set(bank.fingerprint) == set(make_model(clip={"layers": 2}, normal_variation=True).fingerprint())
    # the map of the released program, computed with its own functions
    details = model(pixels(2), prompt_bank=bank, output_details=True).details
    features = model.image_features(pixels(2))
    for layer, maps in enumerate(details["alignment_maps"]):
        query = F.normalize(features.patch_embeds[layer][:, 1:], dim=-1)
        aligned = nearest_tokens(query, bank.features[layer].flatten(0, 1))
        small = cosine_distance(query, aligned).view(2, 1, 6, 6)
        large = F.interpolate(small, size=(84, 84), mode="bilinear")[:, 0]
        torch.testing.assert_close(maps, large, atol=1e-6, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("fields", [{"normal_variation": True}, {"few_shot_adapters": False}, {"score_fusion": "mean"}])
def test_each_field_on_its_own(make_model, fields):
    model, usual = make_model(clip={"layers": 2}, **fields), make_model(clip={"layers": 2})
    bank = model.encode_prompts(pixels(3, 1))
    assert (bank.variation is not None) == ("normal_variation" in fields)
    found, expected = (each(pixels(2), prompt_bank=bank) for each in (model, usual))
    assert found.anomaly_scores.isfinite().all() and 0 <= found.anomaly_maps.min() <= found.anomaly_maps.max() <= 1
    assert not torch.equal(found.anomaly_maps, expected.anomaly_maps)
    if "score_fusion" not in fields:  # zero-shot nothing changes
        assert_equal(model(pixels(2)), usual(pixels(2)))


@torch.no_grad()
@pytest.mark.slow
def test_exported_with_the_bank_as_its_input(varied):
    few, more = (varied.encode_prompts(pixels(count, 1)) for count in (3, 6))

    class FewShot(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = varied

        def forward(self, pixel_values, layers, mean, spread, whole_scale, whole):
            variation = NormalVariation(mean, spread, whole_scale, whole)
            return self.model(pixel_values, prompt_bank=PromptBank(tuple(layers), few.fingerprint, {}, variation))

    def inputs(count: int, bank: PromptBank) -> tuple:
        return pixels(count), list(bank.features), *known(bank).tensors().values()

    batch, images = Dim("batch", min=1, max=64), Dim("images", min=1, max=4096)
    shapes = ({0: batch}, [{0: images}] * len(few.features), {}, {}, {}, {0: images})
    program = export(FewShot(), inputs(2, few), dynamic_shapes=shapes)
    for count, bank in ((1, few), (4, more)):
        assert_equal(program.module()(*inputs(count, bank)), varied(pixels(count), prompt_bank=bank), 1e-5)


@pytest.mark.works("Compile and export", "`torch.compile` and `torch.export` few-shot, with normal variation")
@torch.no_grad()
@pytest.mark.slow
def test_exported_and_compiled_whatever_the_normal_images_are_given_as(varied):
    query, bank = pixels(2), varied.encode_prompts(pixels(3, 1))
    for given in (
        {"prompt_bank": bank},
        {"prompt_bank": replace(bank, variation=None)},
        {"prompt_bank": [bank, bank.select([0, 2])]},
        {"prompt_pixel_values": pixels(4, 1).unflatten(0, (2, 2))},
    ):
        expected = varied(query, **given)
        assert_equal(export(varied, (query,), given).module()(query, **given), expected, 1e-5)
        torch.compiler.reset()
        assert_equal(torch.compile(varied, backend="eager")(query, **given), expected, 1e-5)
