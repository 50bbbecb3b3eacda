"""Agreement with the authors' program, in every clone: the numbers in tests/reference, which no test skips."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import CLIPConfig, CLIPModel

from adaptclip_hf import AdaptCLIPConfig, AdaptCLIPModel
from adaptclip_hf.conversion.convert import checkpoint_sizes, load_adapters
from adaptclip_hf.evaluation import ImageMetrics, PixelMetrics
from adaptclip_hf.evaluation.protocol import Setting, draw_prompts
from adaptclip_hf.modeling import ImageFeatures
from adaptclip_hf.modeling.vision_encoder import encode_image

FOLDER, TOLERANCE = Path(__file__).resolve().parents[1] / "reference", 1e-5


@pytest.fixture(scope="module")
def numbers() -> dict[str, torch.Tensor]:
    return load_file(FOLDER / "compact.safetensors")


@pytest.fixture(scope="module")
def content() -> dict:
    return json.loads((FOLDER / "compact.json").read_text())


def part(numbers: dict, prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): each for name, each in numbers.items() if name.startswith(prefix)}


@pytest.fixture(scope="module")
def model(numbers, content) -> AdaptCLIPModel:
    """The case's model; its encoder's later weights, which the numbers here do without, are zero."""
    settings = content["case"]
    config = CLIPConfig(projection_dim=settings["proj"], text_config=settings["text"], vision_config=settings["vision"])
    clip = CLIPModel(config)
    state = {name: torch.zeros_like(each) for name, each in clip.state_dict().items()} | part(numbers, "clip.")
    table = "text_model.embeddings.token_embedding.weight"
    state[table] = state[table].index_copy(0, numbers["token_rows"], numbers["token_embeddings"])
    clip.load_state_dict(state)
    adapters: dict[str, dict] = {}
    for name, each in part(numbers, "adapters.").items():
        learner, _, tensor = name.partition(".")
        adapters.setdefault(learner, {})[tensor] = each
    for name in list(adapters["pq_learner"]):
        head, layer, rest = name.split(".", 2)
        if head != "sharebn":  # stored once, in a checkpoint once a layer
            for other in range(1, len(settings["features"])):
                adapters["pq_learner"][f"{head}.{other}.{rest}"] = adapters["pq_learner"][f"{head}.{layer}.{rest}"]
    sizes = checkpoint_sizes(adapters, settings["proj"])
    fields = {"image_size": settings["img"], "feature_layers": settings["features"], **sizes}
    fields |= {"num_dual_path_layers": settings["dpam_layer"] - 1, "prompt_query_context": settings["context"]}
    fields["prompt_token_ids"] = [settings["text"]["bos_token_id"], 269, settings["text"]["eos_token_id"]]
    model = AdaptCLIPModel(AdaptCLIPConfig(clip_config=config, **fields), clip)
    load_adapters(model, adapters)
    model.static_text_embeds = numbers["expected.static_text_features"]
    return model.eval()


@pytest.fixture(scope="module")
def features(numbers) -> dict:
    layers = [numbers[f"expected.query_patch_embeds.{index}"] for index in range(2)]
    prompts = [numbers[f"prompt_patch_embeds.{index}"] for index in range(2)]
    return {
        "image_features": ImageFeatures(numbers["expected.query_image_embeds"], tuple(layers)),
        "prompt_features": ImageFeatures(prompts[0][:, 0], tuple(prompts)),
    }


def first_prompts(prompts: ImageFeatures) -> ImageFeatures:
    """Of each of the two queries' prompts the first."""
    layers = tuple(each.unflatten(0, (2, -1))[:, 0] for each in prompts.patch_embeds)
    return ImageFeatures(layers[0][:, 0], layers)


def assert_near(found, numbers, name, stride=1):
    found = found[..., ::stride, ::stride] if stride > 1 else found
    assert_close(found, numbers[f"expected.{name}"], atol=TOLERANCE, rtol=0, msg=lambda text: f"{name}: {text}")


@torch.no_grad()
def test_the_image_encoder_on_both_paths(model, numbers, content):
    """Positions resized, one ordinary layer, one of two paths, the projection of its patch tokens."""
    settings = content["case"]
    found = encode_image(model.clip, numbers["pixel_values"], settings["features"], settings["dpam_layer"] - 1)
    expected = numbers["expected.query_patch_embeds.0"][:1]
    assert (found.patch_embeds[0] - expected).abs().max() <= TOLERANCE * expected.abs().max()


@torch.no_grad()
def test_learned_prompts_through_the_text_tower(model, numbers):
    found, expected = model.textual_adapter(model.clip), numbers["expected.learned_text_features"]
    assert (found - expected).norm() <= TOLERANCE * expected.norm()


@torch.no_grad()
def test_every_map_and_score(model, numbers, content, features):
    stride, few = content["map_stride"], features["prompt_features"]
    prompts = {
        "zero_shot": {},
        "one_shot": {"prompt_features": first_prompts(few)},
        "few_shot": {"prompt_features": few},
    }
    for fusion, prefix in (("harmonic", ""), ("mean", "mean_fusion_")):
        model.config.score_fusion = fusion
        for name, prompt in prompts.items():
            if f"expected.{prefix}{name}_map" in numbers:
                output = model(image_features=features["image_features"], **prompt)
                assert_near(output.anomaly_maps, numbers, f"{prefix}{name}_map", stride)
                assert_near(output.anomaly_scores, numbers, f"{prefix}{name}_score")
    model.config.score_fusion = "harmonic"
    details = model(**features, output_details=True).details
    for adapter in ("visual", "textual"):
        assert_near(details[f"{adapter}_logits"], numbers, f"{adapter}_logits")
        assert_near(details[f"{adapter}_maps"], numbers, f"{adapter}_map", stride)
    for index in range(2):
        assert_near(details["alignment_maps"][index], numbers, f"align_map.{index}", stride)
        assert_near(details["prompt_query_logits"][index], numbers, f"pq_logits.{index}")
        assert_near(details["prompt_query_maps"][index], numbers, f"pq_map.{index}", stride)


def test_losses(model, numbers, features):
    state = {name: each.clone() for name, each in model.state_dict().items()}
    output = model.train()(
        image_features=features["image_features"],
        prompt_features=first_prompts(features["prompt_features"]),
        labels=numbers["labels"],
        mask_labels=numbers["mask_labels"].float(),
    )
    model.eval().load_state_dict(state)  # batch norms have counted
    for name in ("visual", "textual", "prompt_query"):
        assert_near(output.losses[name], numbers, f"loss_{name}")
    assert_near(output.loss, numbers, "loss")


def test_prompt_draws(content):
    assert len(content["draws"]) > 20
    for each in content["draws"]:
        assert draw_prompts(each["n"], Setting(each["k"], each["seed"])) == each["indices"]


def test_metrics(numbers, content):
    maps = numbers["metrics.map_levels"][numbers["metrics.map_places"].long()]
    images, pixels = ImageMetrics(), PixelMetrics()
    images.update(*(numbers[f"metrics.{name}"].numpy() for name in ("scores", "labels", "sample_ids")))
    pixels.update(maps, numbers["metrics.masks"])
    figures, kinds = images.compute() | pixels.compute(), {"I": "image", "P": "pixel", "S": "sample"}
    for name, value in content["metrics"].items():
        kind, _, figure = name.partition("-")
        ours = figures[f"{kinds[kind]}_{figure.lower()}"]
        assert abs(ours - value) < (5e-3 if figure == "AUPRO" else 1e-5), name
    assert np.isclose(figures["pixel_aupro"], 0.42694, atol=1e-5)
