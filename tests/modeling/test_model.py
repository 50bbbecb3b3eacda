"""The model on its own: saving and loading, attention, batches, precision, ablations, backbones."""

import json
import warnings

import pytest
import torch
from safetensors import safe_open
from torch.testing import assert_close
from transformers import AutoConfig, AutoModel, CLIPConfig

from adaptclip_hf import AdaptCLIPConfig, AdaptCLIPModel
from adaptclip_hf.modeling import alignment, hooks
from adaptclip_hf.modeling.fusion import gaussian_filter, harmonic_mean, peak


def images(model, count, seed=0, prompts=None):
    size, generator = model.config.image_size, torch.Generator().manual_seed(seed)
    shape = (count, 3, size, size) if prompts is None else (count, prompts, 3, size, size)
    return torch.randn(shape, generator=generator)


@pytest.mark.works("Loading", "`save_pretrained` and `from_pretrained`, to the bit")
def test_save_load_save_is_bitwise_the_same(small_model, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small_model.save_pretrained(tmp_path / "one")
        loaded = AdaptCLIPModel.from_pretrained(tmp_path / "one")
        loaded.save_pretrained(tmp_path / "two")
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["SHA256SUMS", "config.json", "model.safetensors"]
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert isinstance(AutoModel.from_pretrained(tmp_path / "one"), AdaptCLIPModel)
    assert isinstance(AutoConfig.from_pretrained(tmp_path / "one"), AdaptCLIPConfig)
    pixel_values = images(small_model, 1)
    assert torch.equal(loaded(pixel_values).anomaly_maps, small_model(pixel_values).anomaly_maps)


def test_shared_heads_are_stored_once(small_folder):
    with safe_open(small_folder / "model.safetensors", "pt") as file:
        heads = [name for name in file.keys() if "segmentation_head" in name and name.endswith("0.weight")]
    assert heads == ["prompt_query_adapter.segmentation_head.0.weight"]


@pytest.mark.works("Dtypes and devices", "`attn_implementation`")
@torch.no_grad()
def test_eager_equals_sdpa(small_folder):
    outputs = []
    for implementation in ("eager", "sdpa"):
        model = AdaptCLIPModel.from_pretrained(small_folder, attn_implementation=implementation)
        assert model.clip.vision_model.config._attn_implementation == implementation
        outputs.append(model(images(model, 2), images(model, 2, 1, prompts=2)))
    assert_close(outputs[0].anomaly_maps, outputs[1].anomaly_maps, atol=1e-5, rtol=0)
    assert_close(outputs[0].anomaly_scores, outputs[1].anomaly_scores, atol=1e-5, rtol=0)


@torch.no_grad()
def test_batch_equals_one_by_one(small_model):
    pixel_values, bank = images(small_model, 3), small_model.encode_prompts(images(small_model, 2, 1))
    batch = small_model(pixel_values, prompt_bank=bank)
    single = [small_model(one[None], prompt_bank=bank) for one in pixel_values]
    assert_close(batch.anomaly_maps, torch.cat([each.anomaly_maps for each in single]), atol=1e-5, rtol=0)
    assert_close(batch.anomaly_scores, torch.cat([each.anomaly_scores for each in single]), atol=1e-5, rtol=0)


@torch.no_grad()
def test_bank_equals_prompts_of_each_query(small_model):
    pixel_values, normal = images(small_model, 2), images(small_model, 3, 1)
    shared = small_model(pixel_values, prompt_bank=small_model.encode_prompts(normal))
    each = small_model(pixel_values, normal.expand(2, -1, -1, -1, -1))
    assert_close(shared.anomaly_maps, each.anomaly_maps, atol=1e-6, rtol=0)


@torch.no_grad()
def test_features_encoded_once_score_the_same(small_model):
    pixel_values, bank = images(small_model, 2), small_model.encode_prompts(images(small_model, 2, 1))
    features = small_model.image_features(pixel_values)
    for arguments in ({}, {"prompt_bank": bank}):
        expected = small_model(pixel_values, **arguments)
        assert torch.equal(small_model(image_features=features, **arguments).anomaly_maps, expected.anomaly_maps)
    normal = images(small_model, 2, 1, prompts=3)
    expected = small_model(pixel_values, normal).anomaly_maps
    prompt_features = small_model.image_features(normal.flatten(0, 1))
    assert torch.equal(small_model(image_features=features, prompt_features=prompt_features).anomaly_maps, expected)
    with pytest.raises(ValueError, match="one of the two"):
        small_model()


@torch.no_grad()
def test_many_prompts_are_encoded_a_few_at_a_time(make_model, monkeypatch):
    model, seen = make_model(), []
    encode = model.image_features
    monkeypatch.setattr(model, "image_features", lambda pixels, *_: seen.append(len(pixels)) or encode(pixels))
    normal = images(model, 20, 1)
    shared = model(images(model, 1), prompt_bank=model.encode_prompts(normal))
    each = model(images(model, 1), normal[None])
    assert max(seen) <= 8 and sum(seen) == 42
    assert_close(shared.anomaly_maps, each.anomaly_maps, atol=1e-6, rtol=0)


@torch.no_grad()
def test_the_query_among_its_prompts_scores_zero(small_model):
    pixel_values = images(small_model, 1)
    output = small_model(pixel_values, prompt_bank=small_model.encode_prompts(pixel_values), output_details=True)
    assert output.details["alignment_maps"].max() < 1e-6
    assert output.anomaly_scores.item() < 1e-4 and output.anomaly_maps.max() < 1e-4


@torch.no_grad()
def test_search_over_many_prompts_is_chunked_and_exact(small_model, monkeypatch):
    query = torch.nn.functional.normalize(torch.randn(2, 9, 8), dim=-1)
    pool = torch.nn.functional.normalize(torch.randn(500, 8), dim=-1)
    whole = pool[(query.flatten(0, 1) @ pool.T).argmax(1)].view_as(query)
    seen = []
    monkeypatch.setattr(alignment, "SIMILARITIES_AT_ONCE", 18 * 7)
    original = torch.Tensor.__matmul__
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda a, b: seen.append(a.shape[0] * b.shape[1]) or original(a, b))
    assert torch.equal(alignment.nearest_tokens(query, pool), whole)
    assert max(seen) <= 18 * 7 and len(seen) == 72


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_tells_tokens_apart_that_are_much_alike(dtype):
    common = torch.randn(64)
    similar = (common + 0.3 * torch.randn(count, 64) for count in (200, 3000))
    query, pool = (torch.nn.functional.normalize(tokens, dim=-1).to(dtype) for tokens in similar)
    least = (1 - query.float() @ pool.float().T).amin(1)
    found = alignment.cosine_distance(query[None], alignment.nearest_tokens(query[None], pool))[0]
    assert (found - least).mean() < 0.002 * least.mean()  # rounded products near one lose 0.02 of it


