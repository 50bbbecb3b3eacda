"""Training: the recipe through Trainer's path, prompts, the feature cache, checkpoints, ablations, bad input."""

import json
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from commands import CLI, launch, run_python, start_python
from PIL import Image
from reference_cases import GRADIENT_TOLERANCE, assert_same_step, convert_case
from safetensors.torch import load_file
from torch import nn
from torch.testing import assert_close
from transformers import Trainer, TrainerCallback

from adaptclip_hf import AdaptCLIPModel, AdaptCLIPProcessor, AnomalyDetector
from adaptclip_hf.ablations import TABLE_5
from adaptclip_hf.cli import main
from adaptclip_hf.conversion import adapter_names
from adaptclip_hf.data import Row, build_dataset, load_data_set
from adaptclip_hf.modeling.loss import adapter_loss
from adaptclip_hf.synthetic import write_dataset
from adaptclip_hf.training import (
    AdaptCLIPTrainer,
    AdaptCLIPTrainingArguments,
    FeatureCache,
    PromptedImages,
    collate_prompted,
    load_adapters,
    save_adapters,
)
from adaptclip_hf.training.checkpoints import last_complete_checkpoint
from adaptclip_hf.training.feature_cache import content_digests
from adaptclip_hf.training.samplers import PromptedSampler


@pytest.fixture(scope="session")
def parts(tmp_path_factory) -> Path:
    """Three procedural categories, 3 normal images and 6 to learn from in each."""
    return write_dataset(tmp_path_factory.mktemp("parts") / "parts", 3, size=96, train=3, good=2, bad=4)


@pytest.fixture(autouse=True)
def cache_folder(monkeypatch, tmp_path_factory):
    """Features are kept beside the tests, not in the user's cache."""
    folder = tmp_path_factory.getbasetemp() / "features"
    monkeypatch.setattr("adaptclip_hf.training.train.DEFAULT_FOLDER", folder)
    return folder


def arguments(folder, **settings) -> AdaptCLIPTrainingArguments:
    settings = {"per_device_train_batch_size": 4, "num_train_epochs": 1, "logging_steps": 1, **settings}
    return AdaptCLIPTrainingArguments(str(folder), use_cpu=True, disable_tqdm=True, save_strategy="no", **settings)


@pytest.fixture
def images(parts, small_folder) -> PromptedImages:
    return PromptedImages(load_data_set(parts), AdaptCLIPProcessor.from_pretrained(small_folder))


def losses_of(trainer) -> list[dict]:
    return [each for each in trainer.state.log_history if "loss" in each]


def run_command(parts, small_folder, output, *more) -> list[str]:
    common = [
        "--data",
        parts,
        "--model",
        small_folder,
        "--output",
        output,
        "--disable-tqdm",
        "True",
        "--use-cpu",
        "True",
    ]
    recipe = ["--num-train-epochs", "2", "--per-device-train-batch-size", "4", "--logging-steps", "1"]
    return [str(each) for each in ["train", *common, *recipe, *more]]


class CaseSteps(torch.utils.data.Dataset):
    """A reference case's two images with their first prompts."""

    def __init__(self, inputs):
        self.inputs = inputs

    def __len__(self):
        return len(self.inputs["labels"])

    def __getitem__(self, index):
        item = {name: self.inputs[name][index] for name in ("pixel_values", "labels", "mask_labels")}
        return {**item, "prompt_pixel_values": self.inputs["prompt_pixel_values"][index, :1]}


