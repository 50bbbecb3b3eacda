"""The reference cases, from the released checkpoint through `adaptclip convert` to every number."""

import pytest
import torch
from reference_cases import GRADIENT_TOLERANCE, LEARNING_RATE, assert_same_step, convert_case
from torch.testing import assert_close

from adaptclip_hf import AdaptCLIPModel, AnomalyDetector
from adaptclip_hf.conversion import adapter_names
from adaptclip_hf.export import export_model

TOLERANCE, EXPORTED_TOLERANCE = 1e-5, 1e-4


@pytest.fixture(scope="session")
def converted(case, tmp_path_factory):
    return convert_case(case, tmp_path_factory.mktemp("converted"))


@pytest.fixture
def model(converted):
    return AdaptCLIPModel.from_pretrained(converted)


@torch.no_grad()
def score(model, case, shots=None, images=slice(None), **arguments):
    prompts = None if shots is None else case["inputs"]["prompt_pixel_values"][images, :shots]
    return model(case["inputs"]["pixel_values"][images], prompts, **arguments)


def assert_near(found, expected, name):
    assert_close(found, expected, atol=TOLERANCE, rtol=0, msg=lambda text: f"{name}: {text}")


def assert_relative(found, expected, name):
    assert (found - expected).norm() <= TOLERANCE * expected.norm(), name
    assert (found - expected).abs().max() <= TOLERANCE * expected.abs().max(), name


def test_fused_maps_and_scores(model, case):
    expected = case["expected"]
    for name, shots in (("zero_shot", None), ("one_shot", 1), ("few_shot", case["settings"]["shots"])):
        output = score(model, case, shots)
        assert_near(output.anomaly_maps, expected[f"{name}_map"], name)
        assert_near(output.anomaly_scores, expected[f"{name}_score"], name)


def test_fusion_of_the_paper(model, case):
    model.config.score_fusion = "mean"
    for name, shots in (("zero_shot", None), ("few_shot", case["settings"]["shots"])):
        output = score(model, case, shots)
        assert_near(output.anomaly_maps, case["expected"][f"mean_fusion_{name}_map"], name)
        assert_near(output.anomaly_scores, case["expected"][f"mean_fusion_{name}_score"], name)


def test_second_image_alone_equals_it_in_the_batch(model, case):
    shots = case["settings"]["shots"]
    alone, batch = score(model, case, shots, slice(1, 2)), score(model, case, shots)
    assert_near(alone.anomaly_maps, case["expected"]["few_shot_map_second_image_alone"], "reference")
    assert_near(alone.anomaly_maps, batch.anomaly_maps[1:], "batch")
    assert_near(alone.anomaly_scores, batch.anomaly_scores[1:], "batch")


def test_every_intermediate(model, case):
    expected, details = case["expected"], score(model, case, case["settings"]["shots"], output_details=True).details
    assert_relative(details["image_embeds"], expected["query_image_embeds"], "image embedding")
    assert_relative(model.static_text_embeds, expected["static_text_features"], "static prompts")
    with torch.no_grad():
        assert_relative(model.textual_adapter(model.clip), expected["learned_text_features"], "learned prompts")
    for adapter in ("visual", "textual"):
        assert_near(details[f"{adapter}_logits"], expected[f"{adapter}_logits"], adapter)
        assert_near(details[f"{adapter}_maps"], expected[f"{adapter}_map"], adapter)
    for index in range(len(case["settings"]["features"])):
        assert_relative(details["patch_embeds"][index], expected[f"query_patch_embeds.{index}"], f"patches {index}")
        assert_near(details["alignment_maps"][index], expected[f"align_map.{index}"], f"alignment {index}")
        assert_near(details["prompt_query_logits"][index], expected[f"pq_logits.{index}"], f"image head {index}")
        assert_near(details["prompt_query_maps"][index], expected[f"pq_map.{index}"], f"segmentation head {index}")


def test_plain_clip_baseline(converted, case):
    model = AdaptCLIPModel.from_pretrained(converted, visual_adapter=False, textual_adapter=False)
    details = score(model, case, output_details=True).details
    assert_near(details["clip_logits"], case["expected"]["baseline_logits"], "logits")
    assert_near(details["clip_maps"], case["expected"]["baseline_map"], "map")


def test_open_clip_names_give_the_same_model(case, converted, tmp_path):
    other = convert_case(case, tmp_path / "open_clip", "openclip_state_dict.pt")
    one, two = (AdaptCLIPModel.from_pretrained(folder).state_dict() for folder in (converted, other))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.slow(25)
@pytest.mark.parametrize("name", ["onnx", "openvino", "torch"])
def test_exported(converted, case, tmp_path, name):
    pytest.importorskip("onnxruntime" if name == "onnx" else name, reason="the extra [export] is not installed")
    of_torch = AnomalyDetector.from_pretrained(str(converted), device="cpu")
    export_model(of_torch, tmp_path / name, name)
    detector = AnomalyDetector.from_pretrained(str(tmp_path / name), device="cpu", trust_remote_code=True)
    features = detector.encode(case["inputs"]["pixel_values"])
    prompts, expected = case["inputs"]["prompt_pixel_values"], case["expected"]
    for kind, shots in (("zero_shot", None), ("one_shot", 1), ("few_shot", case["settings"]["shots"])):
        banks = None if shots is None else [detector.model.encode_prompts(each[:shots]) for each in prompts]
        scores, maps = detector.score(features, banks)
        assert_close(maps, expected[f"{kind}_map"], atol=EXPORTED_TOLERANCE, rtol=0)
        assert_close(scores, expected[f"{kind}_score"], atol=EXPORTED_TOLERANCE, rtol=0)