def count_text_runs(model, monkeypatch):
    runs = []
    forward = model.clip.text_model.encoder.forward
    monkeypatch.setattr(model.clip.text_model.encoder, "forward", lambda *a, **k: runs.append(1) or forward(*a, **k))
    return runs


@torch.no_grad()
def test_text_embeddings_are_a_value(make_model, tokenizer, monkeypatch):
    model, query = make_model(), images(make_model(), 1)
    runs = count_text_runs(model, monkeypatch)
    text = model.encode_text("bottle", tokenizer)
    assert len(runs) == 3 and model.config.object_name == "object"  # two static classes and the learned prompts
    scores = {model(query, text_embeds=text).anomaly_scores.item() for _ in range(3)}
    assert len(runs) == 3 and len(scores) == 1
    assert model(query).anomaly_scores.item() not in scores
    model.set_object_name("bottle", tokenizer)
    assert model.config.object_name == "bottle" and model(query).anomaly_scores.item() == scores.pop()
    with pytest.raises(ValueError, match=r"needs the CLIP's tokenizer"):
        model.encode_text("screw")
    with torch.enable_grad():
        model.train()(images(model, 2), labels=torch.tensor([0, 1])).loss.backward()


WRITERS = {
    "a fused optimiser": lambda weight: torch.optim.AdamW([weight], lr=0.1, fused=True).step(),
    "data.copy_": lambda weight: weight.data.copy_(torch.randn_like(weight)),
    "in place": lambda weight: weight.data.mul_(1.5),
    "one value": lambda weight: weight.data.view(-1)[7].add_(1),
    "numpy": lambda weight: weight.detach().numpy().fill(0.1),
    "replaced": lambda weight: setattr(weight, "data", torch.randn_like(weight)),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_weights_that_change_uncounted_are_seen(make_model, writer):
    """Text embeddings and banks are of the weights as they are, however they were written."""
    query = images(make_model(), 1)

    def write(weight):
        weight.requires_grad_().grad = torch.randn_like(weight)
        WRITERS[writer](weight)
        weight.requires_grad_(False)

    for name in ("textual_adapter.anomalous_prompt", "clip.visual_projection.weight"):
        model = make_model()
        bank = model.encode_prompts(images(model, 2, 1))
        with torch.no_grad():
            before = model(query, prompt_bank=bank).anomaly_scores
        write(model.get_parameter(name))
        with torch.no_grad():
            if name.startswith("clip"):
                with pytest.raises(ValueError, match="weights is"):
                    model(query, prompt_bank=bank)
            else:
                assert not torch.equal(model(query, prompt_bank=bank).anomaly_scores, before)


def test_training_steps_of_the_default_optimiser_are_seen_by_the_scores(make_model):
    model, query = make_model(), images(make_model(), 2)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05, fused=True)
    with torch.no_grad():
        before = model(query).anomaly_scores
    for _ in range(3):
        model.train()(query, labels=torch.tensor([0, 1])).loss.backward()
        optimizer.step()
    with torch.no_grad():
        after = model.eval()(query).anomaly_scores
        expected = model(query, text_embeds=model.encode_text()).anomaly_scores
    assert torch.equal(after, expected) and not torch.equal(after, before)


