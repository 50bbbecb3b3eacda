"""A large pool in groups: what is found is what the plain search finds, or nearly as near, and never damage."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from adaptclip_hf import PromptBank
from adaptclip_hf.modeling import prompt_bank, token_groups
from adaptclip_hf.modeling.alignment import cosine_distance, nearest_tokens
from adaptclip_hf.modeling.token_groups import GroupedLayers, TokenGroups, arranged

SIZE, PLACES = 24, 16


def tokens_of(count: int, seed: int = 0, kinds: int = 40, spread: float = 0.3) -> torch.Tensor:
    """(N, d) unit tokens of some kinds of patch, as those of photos of one part are."""
    generator = torch.Generator().manual_seed(seed)
    kind = F.normalize(torch.randn(kinds, SIZE, generator=torch.Generator().manual_seed(99)), dim=-1)
    drawn = torch.randint(kinds, (count,), generator=generator)
    return F.normalize(kind[drawn] + spread * torch.randn(count, SIZE, generator=generator) / SIZE**0.5, dim=-1)


def groups_of(tokens: torch.Tensor) -> TokenGroups:
    return arranged(tokens)[1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_found_is_as_near_as_what_the_plain_search_finds(dtype):
    pool, query = tokens_of(9000).to(dtype), tokens_of(300, 1).to(dtype)[None]
    best = cosine_distance(query, nearest_tokens(query.float(), pool.float()))
    found = cosine_distance(query, nearest_tokens(query, groups_of(pool)))
    assert (found >= best - 1e-6).all() and (found - best < 1e-6).float().mean() > 0.97
    assert (found - best).mean() < 0.003 * best.mean()


def test_every_token_finds_itself():
    pool = tokens_of(9000)
    found = nearest_tokens(pool[None], groups_of(pool))[0]
    assert cosine_distance(found, pool).max() < 1e-6


def test_few_groups_are_all_searched_and_exact():
    pool, query = tokens_of(token_groups.TOKENS_A_GROUP * token_groups.GROUPS_SEARCHED), tokens_of(200, 1)[None]
    assert torch.equal(nearest_tokens(query, groups_of(pool)), nearest_tokens(query, pool))


@pytest.mark.parametrize(
    "pool",
    [
        tokens_of(1),
        tokens_of(7),
        tokens_of(1).expand(5000, -1),
        tokens_of(3).repeat(2000, 1),
        torch.cat([tokens_of(5000), tokens_of(1, 5).expand(20000, -1)]),
        torch.cat([tokens_of(4000), -tokens_of(4000)]),
    ],
    ids=["one", "seven", "all equal", "three repeated", "one repeated often", "opposite ones"],
)
def test_pools_of_every_kind(pool, monkeypatch):
    monkeypatch.setattr("adaptclip_hf.modeling.alignment.SIMILARITIES_AT_ONCE", 2**16)
    query = torch.cat([pool[:50], tokens_of(100, 3)])[None]
    best = cosine_distance(query, nearest_tokens(query, pool))
    found = cosine_distance(query, nearest_tokens(query, groups_of(pool)))
    assert (found - best < 1e-6).float().mean() > 0.9 and (found[:, : len(pool[:50])] < 1e-6).all()


def test_a_token_is_found_whatever_it_is_asked_with_and_on_however_many_threads():
    pool, query = tokens_of(9000), tokens_of(64, 1)
    groups, threads = groups_of(pool), torch.get_num_threads()
    together = nearest_tokens(query.view(4, 16, -1), groups)
    for row, alone in zip(query.view(4, 16, -1), together, strict=True):
        assert torch.equal(nearest_tokens(row[None], groups)[0], alone)
    torch.set_num_threads(threads + 1)
    try:
        assert torch.equal(nearest_tokens(query.view(4, 16, -1), groups_of(pool)), together)
    finally:
        torch.set_num_threads(threads)


def test_a_query_that_is_no_number_has_no_distance():
    query, groups = tokens_of(20, 1)[None], groups_of(tokens_of(9000))
    query[0, 3] = torch.nan
    distances = cosine_distance(query, nearest_tokens(query, groups))[0]
    assert distances.isnan().tolist() == [number == 3 for number in range(20)]


def test_pools_for_each_query_may_be_in_groups_or_not():
    one, other, query = tokens_of(6000), tokens_of(50, 2), tokens_of(20, 1).view(2, 10, -1)
    found = nearest_tokens(query, [groups_of(one), other])
    assert torch.equal(found[0], nearest_tokens(query[:1], groups_of(one))[0])
    assert torch.equal(found[1], nearest_tokens(query[1:], other)[0])


def test_joined_pools_find_the_nearest_of_all():
    parts, query = [tokens_of(700, seed) for seed in range(3)], tokens_of(50, 9)[None]
    joined = TokenGroups.joined([groups_of(part) for part in parts])
    assert torch.equal(nearest_tokens(query, joined), nearest_tokens(query, torch.cat(parts)))


def test_a_gradient_flows_as_in_the_plain_search():
    pool, query = tokens_of(900), tokens_of(20, 1)[None]
    slopes = []
    for each in (pool, groups_of(pool)):
        asked = query.clone().requires_grad_()
        cosine_distance(asked, nearest_tokens(asked, each)).sum().backward()
        slopes.append(asked.grad)
    assert torch.equal(*slopes)


def bank_of(images: int) -> PromptBank:
    layers = tuple(tokens_of(images * PLACES, seed).view(images, PLACES, SIZE) for seed in range(2))
    return PromptBank(layers, {}, {}).with_variation()


def test_a_large_bank_is_grouped_and_a_small_one_stays_as_it_is(monkeypatch):
    monkeypatch.setattr(prompt_bank, "LARGE", 20 * PLACES)
    small, large = bank_of(19), bank_of(20)
    assert small.in_groups() is small and small.searched()[0].data_ptr() == small.features[0].data_ptr()
    ready = large.in_groups()
    assert ready.is_grouped and all(isinstance(pool, TokenGroups) for pool in ready.searched())
    assert ready.variation is large.variation and not large.is_grouped
    for layer, own, pool in zip(ready.features, large.features, ready.searched(), strict=True):
        assert layer.shape == own.shape and layer.data_ptr() == pool.groups[0].data_ptr()  # no second copy
        assert torch.equal(layer.flatten(0, 1).sort(0).values, own.flatten(0, 1).sort(0).values)


def test_groups_serve_the_features_that_they_were_made_of_alone(monkeypatch):
    monkeypatch.setattr(prompt_bank, "LARGE", 1)
    ready = bank_of(5).in_groups()
    assert ready.to("cpu", torch.float32).is_grouped and replace(ready, variation=None).is_grouped
    for other in (
        ready.to("cpu", torch.float64),
        replace(ready, features=tuple(layer[:2] for layer in ready.features)),
        replace(ready, features=tuple(layer.clone() for layer in ready.features)),
        ready.select([0, 1], ready.variation),
    ):
        assert not other.is_grouped and isinstance(other.searched()[0], torch.Tensor)
    with_others = replace(ready, added=ready.pools(), added_of=(torch.zeros(80, dtype=torch.int64),) * 2)
    assert not with_others.is_grouped and len(with_others.searched()[0]) == 160


def test_grouped_layers_know_their_own():
    layers = bank_of(3).features
    grouped = GroupedLayers.of(layers)
    assert grouped.belongs_to(grouped.layers) and not grouped.belongs_to(grouped.layers[:1])
    assert not grouped.belongs_to(layers)


def test_a_large_pool_takes_a_part_of_the_products(monkeypatch):
    products, search = [], token_groups.most_similar
    monkeypatch.setattr(token_groups, "most_similar", lambda a, b: products.append(len(a) * len(b)) or search(a, b))
    pool, query = tokens_of(60000), tokens_of(100, 1)
    nearest_tokens(query[None], groups_of(pool))
    assert 0 < sum(products) < 0.15 * len(pool) * len(query)