@pytest.mark.parametrize("trainer_class", [AdaptCLIPTrainer, Trainer])
def test_the_reference_step_through_the_trainer(case, tmp_path, trainer_class):
    model = AdaptCLIPModel.from_pretrained(convert_case(case, tmp_path / "model"))
    gradients = {}

    class KeepGradients(TrainerCallback):
        def on_pre_optimizer_step(self, *args, **kwargs):
            gradients.update({name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad})

    args = arguments(tmp_path, per_device_train_batch_size=len(case["inputs"]["labels"]))
    trainer = trainer_class(model, args, train_dataset=CaseSteps(case["inputs"]), callbacks=[KeepGradients()])
    trainer.train()
    expected = case["training"]
    [logged] = losses_of(trainer)
    assert abs(logged["loss"] - expected["loss"].item()) < 1e-4  # the log is rounded
    relative, absolute = GRADIENT_TOLERANCE[torch.float32]
    state = model.state_dict()
    for ours, (theirs, *_) in adapter_names(model).items():
        if ours in gradients:
            gradient = expected[f"grad.{theirs}"].view_as(gradients[ours])
            assert (gradients[ours] - gradient).norm() <= relative * gradient.norm() + absolute, ours
        if not ours.endswith("num_batches_tracked"):
            after = expected[f"after_step.{theirs}"].view_as(state[ours])
            gradient = expected.get(f"grad.{theirs}")
            assert_same_step(state[ours], after, gradient, GRADIENT_TOLERANCE[torch.float32], ours)
    if trainer_class is AdaptCLIPTrainer:
        for name in ("visual", "textual", "prompt_query"):
            assert abs(logged[f"loss_{name}"] - expected[f"loss_{name}"].item()) < 1e-5


@pytest.mark.works("Trainer and Accelerate", "`gradient_accumulation_steps`")
def test_accumulated_gradients_are_those_of_the_whole_batch(make_model, images, tmp_path):
    """2 x 4 equals 8 where the batch norms do not look at the batch; where they do, each sees its own 4."""

    class FrozenStatistics(AdaptCLIPModel):
        def train(self, mode=True):
            super().train(mode)
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
            return self

    weights = []
    for batch, accumulation in ((8, 1), (4, 2)):
        model = make_model(seed=3)
        model.__class__ = FrozenStatistics
        args = arguments(
            tmp_path, per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation, max_steps=2
        )
        trainer = AdaptCLIPTrainer(model, args, train_dataset=Ordered(images))
        trainer.train()
        weights.append((losses_of(trainer), model.state_dict()))
    (whole, one), (accumulated, two) = weights
    for step in range(2):
        assert abs(whole[step]["loss"] - accumulated[step]["loss"]) < 2e-4
        assert abs(whole[step]["loss_visual"] - accumulated[step]["loss_visual"]) < 1e-5
    # an entry whose gradient is rounding noise moves by the learning rate either way
    near = [(one[name] - two[name]).abs().flatten().float() for name in one if not name.startswith("clip.")]
    assert (torch.cat(near) < 1e-5).float().mean() > 0.99


class Ordered(torch.utils.data.Dataset):
    """The same items for every trainer: sixteen images, drawn once."""

    def __init__(self, images):
        self.items = [images[index] for index in range(16)]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


@pytest.mark.works("Trainer and Accelerate", "the plain `Trainer`")
def test_the_plain_trainer_trains_on_prompted_images(make_model, images, tmp_path):
    model = make_model()
    before = {name: each.clone() for name, each in model.state_dict().items()}
    trainer = Trainer(
        model,
        arguments(tmp_path, num_train_epochs=6, learning_rate=3e-3),
        train_dataset=images,
        data_collator=collate_prompted,
    )
    trainer.train()
    losses = [each["loss"] for each in losses_of(trainer)]
    assert len(losses) == 6 * 5 and sum(losses[-5:]) < 0.95 * sum(losses[:5])
    changed = {name for name, each in model.state_dict().items() if not torch.equal(each, before[name])}
    assert changed and not any(name.startswith("clip.") for name in changed)
    trainer.save_model(str(tmp_path / "whole"))
    AdaptCLIPModel.from_pretrained(tmp_path / "whole")