def test_no_second_clip_is_built(make_model, clip_folder, monkeypatch):
    from transformers import CLIPModel

    built, original = [], CLIPModel.__init__

    def count(self, *arguments, **more):
        built.append(torch.empty(0).device.type)
        original(self, *arguments, **more)

    monkeypatch.setattr(CLIPModel, "__init__", count)
    model = AdaptCLIPModel.from_clip_pretrained(clip_folder, image_size=84)
    assert built == ["meta"]
    clip = model.clip
    assert AdaptCLIPModel(model.config, clip).clip is clip and len(built) == 1
    expected = CLIPModel.from_pretrained(clip_folder).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in clip.state_dict().items())


def test_variants_of_the_method_follow_the_config_after_loading(small_folder):
    model = AdaptCLIPModel.from_pretrained(small_folder)
    query, normal = images(model, 1), images(model, 1, 1, prompts=1)
    with torch.no_grad():
        scores = [model(query, normal).anomaly_scores.item()]
        for name, value in (("pooling_top_k", 1), ("prompt_query_context", False), ("temperature", 0.5)):
            setattr(model.config, name, value)
            scores.append(model(query, normal).anomaly_scores.item())
    assert len(set(scores)) == 4


def test_banks_compare_by_their_contents(small_model):
    one, two = (small_model.encode_prompts(images(small_model, 2, 1)) for _ in range(2))
    assert one == two and hash(one) == hash(two) and one in [two]
    assert one != small_model.encode_prompts(images(small_model, 2, 2)) and one != one.select([0])
    assert one.digest() == two.digest() != one.select([1, 0]).digest()
    assert one != "a bank"


