"""Banks that grow, shrink, and are kept in fewer bytes."""

import pytest
import torch
from torch.nn import functional as F

from adaptclip_hf import PromptBank
from adaptclip_hf.modeling.fingerprint import contents_key

FINGERPRINT = "adaptclip_hf.modeling.pretrained_adaptclip.contents_key"
MADE_BY = {"weights": "1234"}, {"size": "84"}


def bank(count: int, seed: int = 0, clusters: int | None = None) -> PromptBank:
    """Unit tokens of so many images; with clusters, each image near the centre of one of them."""
    generator = torch.Generator().manual_seed(seed)
    layers = []
    for _ in range(2):
        tokens = torch.randn(count, 9, 32, generator=generator)
        if clusters:
            centres = torch.randn(clusters, 9, 32, generator=generator)
            tokens = centres[torch.arange(count) % clusters] + 0.05 * tokens
        layers.append(F.normalize(tokens, dim=-1))
    return PromptBank(tuple(layers), *MADE_BY)


def test_append_and_drop():
    one, other = bank(3), bank(2, seed=1)
    both = one.append(other)
    assert len(both) == 5 and both.drop([3, 4]) == one and both.drop([0, 1, 2]) == other
    assert len(one) == 3  # a bank does not change
    for wrong in ([5], [-1]):
        with pytest.raises(ValueError, match=r"no image .* they are 0 to 4"):
            both.drop(wrong)
    with pytest.raises(ValueError, match="at least one image"):
        both.drop(range(5))
    with pytest.raises(ValueError, match="made by another model"):
        one.append(PromptBank(other.features, {"weights": "999"}, {"size": "84"}))


def test_reduced_banks_cover_what_there_is():
    whole = bank(40, clusters=5)
    reduced = whole.reduce(5)
    chosen = [
        next(index for index in range(40) if torch.equal(whole.features[0][index], layer))
        for layer in reduced.features[0]
    ]
    assert chosen == sorted(chosen) and {index % 5 for index in chosen} == set(range(5))  # one of each cluster
    assert whole.reduce(5) == reduced and whole.reduce(40) is whole and whole.reduce(99) is whole
    nested = whole.reduce(3)
    assert all(any(torch.equal(layer, other) for other in reduced.features[0]) for layer in nested.features[0])
    with pytest.raises(ValueError, match="at least one image"):
        whole.reduce(0)


def test_a_coreset_covers_better_than_chance():
    whole = bank(60, clusters=12)

    def farthest(part: PromptBank) -> float:
        similarity = whole.features[0].flatten(0, 1) @ part.features[0].flatten(0, 1).T
        return float((1 - similarity.amax(1)).max())

    chance = [farthest(whole.select(torch.randperm(60)[:12].tolist())) for _ in range(10)]
    assert farthest(whole.reduce(12)) < 0.5 * min(chance)


@pytest.mark.parametrize(
    ("storage", "share", "error"), [("float32", 1, 0), ("float16", 0.5, 3e-4), ("int8", 0.28, 4e-3)]
)
def test_stored_in_fewer_bytes(storage, share, error, tmp_path):
    one = bank(20)
    plain = one.save_pretrained(tmp_path / "plain.safetensors").stat().st_size
    file = one.save_pretrained(tmp_path / "small.safetensors", storage=storage)
    again = PromptBank.from_pretrained(file)
    assert file.stat().st_size < share * plain + 500
    assert (again.fingerprint, again.preprocessing) == MADE_BY
    for before, after in zip(one.features, again.features, strict=True):
        assert (before - after.float()).abs().max() <= error
        assert after.float().norm(dim=-1).sub(1).abs().max() < 1e-3
    with pytest.raises(ValueError, match="no storage 'int4'"):
        one.save_pretrained(tmp_path / "no.safetensors", storage="int4")
    assert not (tmp_path / "no.safetensors").exists()


def test_a_device_is_not_asked_for_weights_that_torch_has_not_counted_as_changed(make_model, monkeypatch):
    model, pixels = make_model(), torch.randn(1, 3, 84, 84)
    known, read = model.encode_prompts(pixels), []
    monkeypatch.setattr(type(model), "_reads_at_once", lambda self: False)  # as on a GPU
    monkeypatch.setattr(FINGERPRINT, lambda *parts, **how: read.append(how) or contents_key(*parts, **how))
    weight = model.clip.visual_projection.weight

    def score() -> int:
        """How often weights were read for a few-shot score."""
        read.clear()
        with torch.no_grad():
            model(image_features=features, prompt_bank=known, text_embeds=text)
        return sum("every" in how for how in read)

    with torch.no_grad():
        features, text = model.image_features(pixels), model.encode_text()
    assert not weight.requires_grad
    assert (score(), score(), score()) == (1, 0, 0)
    weight.requires_grad_(True)  # it is trained: a fused optimiser's step would not be counted
    assert (score(), score()) == (1, 1)
    weight.requires_grad_(False)
    with torch.no_grad():
        weight.add_(1.0)
    with pytest.raises(ValueError, match="another model"):
        score()
    with torch.no_grad():
        weight.sub_(1.0)
    model.clip.visual_projection.weight = torch.nn.Parameter(weight + 1.0, requires_grad=False)
    with pytest.raises(ValueError, match="another model"):
        score()
