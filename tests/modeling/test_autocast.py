"""Under autocast the encoder and the adapters compute in half precision; what follows does not."""

import pytest
import torch
from torch.testing import assert_close

from adaptclip_hf.modeling.coreset import greedy_coreset


@pytest.fixture
def pixels():
    return torch.randn(2, 3, 84, 84), torch.randn(3, 3, 84, 84)


def autocast():
    return torch.autocast("cpu", torch.bfloat16)


@pytest.mark.works("Dtypes and devices", "`torch.autocast`: scores and maps stay in float32")
@pytest.mark.parametrize("settings", [{}, {"few_shot_adapters": False}, {"normal_variation": True}])
def test_outputs_are_in_float32(make_model, pixels, settings):
    model, (query, normal) = make_model(**settings), pixels
    with torch.no_grad():
        exact = model(query, prompt_bank=model.encode_prompts(normal))
        with autocast():
            bank = model.encode_prompts(normal)
            output = model(query, prompt_bank=bank)
            zero_shot = model(query)
    assert bank.features[0].dtype == torch.float32
    for each in (output, zero_shot):
        assert each.anomaly_scores.dtype == each.anomaly_maps.dtype == torch.float32
        assert each.anomaly_maps.unique().numel() > 0.5 * exact.anomaly_maps.unique().numel()
    assert_close(output.anomaly_maps, exact.anomaly_maps, rtol=0.2, atol=0.02)


@pytest.mark.parametrize("variation", [False, True])
def test_what_has_no_weights_is_the_same_to_the_bit(make_model, pixels, variation):
    model, (query, normal) = make_model(few_shot_adapters=False, normal_variation=variation), pixels
    with torch.no_grad():
        features, bank = model.image_features(query), model.encode_prompts(normal)
        exact = model(image_features=features, prompt_bank=bank)
        with autocast():
            again = bank.with_variation() if variation else bank
            output = model(image_features=features, prompt_bank=again)
            chosen = greedy_coreset(bank.features, 2)
    assert output.anomaly_maps.equal(exact.anomaly_maps) and output.anomaly_scores.equal(exact.anomaly_scores)
    assert chosen == greedy_coreset(bank.features, 2)


def test_text_that_is_kept_does_not_depend_on_the_call_that_needs_it_first(make_model, tokenizer):
    texts = []
    for first in (autocast(), torch.no_grad()):
        model = make_model()
        with torch.no_grad(), first:
            model.encode_text()
            model.set_object_name("leather", tokenizer)
        with torch.no_grad():
            texts.append(model.encode_text())
    assert texts[0].learned.equal(texts[1].learned) and texts[0].static.equal(texts[1].static)


def test_a_model_in_half_precision_runs_under_autocast(make_model, pixels):
    model, (query, normal) = make_model(normal_variation=True).to(torch.bfloat16), pixels
    with torch.no_grad(), autocast():
        output = model(query, prompt_bank=model.encode_prompts(normal))
    assert output.anomaly_scores.dtype == torch.float32 and output.anomaly_scores.isfinite().all()


@pytest.mark.works("Trainer and Accelerate", "`bf16=True`")
def test_the_loss_of_a_step_under_autocast(make_model, pixels):
    model, (query, normal) = make_model().train(), pixels
    with autocast():
        output = model(query, prompt_pixel_values=normal[:2, None], labels=torch.tensor([0, 1]))
    output.loss.backward()
    assert output.loss.dtype == torch.float32 and output.loss.isfinite()
