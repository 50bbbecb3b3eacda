"""What people are used to from other models of transformers: arguments of forward, of from_pretrained, of devices."""

import pytest
import torch
from accelerate import cpu_offload
from small_clip import small_clip_config
from torch.testing import assert_close
from transformers import AutoModel, CLIPModel

from adaptclip_hf import AdaptCLIPConfig, AdaptCLIPModel, AdaptCLIPProcessor
from adaptclip_hf.hub.model_folders import save_model_folder
from adaptclip_hf.modeling.encoder_record import EncoderRecord
from adaptclip_hf.modeling.vision_encoder import checkpointed_dual_path_layer, dual_path_layer


def config_of(tokenizer) -> AdaptCLIPConfig:
    clip = small_clip_config(len(tokenizer))
    return AdaptCLIPConfig(
        clip_config=clip, image_size=84, prompt_query_hidden_size=16, prompt_token_ids=tokenizer(".")["input_ids"]
    )


def images(model, count=2, seed=0):
    size = model.config.image_size
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def adapters_folder(make_model, clip_folder, tokenizer, tmp_path):
    """A folder of adapters alone, and the model that it is of."""
    model = make_model()
    processor = AdaptCLIPProcessor.for_model(model.config, tokenizer)
    save_model_folder(model, processor, tmp_path / "adapters", "adapters", str(clip_folder))
    return tmp_path / "adapters"


@pytest.mark.works("Outputs", "`return_dict=False`, `config.return_dict`")
@torch.no_grad()
def test_a_tuple_where_it_is_asked_for(make_model):
    model = make_model()
    named = model(images(model))
    asked = model(images(model), return_dict=False)
    assert isinstance(asked, tuple) and torch.equal(asked[0], named.anomaly_scores)
    model.config.return_dict = False
    assert torch.equal(model(images(model))[1], named.anomaly_maps)
    assert torch.equal(model(images(model), return_dict=True).anomaly_maps, named.anomaly_maps)


@pytest.mark.works("Outputs", "`output_hidden_states`")
@torch.no_grad()
@pytest.mark.parametrize("dual", [0, 2, 4])
def test_hidden_states_are_those_that_features_are_read_from(make_model, dual):
    model = make_model(num_dual_path_layers=dual, feature_layers=[1, 2, 4])
    plain, output = model.image_features(images(model)), model(images(model), output_hidden_states=True)
    assert plain.hidden_states is None and len(output.hidden_states) == 5 and output.attentions is None
    vision = model.clip.vision_model
    for layer, features in zip([1, 2, 4], plain.patch_embeds, strict=True):
        found = model.clip.visual_projection(vision.post_layernorm(output.hidden_states[layer]))
        assert torch.equal(found, features)
    assert torch.equal(output.anomaly_maps, model(images(model)).anomaly_maps)
    some = model(images(model), output_hidden_states=[0, -1]).hidden_states
    assert torch.equal(some[0], output.hidden_states[0]) and torch.equal(some[4], output.hidden_states[4])
    assert some[1:4] == (None, None, None)
    model.config.output_hidden_states = True
    assert len(model(images(model)).hidden_states) == 5


@pytest.mark.works("Outputs", "`output_attentions`")
@torch.no_grad()
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_attentions_are_there_whatever_computes_them(make_model, attention):
    model = make_model(num_dual_path_layers=2)
    model.set_attn_implementation(attention)
    output = model(images(model), output_attentions=True)
    tokens = model.config.grid_size**2 + 1
    assert [each.shape for each in output.attentions] == [(2, 4, tokens, tokens)] * 4
    assert_close(output.attentions[0].sum(-1), torch.ones(2, 4, tokens))
    assert_close(output.anomaly_maps, model(images(model)).anomaly_maps, atol=1e-5, rtol=0)
    if attention == "eager":
        model.config.output_attentions = True
        assert len(model(images(model)).attentions) == 4