def test_an_image_that_cannot_be_encoded_is_no_normal_one(small_model):
    """Where a look at the values would stop the device, the score is NaN and never a silent 0."""
    features = small_model.image_features(images(small_model, 2))
    features.patch_embeds[-1][0] = float("inf")
    with pytest.raises(ValueError, match="overflows"):
        small_model(image_features=features)

    class OnADevice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = small_model

        def forward(self, features):
            return self.model(image_features=features).anomaly_scores

    with torch.no_grad():
        scores = torch.export.export(OnADevice(), (features,)).module()(features)
    assert scores[0].isnan() and scores[1].isfinite()


@torch.no_grad()
def test_no_warning_in_scoring(make_model):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = make_model()
        model(images(model, 1))


def test_static_prompts():
    config = AdaptCLIPConfig()
    normal, anomalous = config.text_prompts()
    assert (len(normal), len(anomalous)) == (147, 84)
    assert "a photo of the object without flaw for visual inspection." in normal
    assert "a dark photo of a damaged object." in anomalous
    assert "a photo of a metal nut with damage." in config.text_prompts("metal nut")[1]


def test_training_mode_leaves_clip_frozen(make_model):
    model = make_model().train()
    assert model.training and model.visual_adapter.training and not any(m.training for m in model.clip.modules())
    assert not any(p.requires_grad for p in model.clip.parameters())
    frozen = {name: tensor.clone() for name, tensor in model.clip.state_dict().items()}
    size = model.config.image_size
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    before = [p.clone() for p in model.parameters() if p.requires_grad]
    labels, masks = torch.tensor([0, 1, 1]), torch.zeros(3, size, size)
    masks[1:, :20, :30] = 1
    losses = []
    for _ in range(6):
        output = model(images(model, 3), images(model, 3, 1, prompts=1), labels=labels, mask_labels=masks)
        losses.append(output.loss.item())
        assert_close(output.loss, sum(output.losses.values()))
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    assert all(
        not torch.equal(one, p)
        for one, p in zip(before, (p for p in model.parameters() if p.requires_grad), strict=True)
    )
    assert all(torch.equal(frozen[name], tensor) for name, tensor in model.clip.state_dict().items())


def test_loading_leaves_clip_frozen(small_folder):
    model = AdaptCLIPModel.from_pretrained(small_folder)
    assert not model.training and not any(p.requires_grad for p in model.clip.parameters())


@pytest.mark.works("Trainer and Accelerate", "`gradient_checkpointing`")
def test_gradient_checkpointing_gives_the_same_gradients(make_model):
    gradients = []
    for checkpointing in (False, True):
        model = make_model().train()
        if checkpointing:
            model.activation_checkpointing_enable()
        model(images(model, 2), labels=torch.tensor([0, 1])).loss.backward()
        gradients.append(model.textual_adapter.anomalous_prompt.grad)
    assert gradients[0].abs().max() > 0
    assert torch.equal(*gradients)


ABLATIONS = {
    "none": dict(visual_adapter=False, textual_adapter=False, prompt_query_adapter=False),
    "textual": dict(visual_adapter=False, prompt_query_adapter=False),
    "visual": dict(textual_adapter=False, prompt_query_adapter=False),
    "joint": dict(joint_learning=True, prompt_query_adapter=False),
    "alternating": dict(prompt_query_adapter=False),
    "prompt-query without context": dict(visual_adapter=False, textual_adapter=False, prompt_query_context=False),
    "prompt-query": dict(visual_adapter=False, textual_adapter=False),
    "all": {},
}