def test_each_query_gets_a_normal_image_of_its_own_category_another_one_every_epoch(images):
    rows = images.rows
    drawn = []
    for epoch in range(30):
        images.set_epoch(epoch)
        prompts = [images.prompt_of(index) for index in range(len(images))]
        for index, prompt in enumerate(prompts):
            query = rows[images.queries[index]]
            assert (rows[prompt]["split"], rows[prompt]["label"]) == ("train", 0)
            assert rows[prompt]["category"] == query["category"] and query["split"] == "test"
        drawn.append(prompts)
    assert len({tuple(each) for each in drawn}) == 30
    assert all(len(set(prompts)) == 3 for prompts in zip(*drawn, strict=True))
    images.set_epoch(0)
    assert [images.prompt_of(index) for index in range(len(images))] == drawn[0]


def test_prompts_are_of_the_querys_own_view(small_folder):
    rows = [Row(f"{split}{view}.png", 0, "part", split, view=view) for split in ("train", "test") for view in "ABC"]
    images = PromptedImages(build_dataset(rows), AdaptCLIPProcessor.from_pretrained(small_folder))
    assert [images.prompt_of(index) for index in range(3)] == [0, 1, 2]


def test_order_and_batches(parts, small_folder):
    """Other order every epoch, no batch of one, queries without a prompt in batches of their own."""
    dataset = load_data_set(parts)
    processor = AdaptCLIPProcessor.from_pretrained(small_folder)
    images = PromptedImages(dataset, processor)
    sampler = PromptedSampler(images, 4, seed=1)
    orders = []
    for epoch in range(2):
        images.set_epoch(epoch)
        orders.append(list(sampler))
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(18)) and orders[0] != orders[1]
    assert len(PromptedSampler(images, 17, seed=1)) == len(list(PromptedSampler(images, 17, seed=1))) == 17

    category = dataset[0]["category"]
    lacking = dataset.filter(lambda row: row["category"] != category or row["split"] == "test")
    images = PromptedImages(lacking, processor)
    order = list(PromptedSampler(images, 4, seed=1))
    assert len(order) == 12 + 4
    for first in range(0, len(order), 4):
        batch = collate_prompted([images[index] for index in order[first : first + 4]])
        has_prompt = all(images.has_prompt(index) for index in order[first : first + 4])
        assert ("prompt_pixel_values" in batch) == has_prompt
    with pytest.raises(ValueError, match="Some images of this batch have a normal image"):
        collate_prompted([images[index] for index in range(len(images))])


def test_images_without_a_mask_teach_the_image_heads_alone():
    torch.manual_seed(0)
    logits, maps = torch.randn(3, 2), torch.rand(3, 1, 8, 8)
    maps = torch.cat([1 - maps, maps], 1)
    labels, masks = torch.tensor([0, 1, 1]), (torch.rand(3, 8, 8) > 0.5).float()
    partly = masks.clone()
    partly[2] = -100
    expected = adapter_loss(logits, maps, labels, None) + adapter_loss(logits[:2], maps[:2], None, masks[:2])
    assert_close(adapter_loss(logits, maps, labels, partly), expected)
    nothing = adapter_loss(logits, maps, labels, torch.full_like(masks, -100))
    assert_close(nothing, adapter_loss(logits, maps, labels, None))


def cached(images, model, folder) -> FeatureCache:
    cache = FeatureCache(folder, AnomalyDetector(model, images.processor))
    rows = images.used_rows()
    pictures = [images.rows[row]["image"] for row in rows]
    digests = content_digests(pictures, progress=False)
    cache.fill(cache.missing(dict(zip(digests, pictures, strict=True))), torch.device("cpu"), progress=False)
    images.read_features_from(cache, dict(zip(rows, digests, strict=True)))
    return cache


def test_cached_features_give_the_same_losses(make_model, images, tmp_path):
    histories = []
    for use_cache in (False, True):
        model = make_model(seed=5)
        if use_cache:
            cache = cached(images, model, tmp_path / "cache")
        trainer = AdaptCLIPTrainer(model, arguments(tmp_path), train_dataset=images)
        trainer.train()
        histories.append(losses_of(trainer))
    for live, kept in zip(*histories, strict=True):
        assert abs(live["loss"] - kept["loss"]) < 5e-3 * live["loss"]
    assert abs(histories[0][0]["loss_visual"] - histories[1][0]["loss_visual"]) < 1e-3
    files = list(cache.folder.rglob("*.safetensors"))
    assert len(files) == len(images.used_rows()) == 27
    size = sum(sum(each.nbytes for each in load_file(file).values()) for file in files)
    assert size == 27 * cache.bytes_per_image()


