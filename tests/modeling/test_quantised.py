"""Weights that torchao quantised, which are made of several tensors."""

import pytest
import torch
from torch.testing import assert_close
from transformers import TorchAoConfig

from adaptclip_hf import AdaptCLIPModel, AdaptCLIPProcessor, AnomalyDetector

quantization = pytest.importorskip("torchao.quantization", reason="torchao is not installed: `make test` has it")
Float8WeightOnlyConfig, Int8WeightOnlyConfig = quantization.Float8WeightOnlyConfig, quantization.Int8WeightOnlyConfig


@pytest.fixture(params=["loaded", "in memory"])
def quantised(request, small_folder):
    if request.param == "loaded":
        return AdaptCLIPModel.from_pretrained(small_folder, quantization_config=TorchAoConfig(Int8WeightOnlyConfig()))
    model = AdaptCLIPModel.from_pretrained(small_folder)
    quantization.quantize_(model.clip, Int8WeightOnlyConfig())
    return model


@pytest.mark.works("Quantisation", "torchao's `Int8WeightOnlyConfig`")
def test_a_quantised_model_scores_nearly_as_before(quantised, small_model, small_folder, photos):
    query, normal = torch.randn(2, 3, 84, 84), torch.randn(2, 3, 84, 84)
    with torch.no_grad():
        outputs = [model(query, prompt_bank=model.encode_prompts(normal)) for model in (small_model, quantised)]
    assert_close(outputs[1].anomaly_scores, outputs[0].anomaly_scores, rtol=0, atol=0.02)
    detector = AnomalyDetector(quantised, AdaptCLIPProcessor.from_pretrained(small_folder))
    bank = detector.remember(photos["normal"])
    assert 0 <= detector.detect(photos["bad"][0], prompt_bank=bank)[0].score <= 1


@pytest.mark.works("Quantisation", "banks of a quantised encoder are told from others")
def test_a_quantised_encoder_has_a_fingerprint_of_its_own(quantised, small_model):
    before = quantised.fingerprint(), quantised.fingerprint(sampled=True), quantised.weights_digest()
    assert before[0] == before[1] and before[0] != small_model.fingerprint()
    with torch.no_grad():
        quantised.clip.vision_model.encoder.layers[0].self_attn.q_proj.weight.qdata[0].neg_()
    assert quantised.fingerprint(sampled=True) != before[1] and quantised.weights_digest() != before[2]


@pytest.mark.works("Quantisation", "torchao's `Float8WeightOnlyConfig`")
def test_float8_weights_are_hashed_and_looked_at(small_folder):
    quantised = AdaptCLIPModel.from_pretrained(
        small_folder, quantization_config=TorchAoConfig(Float8WeightOnlyConfig())
    )
    weight = quantised.clip.vision_model.encoder.layers[0].self_attn.q_proj.weight
    before = quantised.fingerprint(sampled=True)
    with torch.no_grad():
        bank = quantised.encode_prompts(torch.randn(2, 3, 84, 84))
        assert quantised(torch.randn(2, 3, 84, 84), prompt_bank=bank).anomaly_scores.isfinite().all()
        weight.qdata.view(torch.int8)[0].bitwise_not_()
    assert quantised.fingerprint(sampled=True) != before


def test_a_quantised_model_is_not_saved_as_what_cannot_be_loaded(quantised, tmp_path):
    with pytest.raises(ValueError, match="quantise it when it is loaded"):
        quantised.save_pretrained(tmp_path / "out")
    assert not (tmp_path / "out").exists()