def test_a_record_keeps_what_exists():
    record = EncoderRecord([1, -1, 9], False, 3)
    for number in range(4):
        record.add(torch.tensor(number))
    assert [None if each is None else each.item() for each in record.outputs()["hidden_states"]] == [None, 1, None, 3]


@pytest.mark.works("Loading", "`AutoModel.from_config(config)`: a model that runs")
def test_a_model_of_a_config_runs_and_comes_back(tokenizer, tmp_path):
    model = AutoModel.from_config(config_of(tokenizer)).eval()
    assert model.untrained_adapters() == {"visual_adapter", "textual_adapter", "prompt_query_adapter"}
    with torch.no_grad():
        zero_shot, few_shot = model(images(model)), model(images(model), images(model, seed=1)[:, None])
    for output in (zero_shot, few_shot):
        assert output.anomaly_maps.isfinite().all() and len(set(output.anomaly_scores.tolist())) == 2
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        loaded = AutoModel.from_pretrained(tmp_path)
        assert torch.equal(loaded(images(model)).anomaly_maps, zero_shot.anomaly_maps)


def test_a_config_is_not_changed_by_the_dtype_of_a_model(small_model):
    config = AdaptCLIPConfig.from_dict(small_model.config.to_dict())
    before = config.dtype
    assert AutoModel.from_config(config, dtype=torch.bfloat16).dtype == torch.bfloat16
    assert config.dtype == before