def test_the_cache_outlives_interruptions_and_knows_model_and_content(make_model, images, tmp_path, monkeypatch):
    model = make_model()
    cache = cached(images, model, tmp_path)
    digests = {digest: {} for digest in images.digests.values()}
    broken = cache.file_of(next(iter(digests)))
    broken.unlink()
    broken.with_suffix(".123.tmp").write_bytes(b"half a file")
    assert list(cache.missing(digests)) == [broken.stem]
    again = FeatureCache(tmp_path, AnomalyDetector(model, images.processor))
    assert again.folder == cache.folder and len(again.missing(digests)) == 1
    assert FeatureCache(tmp_path, AnomalyDetector(make_model(seed=1), images.processor)).folder != cache.folder
    assert FeatureCache(tmp_path, AnomalyDetector(model, images.processor), torch.bfloat16).folder != cache.folder
    assert "limit of 1e-05 GB" in cache.refusal(27, 27, 1e-5)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 10, "total": 100})())
    assert "do not fit" in cache.refusal(27, 27, 50)
    assert cache.refusal(27, 0, 50) is None


def test_checkpoints_hold_the_adapters_alone(make_model, tmp_path):
    model = make_model(seed=7)
    file = save_adapters(model, tmp_path)
    assert not any(name.startswith("clip.") for name in load_file(file))
    other = make_model(seed=7)
    for parameter in other.parameters():
        if parameter.requires_grad:
            parameter.data.zero_()
    load_adapters(other, tmp_path)
    states = zip(model.state_dict().values(), other.state_dict().values(), strict=True)
    assert all(torch.equal(one.nan_to_num(), two.nan_to_num()) for one, two in states)  # NaN: not encoded yet
    with pytest.raises(ValueError, match="belongs to another CLIP"):
        load_adapters(make_model(seed=8), tmp_path)
    with pytest.raises(ValueError, match="holds other adapters"):
        load_adapters(make_model(seed=7, textual_adapter=False), tmp_path)
    with pytest.raises(FileNotFoundError, match="No adapters at"):
        load_adapters(model, tmp_path / "nothing")


def test_the_command_trains_writes_a_whole_model_and_resumes_bitwise(
    parts, small_folder, tmp_path, capsys, monkeypatch
):
    command = run_command(parts, small_folder, tmp_path / "one", "--save-strategy", "steps", "--save-steps", "3")
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "training: 18 images (12 anomalous) of 3 categories, beside 9 normal images" in out
    assert "27 to be encoded" in out or "0 to be encoded" in out
    assert main(["detect", str(parts / "category_000" / "test"), "--model", str(tmp_path / "one"), "--quiet",
                 "--output", str(tmp_path / "detected")]) == 0  # fmt: skip
    trained = json.loads((tmp_path / "one" / "config.json").read_text())
    assert trained == json.loads((small_folder / "config.json").read_text())
    checkpoint = max((tmp_path / "one").glob("checkpoint-*"))
    assert not (checkpoint / "model.safetensors").exists() and (checkpoint / "adapters.safetensors").exists()

    assert main(command) == 1 and "continue it with --resume" in capsys.readouterr().err
    command[command.index("--output") + 1] = str(tmp_path / "two")
    steps = 0

    def stop(self, *args, **kwargs):
        nonlocal steps
        steps += 1
        if steps == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("transformers.trainer_callback.DefaultFlowCallback.on_step_begin", stop)
        assert main(command) == 130
    broken = tmp_path / "two" / "checkpoint-4"
    broken.mkdir()
    (broken / "trainer_state.json").write_text('{"half')
    assert last_complete_checkpoint(tmp_path / "two").name == "checkpoint-3"
    assert main([*command, "--resume"]) == 0
    assert "resuming from" in capsys.readouterr().out
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("row", TABLE_5)
def test_rows_of_table_5(parts, small_folder, tmp_path, row, capsys):
    assert main(run_command(parts, small_folder, tmp_path, "--ablation", row, "--max-steps", "1")) == 0
    model = AdaptCLIPModel.from_pretrained(tmp_path)
    assert all(getattr(model.config, name) == value for name, value in TABLE_5[row].items())
    assert ("nothing is trained" in capsys.readouterr().out) == (row == "clip")


