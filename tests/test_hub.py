"""To the Hub and back, against a stand-in for it; each step in a process of its own, as users have it."""

import os
import shutil
import subprocess
import sys

import pytest
from hub_server import TOKEN, Hub
from transformers import pipeline

from adaptclip_hf.cli import main


@pytest.fixture
def hub():
    hub = Hub()
    yield hub
    hub.close()


@pytest.fixture
def call(hub, tmp_path):
    """Runs Python with the stand-in as its Hub and an empty cache; gives status and everything printed."""

    def run(*words, token=TOKEN):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / f"cache_{len(list(tmp_path.iterdir()))}")}
        environment |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        if token:
            environment["HF_TOKEN"] = token
        done = subprocess.run(
            [sys.executable, *map(str, words)], env=environment, capture_output=True, text=True, timeout=300
        )
        return done.returncode, done.stdout + done.stderr

    return run


PUSH = ("-m", "adaptclip_hf.cli", "push")
SCORE = """
import sys, adaptclip_hf
from transformers import pipeline
options = {"revision": sys.argv[3]} if len(sys.argv) > 3 else {}
print("score", pipeline("anomaly-detection", model=sys.argv[1], **options)(sys.argv[2])["score"].hex())
"""


def test_pushed_and_loaded_elsewhere_with_the_same_bits(hub, call, small_folder, photos, tmp_path):
    folder = shutil.copytree(small_folder, tmp_path / "model")
    (folder / "checkpoint-8").mkdir()
    (folder / "checkpoint-8" / "optimizer.pt").write_bytes(b"0" * 100)
    (folder / "training_args.bin").write_bytes(b"0" * 100)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A card\n")
    status, text = call(*PUSH, folder, "me/parts", "--private")
    assert status == 0 and "pushed: http" in text, text
    names = {"config.json", "model.safetensors", "processor_config.json", "tokenizer.json", "tokenizer_config.json"}
    assert set(hub.repos["me/parts"]["branches"]["main"]) == names | {"README.md"}
    status, text = call("-c", SCORE, "me/parts", photos["bad"][0])
    here = pipeline("anomaly-detection", model=str(small_folder), device="cpu")(photos["bad"][0])["score"]
    assert status == 0 and f"score {here.hex()}" in text, text
    status, text = call("-c", SCORE, "me/parts", photos["bad"][0], token=None)
    assert status != 0 and "me/parts" in text


def test_a_branch(hub, call, small_folder, photos):
    status, text = call(*PUSH, small_folder, "me/parts", "--revision", "v2")
    assert status == 0, text
    assert not hub.repos["me/parts"]["branches"]["main"] and hub.repos["me/parts"]["branches"]["v2"]
    status, text = call("-c", SCORE, "me/parts", photos["bad"][0], "v2")
    assert status == 0 and "score 0x" in text, text


@pytest.mark.slow
def test_a_push_that_breaks_off_publishes_nothing_and_the_next_completes(hub, call, small_folder):
    hub.break_uploads = True
    status, text = call(*PUSH, small_folder, "me/parts")
    assert status == 1 and "nothing is published, push again" in text and "Traceback" not in text, text
    assert not hub.repos["me/parts"]["branches"]["main"]
    hub.break_uploads = False
    status, text = call(*PUSH, small_folder, "me/parts")
    assert status == 0 and "model.safetensors" in hub.repos["me/parts"]["branches"]["main"], text


def test_dry_run_and_bad_folders(hub, small_folder, tmp_path, capsys):
    assert main(["push", str(small_folder), "me/parts", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "model.safetensors" in printed and "in all" in printed and "without a card" in printed
    assert not hub.repos
    assert main(["push", str(tmp_path / "none"), "me/parts"]) == 1
    assert "No model folder at" in capsys.readouterr().err
    assert main(["push", str(tmp_path), "me/parts"]) == 1
    assert "is not a complete model: it lacks config.json" in capsys.readouterr().err
