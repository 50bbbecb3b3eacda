"""Training arguments: what is not supported, or not installed, is said in a line before features are encoded."""

import builtins

import pytest
from test_training import arguments, images, parts, run_command  # noqa: F401
from transformers import TrainingArguments

from adaptclip_hf.cli import main
from adaptclip_hf.training import AdaptCLIPTrainer, AdaptCLIPTrainingArguments
from adaptclip_hf.training.arguments import refuse_unsupported

REFUSED = {
    "--label-smoothing-factor": "0.1",
    "--batch-eval-metrics": "False",
    "--remove-unused-columns": "True",
    "--include-for-metrics": "inputs",
    "--neftune-noise-alpha": "5",
    "--use-liger-kernel": "True",
    "--deepspeed": "ds.json",
    "--fsdp": "full_shard",
    "--auto-find-batch-size": "True",
    "--train-sampling-strategy": "group_by_length",
}


@pytest.fixture
def no_encoding(monkeypatch):
    def fill(*args):
        raise AssertionError("features were encoded first")

    monkeypatch.setattr("adaptclip_hf.training.train.compute_features_once", fill)


@pytest.mark.parametrize("option", REFUSED)
def test_what_is_not_supported_is_refused_first(parts, small_folder, tmp_path, capsys, no_encoding, option):  # noqa: F811
    assert main(run_command(parts, small_folder, tmp_path / "out", option, REFUSED[option])) == 1
    said = capsys.readouterr().err.strip()
    assert said.startswith(f"adaptclip: Training does not support {option} ") and "\n" not in said
    assert not (tmp_path / "out").exists()


def test_all_that_is_not_supported_is_named_at_once():
    with pytest.raises(ValueError, match=r"--fsdp full_shard \(leave it at None\), --label-smoothing-factor 0.1"):
        AdaptCLIPTrainingArguments("out", fsdp="full_shard", label_smoothing_factor=0.1)


def test_plain_arguments_are_looked_at_too(make_model, tmp_path):
    args = TrainingArguments(str(tmp_path), use_cpu=True, label_smoothing_factor=0.1)
    with pytest.raises(ValueError, match=r"label-smoothing-factor 0\.1"):
        AdaptCLIPTrainer(make_model(), args)


def test_a_missing_tensorboard_is_said_first(parts, small_folder, tmp_path, capsys, no_encoding, monkeypatch):  # noqa: F811
    monkeypatch.setattr("transformers.integrations.integration_utils.is_tensorboard_available", lambda: False)
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if "tensorboard" in name:
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    assert main(run_command(parts, small_folder, tmp_path / "out", "--report-to", "tensorboard")) == 1
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("adaptclip: TensorBoardCallback requires")


@pytest.mark.works("Trainer and Accelerate", "`trainer.evaluate()` without a metric set by hand")
def test_evaluation_needs_nothing_set_by_hand(make_model, images, tmp_path):  # noqa: F811
    args = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none", disable_tqdm=True)
    trainer = AdaptCLIPTrainer(make_model(), args, eval_dataset=images)
    figures = trainer.evaluate()
    assert 0 <= figures["eval_image_auroc"] <= 1 and 0 <= figures["eval_pixel_auroc"] <= 1
    trainer = AdaptCLIPTrainer(make_model(), args)
    assert trainer.evaluate({"some": images})["eval_image_auroc"] == figures["eval_image_auroc"]


@pytest.mark.works("Trainer and Accelerate", "`--resume-from-checkpoint PATH` into a new folder")
def test_a_named_checkpoint_is_honoured_where_the_output_is_new(parts, small_folder, tmp_path, capsys):  # noqa: F811
    def command(name, *more):
        return run_command(parts, small_folder, tmp_path / name, "--save-strategy", "steps", "--save-steps", "3", *more)

    assert main(command("one")) == 0
    checkpoint = tmp_path / "one" / "checkpoint-9"
    given = ["--resume-from-checkpoint", checkpoint]
    assert main(command("two", *given)) == 0
    assert f"resuming from {checkpoint}" in capsys.readouterr().out
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two
    assert main(command("three", *given, "--learning-rate", "0.1")) == 1
    assert "holds another run, which differs in learning_rate" in capsys.readouterr().err
    assert main(command("four", "--resume-from-checkpoint", tmp_path / "nothing")) == 1
    assert "is no complete checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize("off", ["False", "", "none", "no"])
def test_what_is_off_is_not_refused(off, tmp_path):
    args = AdaptCLIPTrainingArguments(str(tmp_path), use_cpu=True, label_smoothing_factor=0, neftune_noise_alpha=0)
    args.fsdp = off
    refuse_unsupported(args)