@pytest.mark.slow
def test_the_rows_of_table_5_come_to_one_table(parts, small_folder, tmp_path, monkeypatch, capsys):
    rows_here = {name: TABLE_5[name] for name in ("clip", "visual", "full")}
    monkeypatch.setattr("adaptclip_hf.training.ablation_table.TABLE_5", rows_here)
    command = run_command(parts, small_folder, tmp_path, "--ablation", "all", "--max-steps", "1")
    with pytest.raises(SystemExit):
        main(command)
    assert "--eval-data" in capsys.readouterr().err
    command += ["--eval-data", str(parts)]
    assert main(command) == 0
    table = (tmp_path / "ablations.md").read_text()
    assert table in capsys.readouterr().out
    rows = [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines() if line.startswith("| ")]
    assert [row for row in rows if row in TABLE_5] == [*rows_here] * 2
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("model.safetensors")}
    assert len(before) == len(rows_here)
    shutil.rmtree(tmp_path / "full" / "evaluation")
    assert main([*command, "--resume"]) == 0
    assert before == {file: file.stat().st_mtime_ns for file in before}
    assert (tmp_path / "ablations.md").read_text() == table


def test_adapters_begin_anew_unless_they_are_kept(parts, small_folder, tmp_path):
    before = AdaptCLIPModel.from_pretrained(small_folder).state_dict()
    tiny_step = ["--max-steps", "1", "--learning-rate", "1e-9"]
    for name, more in (("fresh", []), ("kept", ["--keep-adapters"])):
        assert main(run_command(parts, small_folder, tmp_path / name, *tiny_step, *more)) == 0
    name = "visual_adapter.local_branch.up.weight"
    fresh, kept = (load_file(tmp_path / each / "model.safetensors")[name] for each in ("fresh", "kept"))
    assert (kept - before[name]).abs().max() < 1e-6 < (fresh - before[name]).abs().max()


def test_a_plain_clip_of_another_size(parts, small_folder, tmp_path, tokenizer):
    clip = tmp_path / "clip"
    AdaptCLIPModel.from_pretrained(small_folder).clip.save_pretrained(clip)
    tokenizer.save_pretrained(clip)
    assert main(run_command(parts, clip, tmp_path / "out", "--max-steps", "1", "--image-size", "56")) == 0
    assert AdaptCLIPModel.from_pretrained(tmp_path / "out").config.image_size == 56
    assert AdaptCLIPProcessor.from_pretrained(tmp_path / "out").image_processor.size["height"] == 56


@pytest.mark.works("Trainer and Accelerate", "`eval_strategy`, `load_best_model_at_end`")
def test_evaluation_while_training(parts, small_folder, tmp_path):
    assert main(run_command(parts, small_folder, tmp_path, "--eval-data", parts, "--eval-on-start", "True")) == 0
    history = json.loads((tmp_path / "trainer_state.json").read_text())["log_history"]
    means = [each for each in history if "eval_image_auroc" in each]
    assert len(means) == 3  # before the first step, after each epoch
    category = [each for each in history if "eval_category_000_pixel_auroc" in each]
    assert len(category) == 3 and 0 <= category[0]["eval_category_000_image_auroc"] <= 1
    values = [each[f"eval_category_00{index}_image_auroc"] for index in range(3) for each in history[:4]
              if f"eval_category_00{index}_image_auroc" in each]  # fmt: skip
    assert abs(means[0]["eval_image_auroc"] - sum(values) / 3) < 1e-9


