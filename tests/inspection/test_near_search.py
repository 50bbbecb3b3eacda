"""The nearest normal tokens of photos with a defect, found near to the photo without it."""

import pytest
import torch
from torch.nn import functional as F

from adaptclip_hf import InspectionProfile, View
from adaptclip_hf.engine.reference import bank_for
from adaptclip_hf.engine.scoring import encode
from adaptclip_hf.inspection import near_search
from adaptclip_hf.inspection.near_search import NearSearch, at_most
from adaptclip_hf.inspection.pasting import sampled_again
from adaptclip_hf.modeling.alignment import cosine_distance, nearest_tokens
from adaptclip_hf.modeling.prompt_bank import PromptBank
from adaptclip_hf.modeling.prompt_query_adapter import unit_patch_tokens


def unit(*shape: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("moved", [0.0, 0.01, 0.3, 10.0])
def test_it_finds_what_a_search_of_all_finds(moved, dtype):
    """However far the tokens have moved, and where tokens that were stored are not quite of unit length."""
    places = unit(1, 30, 16, seed=0)
    normals = F.normalize(places + 0.3 * torch.rand(9, 30, 1) * unit(9, 30, 16, seed=1), dim=-1).to(dtype)
    longer = (F.normalize(places[0] + 0.1 * unit(30, 16, seed=2), dim=-1) * 1.0004).to(dtype)
    bank = PromptBank((normals,), {}, {}, added=(longer,), added_of=(torch.arange(30) % 9,))
    known = places[0].to(dtype)
    query = F.normalize(known.float() + moved * unit(3, 30, 16, seed=3), dim=-1).to(dtype)
    banks = NearSearch.of(bank, [known]).nearest([query])
    assert [len(each) for each in banks] == [1, 1, 1]
    found = cosine_distance(query, torch.cat([each.features[0] for each in banks]))
    exact = cosine_distance(query, nearest_tokens(query, bank.pools()[0]))
    torch.testing.assert_close(found, exact, rtol=0, atol=max(1e-6, torch.finfo(dtype).eps))


@pytest.mark.parametrize("moved", [0.0, 0.01, 0.3, 10.0])
def test_no_product_exceeds_what_it_can_be(moved):
    """Also of tokens that are not quite of unit length, which make the limit hardly any wider."""
    known = unit(30, 16, seed=0).bfloat16().float()
    images = (known + 0.3 * torch.rand(9, 30, 1) * unit(9, 30, 16, seed=1)).mul(1.001).bfloat16().float()
    query = F.normalize(known + moved * unit(3, 30, 16, seed=3), dim=-1).bfloat16().float().flatten(0, 1)
    own, found = ((each @ images.mT).amax(-1) for each in (known, query))  # (9, 30), (9, 90)
    most = at_most(query, known, (1 - own).clamp_min(0), images.norm(dim=-1).amax(-1))
    assert (found <= most).all()
    if not moved:
        assert ((most - found)[:, own.amax(0).repeat(3) < 1] < 1e-5).all()


def test_photos_that_are_too_far_are_not_searched(monkeypatch):
    searched = []

    def counted(query: torch.Tensor, pool: torch.Tensor) -> torch.Tensor:
        searched.append(query.shape[1])
        return nearest_tokens(query, pool)

    monkeypatch.setattr(near_search, "nearest_tokens", counted)
    bank = PromptBank((unit(20, 30, 16, seed=0),), {}, {})
    search = NearSearch.of(bank, [bank.features[0][7]])
    search.nearest([bank.features[0][7:8]])
    assert sum(searched) == 30  # each patch in one photo of 20


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"storage": "int8", "calibration": "split", "false_alarm_rate": 0.3},
        {"view": View(tile=48)},
        {"view": View(tile=48, same_place="only")},
        {"view": View(tile=48, same_place=True)},
    ],
    ids=["whole", "split", "tiles", "own place", "neighbours"],
)
def test_a_photo_is_compared_with_the_others_however_it_is_looked_at(detector, good, options):
    profile = InspectionProfile.fit(detector, good[:12], **({"false_alarm_rate": 0.1} | options), verdict=False)
    sample = sampled_again(detector.reader, profile.features.photos, profile.view, 0)
    bank = profile.compared_bank(detector)
    chosen = {photo.role: photo for photo in profile.features.photos if photo.digest in sample.tiles}
    for photo in chosen.values():
        tile, pixels = sample.tiles[photo.digest]
        own = frozenset(range(*photo.rows))
        others = bank_for(bank.without(own), tile)
        changed = torch.cat([pixels, pixels.roll(3, -1), -pixels])
        tokens = [unit_patch_tokens(layer) for layer in encode(detector.model, changed).patch_embeds]
        found = bank.near_photo(profile.features, photo.rows, tile, own).nearest(tokens)
        for layer, (query, pool) in enumerate(zip(tokens, others.pools(), strict=True)):
            nearest = torch.cat([each.features[layer] for each in found])
            exact = cosine_distance(query, nearest_tokens(query, pool))
            torch.testing.assert_close(cosine_distance(query, nearest), exact, rtol=0, atol=1e-6)
        for each in found:
            assert (each.variation is None) == (others.variation is None)
            if each.variation is not None:
                torch.testing.assert_close(each.variation.tensors(), others.variation.tensors())
