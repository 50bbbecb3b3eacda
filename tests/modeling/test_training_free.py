"""What needs no training: CLIP's static prompts and alignment alone, on any CLIP, and adapters nobody trained."""

import json

import pytest
import torch
from torch.nn import functional as F
from transformers import CLIPModel

from adaptclip_hf import AdaptCLIPModel, AdaptCLIPProcessor, AnomalyDetector
from adaptclip_hf.ablations import TABLE_5
from adaptclip_hf.cli import main
from adaptclip_hf.modeling import modeling_adaptclip
from adaptclip_hf.modeling.fusion import gaussian_filter


@pytest.fixture
def clip_folder(make_model, tokenizer, tmp_path):
    make_model().clip.save_pretrained(tmp_path / "clip")
    tokenizer.save_pretrained(tmp_path / "clip")
    return tmp_path / "clip"


@pytest.fixture
def fresh(clip_folder):
    return AdaptCLIPModel.from_clip_pretrained(clip_folder, image_size=84)


def pixel_values(count: int, seed: int = 0, size: int = 84) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def by_hand(model: AdaptCLIPModel, queries: torch.Tensor, normals: torch.Tensor):
    """Map and score of each query from CLIP's own embeddings, one patch at a time."""
    features, grid, size = model.image_features(queries), model.config.grid_size, model.config.image_size
    normal, text = model.image_features(normals), model.static_text_embeds

    def resize(values):
        return F.interpolate(values.view(1, 1, grid, grid), (size, size), mode="bilinear")[0, 0]

    found = []
    for index in range(len(queries)):
        layers = []
        for query, others in zip(features.patch_embeds, normal.patch_embeds, strict=True):
            memory = others[:, 1:].flatten(0, 1)
            distances = [1 - F.cosine_similarity(patch[None], memory).max() for patch in query[index, 1:]]
            layers.append(resize(torch.stack(distances)))
        logits = F.cosine_similarity(features.patch_embeds[-1][index, 1:, None], text[None], dim=-1) / 0.07
        prompts = resize(logits.softmax(-1)[:, 1])
        image = (F.cosine_similarity(features.image_embeds[index][None], text) / 0.07).softmax(0)[1]
        aligned = len(layers) / sum(1 / layer for layer in layers)
        anomaly_map = gaussian_filter((2 / (1 / prompts + 1 / aligned))[None], model.config.smoothing_sigma)[0]
        found.append((anomaly_map, 2 / (1 / image + 1 / anomaly_map.max())))
    maps, scores = zip(*found, strict=True)
    return torch.stack(maps), torch.stack(scores)


def test_few_shot_by_alignment_alone_is_what_is_computed_by_hand(fresh):
    queries, normals = pixel_values(2), pixel_values(3, 1)
    with torch.no_grad():
        output = fresh(queries, prompt_bank=fresh.encode_prompts(normals))
    maps, scores = by_hand(fresh, queries, normals)
    torch.testing.assert_close(output.anomaly_maps, maps, atol=1e-5, rtol=0)
    torch.testing.assert_close(output.anomaly_scores, scores, atol=1e-5, rtol=0)


def test_untrained_adapters_never_score_and_say_so(fresh, clip_folder, monkeypatch):
    without = AdaptCLIPModel.from_clip_pretrained(clip_folder, image_size=84, **TABLE_5["clip"])
    queries, bank = pixel_values(2), fresh.encode_prompts(pixel_values(3, 1))
    said = []
    monkeypatch.setattr(modeling_adaptclip.logger, "warning_once", said.append)
    with torch.no_grad():
        outputs = [model(queries, prompt_bank=given) for model in (fresh, without) for given in (None, bank)]
    assert fresh.untrained_adapters() == {"visual_adapter", "textual_adapter", "prompt_query_adapter"}
    assert len(said) == 2 and "prompt_query_adapter, textual_adapter, visual_adapter" in said[0]
    assert torch.equal(outputs[0].anomaly_maps, outputs[2].anomaly_maps)
    assert torch.equal(outputs[1].anomaly_scores, outputs[3].anomaly_scores)
    losses = fresh(queries, prompt_bank=bank, labels=torch.tensor([0, 1])).losses
    assert set(losses) == {"visual", "textual", "prompt_query"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_it_is_known_after_saving_and_in_any_dtype(fresh, tmp_path, dtype):
    fresh.save_pretrained(tmp_path / "model")
    again = AdaptCLIPModel.from_pretrained(tmp_path / "model", dtype=dtype)
    assert again.untrained_adapters() == fresh.untrained_adapters()


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD])
def test_any_training_loop_makes_it_a_trained_model(fresh, tmp_path, optimizer):
    queries, prompts = pixel_values(4), pixel_values(4, 1).unsqueeze(1)
    with torch.no_grad():
        before = fresh(queries, prompts)
    learned = [each for each in fresh.parameters() if each.requires_grad]
    steps = optimizer(learned, lr=1e-2)
    fresh.train()(queries, prompts, labels=torch.tensor([0, 1, 0, 1])).loss.backward()
    steps.step()
    fresh.eval()
    assert not fresh.untrained_adapters()
    with torch.no_grad():
        after = fresh(queries, prompts)
    assert not torch.equal(before.anomaly_maps, after.anomaly_maps)
    fresh.save_pretrained(tmp_path / "model")
    assert json.loads((tmp_path / "model" / "config.json").read_text()).get("fresh_adapters") is None