def test_a_broken_image_is_named_and_passed_over(parts, small_folder, tmp_path, capsys):
    shutil.copytree(parts, tmp_path / "data")
    (tmp_path / "data/category_000/test/good/zzz.png").write_bytes(b"no image")
    assert main(run_command(tmp_path / "data", small_folder, tmp_path / "out", "--max-steps", "1")) == 1
    assert (tmp_path / "out" / "model.safetensors").is_file()
    out = capsys.readouterr().out
    assert "zzz.png: left out" in out and "training: 18 images" in out


def test_two_data_sets_with_categories_of_one_name(parts, small_folder, tmp_path, capsys):
    shutil.copytree(parts, tmp_path / "others")
    command = run_command(parts, small_folder, tmp_path / "out", "--max-steps", "1")
    command.insert(command.index("--data") + 1, str(tmp_path / "others"))
    assert main(command) == 0
    assert "of 6 categories" in capsys.readouterr().out


def test_data_sets_of_one_name_keep_their_own_normal_images(parts, small_folder, tmp_path):
    from adaptclip_hf.training.train import join_parts

    folders = [tmp_path / "a" / "products", tmp_path / "b" / "products"]
    for folder in folders:
        shutil.copytree(parts, folder)
    joined = join_parts([load_data_set(folder) for folder in folders], [str(folder) for folder in folders])
    assert len(set(joined["category"])) == 6
    images = PromptedImages(joined, AdaptCLIPProcessor.from_pretrained(small_folder))
    for index in range(len(images)):
        query, prompt = images.rows[images.queries[index]], images.rows[images.prompt_of(index)]
        assert Path(query["image"]["path"]).parents[3] == Path(prompt["image"]["path"]).parents[3]


CHANGES = {
    "data": ["--data", "OTHERS"],
    "image_size": ["--image-size", "70"],
    "seed": ["--seed", "7"],
    "feature_layers": ["--feature-layers", "2", "4"],
    "learning_rate": ["--learning-rate", "0.1"],
    "images_a_step": ["--per-device-train-batch-size", "6"],
}


def test_a_run_is_not_resumed_with_another_run(parts, small_folder, tmp_path, capsys):
    command = run_command(parts, small_folder, tmp_path / "out", "--save-strategy", "steps", "--save-steps", "2")
    assert main([*command, "--max-steps", "2"]) == 0
    others = write_dataset(tmp_path / "others", 2, size=60, train=2, good=2, bad=2)
    for name, words in CHANGES.items():
        words = [str(others) if word == "OTHERS" else word for word in words]
        changed = [*command, "--resume", "--max-steps", "4"]
        if words[0] in changed:
            changed[changed.index(words[0]) + 1] = words[1]
        else:
            changed += words
        assert main(changed) == 1, name
        message = capsys.readouterr().err
        assert "holds another run, which differs in" in message and name in message
    assert main([*command, "--resume", "--max-steps", "4"]) == 0


def test_a_seed_of_zero_is_a_seed(make_model, images, tmp_path):
    trainer = AdaptCLIPTrainer(make_model(), arguments(tmp_path, data_seed=0, seed=5), train_dataset=images)
    assert trainer._get_train_sampler().seed == 0


def test_the_main_process_decides_on_the_cache(make_model, images, tmp_path, monkeypatch):
    """A process whose own disk is full does as the main one says, or the two would wait for each other."""
    from adaptclip_hf.training import train as module

    cache = FeatureCache(tmp_path, AnomalyDetector(make_model(), images.processor))
    monkeypatch.setattr(cache, "refusal", lambda *arguments: "this process's disk is full")
    heard = []

    def broadcast(objects):
        heard.append(objects)
        return [None] if isinstance(objects[0], str) else objects

    monkeypatch.setattr(module, "broadcast_object_list", broadcast)
    module.compute_features_once([images], cache, 50.0, torch.device("cpu"))
    assert images.cache is cache and ["this process's disk is full"] in heard


def test_fresh_adapters_have_the_prompts_of_their_own_config(small_folder):
    from adaptclip_hf.training.train import build_model

    fresh, processor = build_model(str(small_folder), {"object_name": "leather"}, keep_adapters=False)
    expected = AdaptCLIPModel.from_pretrained(small_folder).encode_text("leather", processor.tokenizer)
    assert_close(fresh.encode_text().static, expected.static)