def training_output(model, case):
    inputs = case["inputs"]
    return model(
        inputs["pixel_values"],
        inputs["prompt_pixel_values"][:, :1],
        labels=inputs["labels"],
        mask_labels=inputs["mask_labels"],
    )


def test_losses(model, case):
    output = training_output(model.train(), case)
    for name in ("visual", "textual", "prompt_query"):
        assert_near(output.losses[name], case["training"][f"loss_{name}"], name)
    assert_near(output.loss, case["training"]["loss"], "sum")


def one_training_step(model, case, dtype):
    """Gradients, and the state after one Adam step, by our names."""
    model = model.to(dtype).train()
    inputs = {name: x.to(dtype) if x.is_floating_point() else x for name, x in case["inputs"].items()}
    optimizer = torch.optim.Adam(
        [p for p in model.parameters() if p.requires_grad], lr=LEARNING_RATE, betas=(0.5, 0.999)
    )
    training_output(model, {**case, "inputs": inputs}).loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}
    assert all(p.grad is None for p in model.clip.parameters())
    optimizer.step()
    return gradients, model.state_dict()


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("dtype", GRADIENT_TOLERANCE)
def test_gradients_and_one_adam_step(converted, case, dtype, checkpointing):
    model = AdaptCLIPModel.from_pretrained(converted)
    if checkpointing:
        model.activation_checkpointing_enable()
        assert all(layer.gradient_checkpointing for layer in model.clip.text_model.encoder.layers)
    gradients, state = one_training_step(model, case, dtype)
    names = {ours: theirs[0] for ours, theirs in adapter_names(model).items()}
    assert set(gradients) == {name for name in names if "running" not in name and "num_batches" not in name}
    relative, absolute = GRADIENT_TOLERANCE[dtype]
    within_reference_tolerance = 0
    for name, gradient in gradients.items():
        expected = case["training"][f"grad.{names[name]}"].view_as(gradient)
        error = (gradient - expected).norm()
        assert error <= relative * expected.norm() + absolute, name
        within_reference_tolerance += error <= 1e-4 * expected.norm()
    assert within_reference_tolerance >= 0.7 * len(gradients)
    for name, theirs in names.items():
        if not name.endswith("num_batches_tracked"):
            expected = case["training"][f"after_step.{theirs}"].view_as(state[name])
            gradient = case["training"].get(f"grad.{theirs}")
            assert_same_step(state[name], expected, gradient, GRADIENT_TOLERANCE[dtype], name)


def test_openai_archives_are_read(case, tmp_path):
    """OpenAI publishes its CLIPs as TorchScript archives in half precision with three settings beside the weights."""
    from adaptclip_hf.conversion import read_clip

    state = torch.load(case["folder"] / "openclip_state_dict.pt", weights_only=True)
    archive = torch.nn.Module()
    for name, tensor in {**state, "input_resolution": torch.tensor(1), "vocab_size": torch.tensor(2)}.items():
        *parents, leaf = name.split(".")
        module = archive
        for parent in parents:
            if not hasattr(module, parent):
                module.add_module(parent, torch.nn.Module())
            module = getattr(module, parent)
        module.register_buffer(leaf, tensor.half() if tensor.is_floating_point() else tensor)
    torch.jit.script(archive).save(tmp_path / "ViT.pt")
    found = read_clip(tmp_path / "ViT.pt").state_dict()
    expected = read_clip(case["folder"] / "openclip_state_dict.pt").state_dict()
    assert all(torch.equal(found[name], expected[name].half().float()) for name in expected)


def test_sizes_of_vit_b_16_plus_240_are_read_from_its_shapes():
    from adaptclip_hf.conversion import open_clip_config

    shapes = {
        "visual.conv1.weight": (896, 3, 16, 16),
        "visual.proj": (896, 640),
        "visual.positional_embedding": (15 * 15 + 1, 896),
        "positional_embedding": (77, 640),
        "token_embedding.weight": (49408, 640),
    }
    for layer in range(12):
        shapes[f"visual.transformer.resblocks.{layer}.mlp.c_fc.weight"] = (3584, 896)
        shapes[f"transformer.resblocks.{layer}.mlp.c_fc.weight"] = (2560, 640)
    config = open_clip_config({name: torch.empty(shape, device="meta") for name, shape in shapes.items()})
    vision, text = config.vision_config, config.text_config
    assert (vision.image_size, vision.patch_size, vision.num_attention_heads, vision.num_hidden_layers) == (
        240,
        16,
        14,
        12,
    )
    assert (text.hidden_size, text.num_attention_heads, config.projection_dim) == (640, 10, 640)
    assert vision.hidden_act == text.hidden_act == "quick_gelu"
    from adaptclip_hf import AdaptCLIPConfig

    adaptclip = AdaptCLIPConfig(clip_config=config)
    assert (adaptclip.image_size, adaptclip.num_dual_path_layers, adaptclip.feature_layers) == (512, 9, [3, 6, 9, 12])
