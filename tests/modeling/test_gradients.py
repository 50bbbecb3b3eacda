"""Gradients go wherever they are asked for: to weights of the image tower, to pixels; and nowhere else."""

from copy import deepcopy

import pytest
import torch


@pytest.fixture
def pixels():
    return torch.randn(2, 3, 84, 84), torch.randn(2, 3, 84, 84)


def test_frozen_models_record_nothing_for_the_encoder(small_model, pixels):
    query, normal = pixels
    output = small_model(query, prompt_bank=small_model.encode_prompts(normal))
    assert not small_model.image_features(query).image_embeds.requires_grad
    assert not output.anomaly_scores.requires_grad and not output.anomaly_maps.requires_grad


@pytest.mark.works("PEFT and gradients", "unfreezing the image tower")
def test_weights_of_the_tower_get_a_gradient_by_the_loss(make_model, pixels):
    query, normal = pixels
    model = make_model()
    model.requires_grad_(False)
    weight = model.clip.vision_model.encoder.layers[0].self_attn.q_proj.weight.requires_grad_(True)
    output = model.train()(query, prompt_pixel_values=normal[:, None], labels=torch.tensor([0, 1]))
    output.loss.backward()
    assert weight.grad.isfinite().all() and weight.grad.abs().max() > 0
    assert not output.anomaly_scores.requires_grad


@pytest.mark.works("PEFT and gradients", "gradients of scores with respect to `pixel_values`")
@pytest.mark.parametrize("settings", [{}, {"few_shot_adapters": False}, {"normal_variation": True}])
@pytest.mark.parametrize("itself", [False, True])
def test_pixels_get_a_gradient_of_the_scores(make_model, pixels, settings, itself):
    query, normal = pixels
    model = make_model(**settings)
    bank = model.encode_prompts(torch.cat([normal, query[:1]]) if itself else normal)
    expected = model(query, prompt_bank=bank)
    query.requires_grad_(True)
    output = model(query, prompt_bank=bank)
    assert output.anomaly_scores.equal(expected.anomaly_scores) and output.anomaly_maps.equal(expected.anomaly_maps)
    output.anomaly_scores.sum().backward()
    assert query.grad.isfinite().all() and query.grad[1].abs().max() > 0
    [of_map] = torch.autograd.grad(model(query).anomaly_maps.sum(), query)
    assert of_map.isfinite().all() and of_map.abs().max() > 0


def test_a_bank_of_a_trained_tower_holds_values_alone(make_model, pixels, tmp_path):
    query, normal = pixels
    model = make_model(normal_variation=True)
    model.clip.vision_model.requires_grad_(True)
    bank = model.encode_prompts(normal)
    assert not any(each.requires_grad for each in (*bank.features, *bank.variation.tensors().values()))
    deepcopy(bank).save_pretrained(tmp_path)
    for _ in range(2):  # as often as one likes
        model.train()(query, prompt_bank=bank, labels=torch.tensor([0, 1])).loss.backward()