@pytest.mark.parametrize("row", ABLATIONS)
def test_ablations_score_train_and_round_trip(make_model, tmp_path, row):
    model = make_model(**ABLATIONS[row])
    bank = model.encode_prompts(images(model, 2, 1))
    with torch.no_grad():
        output = model(images(model, 2), prompt_bank=bank)
        assert not torch.equal(output.anomaly_scores, model(images(model, 2)).anomaly_scores)
    assert 0 <= output.anomaly_scores.min() and output.anomaly_scores.max() <= 1
    assert 0 <= output.anomaly_maps.min() and output.anomaly_maps.max() <= 1
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        again = AdaptCLIPModel.from_pretrained(tmp_path)(images(model, 2), prompt_bank=bank)
    assert torch.equal(again.anomaly_maps, output.anomaly_maps)
    prompts = images(model, 2, 1, prompts=1)
    masks = torch.zeros(2, model.config.image_size, model.config.image_size)
    masks[1, :30, :40] = 1
    loss = model.train()(images(model, 2), prompts, labels=torch.tensor([0, 1]), mask_labels=masks).loss
    assert loss.isfinite()
    if row != "none":
        loss.backward()
        assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_ablations_differ(make_model):
    with torch.no_grad():
        scores = {
            row: make_model(**settings)(images(make_model(), 1)).anomaly_scores.item()
            for row, settings in ABLATIONS.items()
            if row not in ("prompt-query", "prompt-query without context", "all")
        }
    assert len(set(scores.values())) == len(scores)


@pytest.mark.parametrize(
    ("clip", "size", "layers", "dual"),
    [
        (dict(patch_size=14, layers=4, grid=4), 518, [1, 2, 3, 4], 3),
        (dict(patch_size=16, layers=12, grid=4, width=48), 512, [3, 6, 9, 12], 9),
        (dict(patch_size=32, layers=2, grid=2), 512, [1, 2], 1),
    ],
)
def test_any_vit_with_sensible_defaults(make_model, clip, size, layers, dual):
    config = make_model(clip=clip, image_size=None).config
    assert (config.image_size, config.feature_layers, config.num_dual_path_layers) == (size, layers, dual)
    model = make_model(clip=clip, image_size=3 * clip["patch_size"], pooling_top_k=9)
    with torch.no_grad():
        output = model(images(model, 1), prompt_bank=model.encode_prompts(images(model, 1, 1)))
    assert output.anomaly_maps.shape == (1, *2 * (3 * clip["patch_size"],))


def test_defaults_are_the_released_ones():
    config = AdaptCLIPConfig()
    assert (config.image_size, config.feature_layers, config.num_dual_path_layers) == (518, [6, 12, 18, 24], 19)
    assert config.clip_config.vision_config.hidden_size == 1024 and config.clip_config.projection_dim == 768
    assert config.score_fusion == "harmonic" and config.pooling_top_k == 10 and config.peak_share == 0


@pytest.mark.parametrize("layers", [[1, 2], [2, 4], [3], [1, 2, 3, 4]])
@pytest.mark.parametrize("dual", [0, 1, 2, 4])
@torch.no_grad()
def test_layers_before_the_two_paths_equal_hf_and_later_ones_do_not(make_model, layers, dual):
    model = make_model(feature_layers=layers, num_dual_path_layers=dual, image_size=56)
    pixel_values = images(model, 2)
    vision = model.clip.vision_model(pixel_values, output_hidden_states=True)
    features = model.image_features(pixel_values)
    for layer, tokens in zip(layers, features.patch_embeds, strict=True):
        one_path = model.clip.visual_projection(model.clip.vision_model.post_layernorm(vision.hidden_states[layer]))
        assert torch.allclose(tokens, one_path, atol=1e-5) == (layer <= 4 - dual)
    expected = model.clip.visual_projection(vision.last_hidden_state[:, 0])
    assert_close(features.image_embeds, expected, atol=1e-5, rtol=0)


@pytest.mark.works("Dtypes and devices", "`dtype=torch.bfloat16` and `torch.float16`")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision_stays_near_float32(small_folder, dtype):
    full, half = (AdaptCLIPModel.from_pretrained(small_folder, dtype=each) for each in (torch.float32, dtype))
    pixel_values, normal = images(full, 2), images(full, 2, 1)
    outputs = [model(pixel_values.to(model.dtype), prompt_bank=model.encode_prompts(normal)) for model in (full, half)]
    assert outputs[1].anomaly_maps.dtype == outputs[1].anomaly_scores.dtype == torch.float32
    tolerance = 0.05 if dtype == torch.bfloat16 else 0.01
    assert_close(outputs[0].anomaly_maps, outputs[1].anomaly_maps, atol=tolerance, rtol=0)
    assert_close(outputs[0].anomaly_scores, outputs[1].anomaly_scores, atol=tolerance, rtol=0)