def test_an_error_that_is_not_about_shapes_is_told_as_it_is(small_folder, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("out of memory")

    monkeypatch.setattr("transformers.PreTrainedModel.from_pretrained", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        AdaptCLIPModel.from_pretrained(small_folder)


def test_a_given_clip_still_waits_for_its_prompts(tokenizer):
    config = config_of(tokenizer)
    model = AdaptCLIPModel(config, CLIPModel(config.clip_config))
    with pytest.raises(ValueError, match="not encoded yet"):
        model(images(model))


@pytest.mark.works("Loading", "`AdaptCLIPModel.from_pretrained(None, config=, state_dict=)`")
def test_weights_without_a_folder(small_model):
    weights = small_model.state_dict()
    loaded = AdaptCLIPModel.from_pretrained(None, config=small_model.config, state_dict=weights)
    with torch.no_grad():
        assert torch.equal(loaded(images(loaded)).anomaly_maps, small_model(images(loaded)).anomaly_maps)
    with pytest.raises(ValueError, match="the state_dict is not a complete AdaptCLIP model"):
        AdaptCLIPModel.from_pretrained(None, config=small_model.config, state_dict={})
    for arguments in ({}, {"config": small_model.config}, {"state_dict": weights}):
        with pytest.raises(ValueError, match="needs the model's config"):
            AdaptCLIPModel.from_pretrained(None, **arguments)


def test_a_config_comes_back_as_it_was(small_model, tmp_path):
    config = AdaptCLIPConfig(**small_model.config.to_dict())
    config.save_pretrained(tmp_path)
    assert AdaptCLIPConfig.from_pretrained(tmp_path).to_dict() == config.to_dict()


def test_the_size_of_the_vocabulary_is_found(small_model, tokenizer):
    assert small_model.config.get_text_config(decoder=True).vocab_size == len(tokenizer)


@pytest.mark.works("Dtypes and devices", "a `device_map` of parts that names one device")
@pytest.mark.parametrize("device_map", [{"clip": "cpu", "visual_adapter": "cpu", "": torch.device("cpu")}, "cpu"])
def test_parts_that_are_all_on_one_device_are_not_spread(small_folder, adapters_folder, device_map):
    for folder in (small_folder, adapters_folder):
        model = AdaptCLIPModel.from_pretrained(folder, device_map=device_map, low_cpu_mem_usage=True)
        assert {each.device.type for each in model.parameters()} == {"cpu"} and not model.training


@pytest.mark.works("Dtypes and devices", "`device_map='auto'` with `max_memory`")
def test_the_memory_that_may_be_used(small_folder, adapters_folder):
    for folder in (small_folder, adapters_folder):
        for room in (10**9, "1GiB"):
            model = AdaptCLIPModel.from_pretrained(folder, device_map="auto", max_memory={"cpu": room})
            assert model.device.type == "cpu"
        with pytest.raises(ValueError, match="no device room for the whole model of"):
            AdaptCLIPModel.from_pretrained(folder, device_map="auto", max_memory={"cpu": "100KB"})
        with pytest.raises(ValueError, match="expected bytes, or a text such as"):
            AdaptCLIPModel.from_pretrained(folder, device_map="auto", max_memory={"cpu": "much"})
        with pytest.raises(ValueError, match="would leave parts of the model elsewhere"):
            AdaptCLIPModel.from_pretrained(folder, device_map={"clip": "cpu", "visual_adapter": "disk"})


@torch.no_grad()
def test_offloaded_weights_are_named(make_model):
    model = make_model()
    bank = model.encode_prompts(images(model))
    cpu_offload(model, execution_device="cpu")
    for ask in (lambda: model(images(model)), lambda: model(images(model), prompt_bank=bank)):
        with pytest.raises(ValueError, match="accelerate's cpu_offload or disk_offload"):
            ask()


def count_runs(layer) -> list:
    """Notes each run of a layer's forward."""
    runs, forward = [], layer.mlp.forward
    layer.mlp.forward = lambda *given: runs.append(torch.is_grad_enabled()) or forward(*given)
    return runs


@pytest.mark.works("Trainer and Accelerate", "`gradient_checkpointing_enable()` for both towers")
def test_activations_of_both_towers_are_checkpointed(make_model):
    """In training only, and whether it is switched on before or after."""
    model = make_model()
    text, image = model.clip.text_model.encoder.layers[0], model.clip.vision_model.encoder.layers[-1]
    runs = count_runs(text)
    model.train().activation_checkpointing_enable()
    model(images(model), labels=torch.tensor([0, 1])).loss.backward()
    assert len(runs) == 2
    assert text.training and not text.mlp.training and not model.clip.training
    assert not model.eval().clip.text_model.encoder.layers[0].training
    model.train()
    states = torch.randn(1, 37, 64, requires_grad=True)
    runs = count_runs(image)
    gradients = []
    for run in (dual_path_layer, checkpointed_dual_path_layer):
        states.grad = None
        sum(each.sum() for each in run(image, states, states, False)).backward()
        gradients.append(states.grad)
    assert len(runs) == 3 and torch.equal(*gradients)
    model.activation_checkpointing_disable()
    assert not any(each.training for each in model.clip.modules())


def test_prompts_of_a_state_dict_follow_the_object_name(small_folder, small_model):
    weights = small_model.state_dict()
    loaded = AdaptCLIPModel.from_pretrained(None, config=small_folder, state_dict=weights, object_name="screw")
    expected = AdaptCLIPModel.from_pretrained(small_folder, object_name="screw")
    assert torch.equal(loaded.static_text_embeds, expected.static_text_embeds)
    assert not torch.equal(loaded.static_text_embeds, small_model.static_text_embeds)


@pytest.mark.parametrize("device_map", ["nowhere", {"": "nowhere"}, {"clip": 7, "visual_adapter": 7}, 7])
def test_a_device_that_is_not_here_is_named(small_folder, device_map):
    with pytest.raises(ValueError, match=r"device_map names (nowhere|7), which is not here"):
        AdaptCLIPModel.from_pretrained(small_folder, device_map=device_map)


def test_max_memory_may_name_devices_that_are_not_here(small_folder):
    room = {7: "10GiB", "cpu": 1e9}
    assert AdaptCLIPModel.from_pretrained(small_folder, device_map="auto", max_memory=room).device.type == "cpu"
