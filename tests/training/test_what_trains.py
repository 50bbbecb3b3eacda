"""What requires a gradient is trained, saved and resumed: adapters alone, the image tower, or LoRA on it."""

from copy import deepcopy

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from test_training import arguments, cached, images, losses_of, parts  # noqa: F401
from torch.testing import assert_close

from adaptclip_hf import AdaptCLIPModel, AdaptCLIPProcessor
from adaptclip_hf.data import load_data_set
from adaptclip_hf.hub.model_folders import save_adapters_only
from adaptclip_hf.training import AdaptCLIPTrainer, PromptedImages, load_adapters, save_adapters

TOWER = "clip.vision_model.encoder.layers.0.mlp.fc1.weight"


def lora(model) -> PeftModel:
    return get_peft_model(model, LoraConfig(target_modules=["q_proj", "v_proj"], lora_dropout=0.1))


def unfrozen(model):
    model.requires_grad_(False)
    model.clip.vision_model.requires_grad_(True)
    return model


def changed(model, before) -> set[str]:
    return {name for name, each in model.state_dict().items() if not each.nan_to_num().equal(before[name].nan_to_num())}


def copied(model) -> dict:
    return {name: each.clone() for name, each in model.state_dict().items()}


@pytest.mark.works("PEFT and gradients", "`get_peft_model(model, LoraConfig(...))`: trained, merged, saved, loaded")
def test_lora_on_the_image_tower_learns_a_real_set(make_model, shared, tokenizer, tmp_path):
    data = load_data_set(shared / "data" / "mvtec_ad_leather_mini")
    plain = make_model()
    model = lora(plain)
    queries = PromptedImages(data, AdaptCLIPProcessor.for_model(plain.config, tokenizer))
    before = copied(model)
    args = arguments(tmp_path, max_steps=20, learning_rate=3e-3)
    trainer = AdaptCLIPTrainer(model, args, train_dataset=queries)
    trainer.train()
    assert {name.split(".")[-3] for name in changed(model, before)} == {"lora_A", "lora_B"}
    losses = [each["loss"] for each in losses_of(trainer)]
    assert sum(losses[-4:]) < 0.98 * sum(losses[:4])

    inputs = {"pixel_values": torch.randn(2, 3, 84, 84), "prompt_pixel_values": torch.randn(2, 1, 3, 84, 84)}
    model.eval()
    with torch.no_grad():
        unmerged = model(**inputs)
        trainer.save_model(tmp_path / "lora")
        loaded = PeftModel.from_pretrained(make_model(), tmp_path / "lora").eval()(**inputs)
        merged = deepcopy(model).merge_and_unload()
        merged.save_pretrained(tmp_path / "merged")
        whole = AdaptCLIPModel.from_pretrained(tmp_path / "merged")(**inputs)
    for other in (loaded, merged(**inputs), whole):
        assert_close(other.anomaly_scores, unmerged.anomaly_scores, rtol=0, atol=1e-5)
        assert_close(other.anomaly_maps, unmerged.anomaly_maps, rtol=0, atol=1e-5)


@pytest.mark.works("PEFT and gradients", "checkpoints and `load_best_model_at_end` with a trained tower or LoRA")
@pytest.mark.parametrize("prepare", [unfrozen, lora])
def test_checkpoints_and_the_best_model_hold_what_is_trained(make_model, images, tmp_path, prepare):  # noqa: F811
    def trainer(folder, **settings):
        args = arguments(tmp_path / folder, max_steps=4, **settings)
        args.save_strategy, args.save_steps = "steps", 2
        return AdaptCLIPTrainer(prepare(make_model(seed=3)), args, train_dataset=images)

    straight = trainer("straight")
    start = copied(straight.model)
    straight.train()
    moved = changed(straight.model, start)
    assert moved and all(".vision_model." in name or "lora" in name for name in moved)
    resumed = trainer("resumed")
    resumed.train(resume_from_checkpoint=str(tmp_path / "straight" / "checkpoint-2"))
    assert not changed(resumed.model, straight.model.state_dict())
    resumed.state.best_model_checkpoint = str(tmp_path / "straight" / "checkpoint-2")
    resumed._load_best_model()
    assert changed(resumed.model, straight.model.state_dict()) == moved
    with pytest.raises(ValueError, match="other weights of the CLIP are trained"):
        load_adapters(make_model(seed=3), tmp_path / "straight" / "checkpoint-2")


def test_a_tower_is_saved_whole_and_not_without_its_clip(make_model, tmp_path):
    model = unfrozen(make_model())
    digest = model.clip_digest()
    with torch.no_grad():
        model.get_parameter(TOWER).mul_(2)
    assert model.clip_digest() == digest != model.requires_grad_(False).clip_digest()
    unfrozen(model).save_pretrained(tmp_path / "whole")
    assert AdaptCLIPModel.from_pretrained(tmp_path / "whole").get_parameter(TOWER).equal(model.get_parameter(TOWER))
    with pytest.raises(ValueError, match="save it whole"):
        save_adapters_only(model, tmp_path / "alone", "some/clip", "main")
    save_adapters(model, tmp_path / "trained")
    other = unfrozen(make_model())
    load_adapters(other, tmp_path / "trained")
    assert other.get_parameter(TOWER).equal(model.get_parameter(TOWER))


def test_a_cache_is_off_where_the_tower_is_trained(make_model, images, tmp_path):  # noqa: F811
    model = make_model()
    cache = cached(images, model, tmp_path / "cache")
    features = images[0]["image_features"]
    unfrozen(model)
    assert cache.refusal(27, 27, 50) == "the image encoder is trained"
    with pytest.raises(ValueError, match="learns nothing from image_features"):
        model.train()(image_features=features, labels=torch.tensor([0]))
    before = copied(model)
    AdaptCLIPTrainer(model, arguments(tmp_path, max_steps=1), train_dataset=images).train()
    assert images.cache is None and TOWER in changed(model, before)


def test_what_is_frozen_stays_in_eval_mode(make_model):
    model = make_model().train()
    assert not model.clip.training and model.visual_adapter.training
    model.visual_adapter.requires_grad_(False)
    model.clip.vision_model.requires_grad_(True)
    model.train()
    assert model.clip.training and not model.visual_adapter.training and model.prompt_query_adapter.training


def test_a_model_with_peft_is_not_pushed_as_a_whole(make_model, tmp_path):
    with pytest.raises(ValueError, match="merge it first"):
        AdaptCLIPTrainer(lora(make_model()), arguments(tmp_path, push_to_hub=True))


def test_all_of_clip_may_be_trained(make_model, tmp_path):
    model = make_model().requires_grad_(True)
    save_adapters(model, tmp_path)
    other = make_model(seed=1).requires_grad_(True)
    load_adapters(other, tmp_path)
    assert not changed(other, model.state_dict()) - {"learned_text_embeds"}


@pytest.mark.parametrize("call", ["predict", "evaluate", "evaluate by name"])
def test_a_trained_tower_is_measured_without_a_cache(make_model, images, tmp_path, call):  # noqa: F811
    model = make_model()
    cached(images, model, tmp_path / "cache")
    try:
        trainer = AdaptCLIPTrainer(unfrozen(model), arguments(tmp_path), eval_dataset={"part": images})
        if call == "evaluate by name":
            trainer.evaluate("part")
        else:
            getattr(trainer, call)(images)
        assert images.cache is None
    finally:
        images.cache = None