def test_bank_save_and_load(small_model, tmp_path):
    from adaptclip_hf import PromptBank

    bank = small_model.encode_prompts(images(small_model, 3), {"resample": "3"})
    assert len(bank) == 3
    for target in (tmp_path / "bottle.safetensors", tmp_path / "folder"):
        loaded = PromptBank.from_pretrained(bank.save_pretrained(target))
        assert (loaded.fingerprint, loaded.preprocessing) == (bank.fingerprint, bank.preprocessing)
        assert all(torch.equal(a, b) for a, b in zip(loaded.features, bank.features, strict=True))
    with torch.no_grad():
        assert torch.equal(
            small_model(images(small_model, 1, 5), prompt_bank=loaded).anomaly_maps,
            small_model(images(small_model, 1, 5), prompt_bank=bank).anomaly_maps,
        )


def test_fingerprint_follows_the_image_encoder_alone(make_model):
    model = make_model()
    original = model.fingerprint()
    assert original == make_model().fingerprint() != make_model(seed=1).fingerprint()
    assert make_model().to(torch.bfloat16).fingerprint() == original
    with torch.no_grad():
        model.visual_adapter.global_branch.up.weight.add_(1)
        assert model.fingerprint() == original
        model.clip.visual_projection.weight.add_(1)
    assert model.fingerprint() != original


def test_pools_share_the_memory_of_the_bank(small_model):
    bank = small_model.encode_prompts(images(small_model, 2))
    assert all(pool.data_ptr() == layer.data_ptr() for pool, layer in zip(bank.pools(), bank.features, strict=True))
    assert bank.to("cpu", torch.float32).features[0].data_ptr() == bank.features[0].data_ptr()


def test_gaussian_filter_by_its_definition():
    maps, sigma = torch.rand(2, 9, 9, dtype=torch.float64), 1.5
    radius = int(4 * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-(offsets**2) / (2 * sigma**2))
    weights = weights / weights.sum()

    def reflect(index):
        while not 0 <= index < 9:
            index = -index - 1 if index < 0 else 17 - index
        return index

    expected = torch.zeros_like(maps)
    for row in range(9):
        for column in range(9):
            for dy, wy in zip(range(-radius, radius + 1), weights, strict=True):
                for dx, wx in zip(range(-radius, radius + 1), weights, strict=True):
                    expected[:, row, column] += wy * wx * maps[:, reflect(row + dy), reflect(column + dx)]
    assert_close(gaussian_filter(maps, sigma), expected)
    assert gaussian_filter(maps, 0.0) is maps


def test_the_peak_is_the_mean_of_the_largest_share():
    maps = torch.arange(200.0).view(2, 10, 10)[:, torch.randperm(10)]
    assert peak(maps, 0.0).tolist() == [99, 199]
    assert peak(maps, 0.004).tolist() == [99, 199]
    assert peak(maps, 0.04).tolist() == [97.5, 197.5]
    assert peak(maps, 1.0).tolist() == [49.5, 149.5]


@torch.no_grad()
def test_the_score_takes_the_share_of_its_config(make_model, tmp_path):
    model = make_model()
    pixel_values = images(model, 2)
    by_maximum = model(pixel_values)
    model.config.peak_share = 0.1
    model.save_pretrained(tmp_path)
    by_share = AdaptCLIPModel.from_pretrained(tmp_path)(pixel_values)
    assert torch.equal(by_share.anomaly_maps, by_maximum.anomaly_maps)
    assert (by_share.anomaly_scores < by_maximum.anomaly_scores).all()