def test_wrong_calls(parts, small_folder, tmp_path, capsys):
    def fails(status, message, *more):
        command = run_command(parts, small_folder, tmp_path / "out", *more)
        if status == 2:
            with pytest.raises(SystemExit) as stopped:
                main(command)
            assert stopped.value.code == 2
        else:
            assert main(command) == 1
        assert message in capsys.readouterr().err

    fails(2, "unrecognized arguments: --epochs 3", "--epochs", "3")
    fails(2, "invalid choice: 'everything'", "--ablation", "everything")
    fails(2, "invalid", "--num-train-epochs", "many")
    fails(1, "No complete checkpoint", "--resume")
    fails(1, "at least 2 images a step", "--per-device-train-batch-size", "1")
    fails(1, "image_size 57 is not a multiple of patch size 14", "--image-size", "57")
    with pytest.raises(SystemExit):
        main(["detect", "x.png", "--learning-rate", "1"])
    assert "unrecognized arguments" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main(["train", "--help-training"])
    assert stopped.value.code == 0 and "--gradient_accumulation_steps" in capsys.readouterr().out


@pytest.mark.works("Trainer and Accelerate", "`resume_from_checkpoint`, to the bit")
@pytest.mark.slow
def test_killed_and_resumed_training_ends_with_the_same_bits(parts, small_folder, tmp_path):
    more = ["--save-strategy", "steps", "--save-steps", "4", "--num-train-epochs", "12"]
    more += ["--feature-cache", tmp_path / "features"]
    whole = run_python(*CLI, *run_command(parts, small_folder, tmp_path / "one", *more))
    assert whole.returncode == 0, whole.stderr
    killed = start_python(*CLI, *run_command(parts, small_folder, tmp_path / "two", *more))
    while not (tmp_path / "two" / "checkpoint-8").exists() and killed.poll() is None:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL and not (tmp_path / "two" / "model.safetensors").exists()
    resumed = run_python(*CLI, *run_command(parts, small_folder, tmp_path / "two", *more, "--resume"))
    assert resumed.returncode == 0 and "resuming from" in resumed.stdout + resumed.stderr, resumed
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.works("Trainer and Accelerate", "`torchrun` with two processes")
@pytest.mark.slow
def test_two_processes_train_as_one_with_the_same_global_batch(parts, small_folder, tmp_path):
    histories, weights = [], []
    for processes in (1, 2):
        output = tmp_path / str(processes)
        more = ["--per-device-train-batch-size", 6 // processes, "--feature-cache", tmp_path / "features"]
        more += [] if processes == 1 else ["--ddp-backend", "gloo"]
        command = [*CLI, *run_command(parts, small_folder, output, *more)]
        done = run_python(*command) if processes == 1 else launch(*command)
        assert done.returncode == 0, done.stderr
        histories.append(json.loads((output / "trainer_state.json").read_text())["log_history"])
        weights.append(load_file(output / "model.safetensors"))
    for one, two in zip(*histories, strict=True):
        if "loss" in one:
            assert abs(one["loss"] - two["loss"]) < 1e-3 * one["loss"]
            assert abs(one["loss_prompt_query"] - two["loss_prompt_query"]) < 1e-3 * one["loss_prompt_query"]
    name = "visual_adapter.local_branch.norm.running_var"
    assert_close(weights[0][name], weights[1][name], rtol=1e-3, atol=1e-5)


def test_masks_are_kept_as_bits(images):
    image = next(index for index in range(len(images)) if images.rows[images.queries[index]]["mask"])
    first, second = images[image]["mask_labels"], images[image]["mask_labels"]
    truth = Image.open(images.rows[images.queries[image]]["mask"]["path"])
    expected = images.processor(truth.convert("RGB"), masks=truth)["mask_labels"][0]
    assert torch.equal(first, expected) and torch.equal(second, expected) and 0 < expected.mean() < 1