def test_one_trained_adapter_scores_beside_alignment(fresh):
    with torch.no_grad():
        next(fresh.visual_adapter.parameters()).add_(0.1)
        bank = fresh.encode_prompts(pixel_values(1, 1))
        outputs = [fresh(pixel_values(1), prompt_bank=given, output_details=True) for given in (None, bank)]
    assert fresh.untrained_adapters() == {"textual_adapter", "prompt_query_adapter"}
    assert "visual_logits" in outputs[1].details and "clip_logits" not in outputs[1].details
    assert not torch.equal(outputs[0].anomaly_maps, outputs[1].anomaly_maps)


def test_the_mean_of_prompts_and_alignment(fresh):
    fresh.config.score_fusion = "mean"
    bank = fresh.encode_prompts(pixel_values(1, 1))
    with torch.no_grad():
        zero_shot = fresh(pixel_values(2))
        few_shot = fresh(pixel_values(2), prompt_bank=bank, output_details=True)
    average = few_shot.details["alignment_maps"].mean(0)
    torch.testing.assert_close(few_shot.anomaly_maps, (zero_shot.anomaly_maps + average) / 2)
    torch.testing.assert_close(few_shot.anomaly_scores, (zero_shot.anomaly_scores + average.amax((1, 2))) / 2)


@pytest.mark.works("Compile and export", "`torch.compile` of a model")
def test_compiled_it_scores_the_same(fresh):
    bank = fresh.encode_prompts(pixel_values(1, 1))
    with torch.no_grad():
        expected = fresh(pixel_values(2), prompt_bank=bank).anomaly_scores
        compiled = torch.compile(fresh, backend="eager")
        found = compiled(pixel_values(2), prompt_bank=bank).anomaly_scores
        torch.testing.assert_close(found, expected)
        for adapter in fresh.adapters().values():
            next(adapter.parameters()).add_(0.1)
        found = compiled(pixel_values(2), prompt_bank=bank).anomaly_scores
        torch.testing.assert_close(found, fresh(pixel_values(2), prompt_bank=bank).anomaly_scores)
    assert not torch.equal(found, expected)


def test_a_plain_clip_by_its_folder(clip_folder, photos, tmp_path, capsys):
    detector = AnomalyDetector.from_pretrained(clip_folder)
    assert detector.describe()["prompt_query_adapter"] is False
    normals, [query, *_] = photos["normal"][:2], photos["good"]
    output = tmp_path / "out"
    call = ["detect", query, "--model", str(clip_folder), "--normal", *normals]
    assert main([*call, "--output", str(output), "--quiet"]) == 0
    [line] = map(json.loads, (output / "results.jsonl").read_text().splitlines())
    [result] = detector.detect(query, prompt_bank=detector.remember(normals))
    assert line["score"] == pytest.approx(result.score, abs=1e-6)


def test_a_profile_of_a_plain_clip_decides_when_it_is_loaded_again(clip_folder, photos, tmp_path, capsys):
    normals = [*photos["normal"], *photos["good"]]
    fit = ["fit", "--no-verdict", "--normal", *normals, "--false-alarm-rate", "0.5", "--model", str(clip_folder)]
    assert main([*fit, "--output", str(tmp_path / "profile"), "--quiet"]) == 0
    digests = [AnomalyDetector.from_pretrained(clip_folder).model.weights_digest() for _ in range(2)]
    assert digests[0] == digests[1]
    call = ["detect", photos["bad"][0], "--profile", str(tmp_path / "profile"), "--output", str(tmp_path / "out")]
    assert main([*call, "--quiet"]) == 0, capsys.readouterr().err


def test_what_was_never_trained_is_not_exported(fresh, tokenizer, tmp_path, capsys):
    fresh.save_pretrained(tmp_path / "model")
    AdaptCLIPProcessor.for_model(fresh.config, tokenizer).save_pretrained(tmp_path / "model")
    call = ["export", "--model", str(tmp_path / "model"), "--output", str(tmp_path / "exported")]
    assert main(call) == 1
    assert "never trained" in capsys.readouterr().err and not (tmp_path / "exported").exists()


def test_a_clip_given_by_hand_is_left_as_it_is(make_model, tokenizer):
    clip = make_model().clip
    before = {name: tensor.clone() for name, tensor in clip.state_dict().items()}
    model = AdaptCLIPModel.from_clip_pretrained(clip, tokenizer, image_size=84)
    assert isinstance(model.clip, CLIPModel)
    assert all(torch.equal(tensor, before[name]) for name, tensor in clip.state_dict().items())