def test_harmonic_mean():
    assert_close(harmonic_mean(torch.tensor([[0.5], [0.25]])), torch.tensor([1 / 3]))
    assert harmonic_mean(torch.tensor([[0.5], [0.0]])).item() == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(image_size=100), "use 98 or 112"),
        (dict(feature_layers=[2, 5]), "must lie in 1..4"),
        (dict(feature_layers=[3, 2]), "increasing"),
        (dict(feature_layers=[]), "must lie in"),
        (dict(num_dual_path_layers=5), "must lie in 0..4"),
        (dict(visual_adapter_reduction=5), "must divide projection_dim 32"),
        (dict(prompt_length=80), "1..74"),
        (dict(pooling_top_k=100), "1..36"),
        (dict(score_fusion="max"), "harmonic"),
        (dict(temperature=0.0), "positive"),
        (dict(smoothing_sigma=-1.0), "negative"),
        (dict(peak_share=1.5), "between 0 and 1"),
        (dict(joint_learning=True, textual_adapter=False), "both adapters"),
        (dict(normal_states=["good"]), "normal_states"),
        (dict(prompt_query_hidden_size=3), "even"),
        (dict(image_size="big"), "image_size"),
    ],
)
def test_wrong_configurations_say_what_would_fit(make_model, settings, message):
    with pytest.raises(Exception, match=message):
        make_model(**settings)


def test_odd_vision_tower_is_refused():
    with pytest.raises(ValueError, match="square patches"):
        AdaptCLIPConfig(clip_config=CLIPConfig(vision_config={"patch_size": [14, 16]}), image_size=112)


def test_a_model_changes_no_config_that_it_is_given(make_model):
    config = AdaptCLIPConfig.from_dict(make_model().config.to_dict() | {"adapters_only": True, "clip_name": "org/clip"})
    before = config.to_dict()
    model = AdaptCLIPModel(config)
    assert config.to_dict() == before and config.adapters_only and not model.config.adapters_only


def test_another_object_name_needs_the_text_tower(small_folder, tokenizer):
    model = AdaptCLIPModel.from_pretrained(small_folder, text_tower=False)
    assert model.object_name == "object" and model.encode_text("object").static.isfinite().all()
    for ask in (model.encode_text, model.set_object_name):
        with pytest.raises(ValueError, match="load it with its text tower to encode those of 'bottle'"):
            ask("bottle", tokenizer)


@torch.no_grad()
def test_no_call_changes_what_another_one_answers(small_folder):
    """The prompts' embeddings come from the file, and are computed when their weights are no longer the file's."""
    model = AdaptCLIPModel.from_pretrained(small_folder)
    stored, prompt = model.encode_text().learned, model.textual_adapter.normal_prompt
    prompt.add_(1)
    changed = model.encode_text().learned
    assert not torch.equal(changed, stored) and torch.equal(model.encode_text().learned, changed)
    with torch.enable_grad():
        assert torch.equal(model.encode_text().learned, changed)
    model.learned_text_embeds.zero_()
    assert torch.equal(model.encode_text().learned, changed)


def test_without_the_package_pushing_says_to_install_it(small_model, monkeypatch):
    monkeypatch.setattr(hooks, "publish", None)
    with pytest.raises(ImportError, match="push_to_hub is part of the package adaptclip-hf"):
        small_model.push_to_hub("me/model")
    monkeypatch.setattr(hooks, "publish", lambda thing, repo_id, **options: (thing, repo_id, options))
    assert small_model.push_to_hub("me/model", private=True) == (small_model, "me/model", {"private": True})


def test_labels_have_their_names(small_model, small_folder):
    names = {0: "normal", 1: "anomalous"}
    for config in (AdaptCLIPConfig(), small_model.config, AdaptCLIPConfig.from_pretrained(small_folder)):
        assert config.id2label == names and config.label2id == {"normal": 0, "anomalous": 1}
    assert json.loads((small_folder / "config.json").read_text())["id2label"] == {"0": "normal", "1": "anomalous"}
    assert AdaptCLIPConfig(num_labels=3).num_labels == 3
