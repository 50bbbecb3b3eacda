"""To the Hub and back, against a stand-in for it; each step in a process of its own, as users have it.

Libraries read the Hub's address and the cache's folder when they are imported: both stay, what they lead to changes.
"""

import base64
import importlib.util
import json
import os
import re
import shutil
from io import BytesIO
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from commands import CLI, Preloaded, run_python
from hub_server import TOKEN, Hub, commit_of
from huggingface_hub import ModelCard
from pages import NEED_THE_HUB, ROOT
from PIL import Image
from transformers import pipeline

from adaptclip_hf import AnomalyDetector
from adaptclip_hf.cli import main
from adaptclip_hf.hub.staging import endpoint_files
from adaptclip_hf.synthetic import write_dataset


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A port, a link that stands for the cache, and what starts commands to which they are the Hub and the cache."""
    hub, cache = Hub(), tmp_path_factory.mktemp("home") / "cache"
    hub.close()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(cache), "OMP_NUM_THREADS": "1"}
    environment |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    started = Preloaded(environment)
    yield SimpleNamespace(port=hub.server.server_port, cache=cache, environment=environment, preloaded=started)
    started.close()


@pytest.fixture
def hub(place):
    hub = Hub(place.port)
    yield hub
    hub.close()


@pytest.fixture
def call(place, tmp_path):
    """Runs Python with the stand-in as its Hub and an empty cache; gives status and everything printed."""
    numbers = count()

    def run_with(*words, token=TOKEN, home=None):
        home = home or tmp_path / f"cache_{next(numbers)}"
        home.mkdir(exist_ok=True)
        place.cache.unlink(missing_ok=True)
        place.cache.symlink_to(home)
        environment = place.environment | ({"HF_TOKEN": token} if token else {})
        done = run_python(*words, by=place.preloaded, environment=environment)
        return done.returncode, done.stdout + done.stderr

    return run_with


PUSH = (*CLI, "push")
DETECT = (*CLI, "detect")
SCORE = """
import sys, adaptclip_hf
from transformers import pipeline
options = {"revision": sys.argv[3]} if len(sys.argv) > 3 else {}
print("score", pipeline("anomaly-detection", model=sys.argv[1], **options)(sys.argv[2])["score"].hex())
"""


@pytest.mark.slow
def test_pushed_and_loaded_elsewhere_with_the_same_bits(hub, call, small_folder, photos, tmp_path):
    folder = shutil.copytree(small_folder, tmp_path / "model")
    (folder / "checkpoint-8").mkdir()
    (folder / "checkpoint-8" / "optimizer.pt").write_bytes(b"0" * 100)
    (folder / "training_args.bin").write_bytes(b"0" * 100)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A card\n")
    status, text = call(*PUSH, folder, "me/parts", "--private")
    assert status == 0 and "pushed: http" in text, text
    names = {"SHA256SUMS", "config.json", "model.safetensors", "processor_config.json"}
    names |= {"tokenizer.json", "tokenizer_config.json"}
    assert set(hub.repos["me/parts"]["branches"]["main"]) == names | {"README.md"}
    status, text = call("-c", SCORE, "me/parts", photos["bad"][0])
    here = pipeline("anomaly-detection", model=str(small_folder), device="cpu")(photos["bad"][0])["score"]
    assert status == 0 and f"score {here.hex()}" in text, text
    status, text = call("-c", SCORE, "me/parts", photos["bad"][0], token=None)
    assert status != 0 and "If this is a private repository" in text.splitlines()[-1], text
    status, text = call(*DETECT, photos["bad"][0], "--model", "me/parts", "--output", tmp_path / "out", token=None)
    assert status == 1 and "A private or gated one needs a token" in text and "Traceback" not in text, text


PUSH_ALL = """
import sys
from adaptclip_hf import AdaptCLIPModel, PromptBank
from transformers import pipeline
detect = pipeline("anomaly-detection", model=sys.argv[1], device="cpu")
detect.model.push_to_hub("me/complete")
detect.push_to_hub("me/code", flavour="remote-code")
detect.model.push_to_hub("me/adapters", flavour="adapters", clip="org/clip")
bank = detect.encode_prompts(sys.argv[2:])
bank.push_to_hub("me/bank", model="me/complete")
bank.push_to_hub("me/shown", normal_images=sys.argv[2:])
"""

LOAD_ALL = """
import sys
from transformers import pipeline
import adaptclip_hf
for name, options in (("complete", {}), ("adapters", {}), ("code", {"trust_remote_code": True})):
    detect = pipeline("anomaly-detection", model=f"me/{name}", device="cpu", **options)
    print(name, detect(sys.argv[1])["score"].hex(), detect(sys.argv[1], prompt_bank="me/bank")["score"].hex())
"""


@pytest.mark.works("Hub", "`push_to_hub` of model, processor and pipeline, and loading elsewhere")
@pytest.mark.slow
def test_everything_pushed_from_python_loads_elsewhere(hub, call, small_folder, clip_folder, photos):
    clip = hub.serve("org/clip", clip_folder)
    status, text = call("-c", PUSH_ALL, small_folder, *photos["normal"][:2])
    assert status == 0, text
    pushed = {name.partition("/")[2]: repo["branches"]["main"] for name, repo in hub.repos.items()}
    model = {"SHA256SUMS", "config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json"}
    model |= {"README.md"}
    assert set(pushed["complete"]) == model | {"model.safetensors"}
    assert set(pushed["adapters"]) == model | {"adapters.safetensors"}
    assert set(pushed["bank"]) == {"prompt_bank.safetensors", "README.md"}
    assert set(pushed["shown"]) == {"prompt_bank.safetensors", "README.md", "normal_images.jpg"}
    assert "modeling_adaptclip.py" in pushed["code"] and b"trust_remote_code=True" in pushed["code"]["README.md"]
    config = json.loads(pushed["adapters"]["config.json"])
    assert config["clip_name"] == "org/clip" and config["clip_revision"] == commit_of(clip)
    assert b"base_model: org/clip" in pushed["adapters"]["README.md"]
    assert Image.open(BytesIO(pushed["shown"]["normal_images.jpg"])).width == 2 * 168 + 8
    detect = pipeline("anomaly-detection", model=str(small_folder), device="cpu")
    zero = detect(photos["bad"][0])["score"].hex()
    few = detect(photos["bad"][0], normal_images=photos["normal"][:2])["score"].hex()
    status, text = call("-c", LOAD_ALL, photos["bad"][0])
    assert status == 0, text
    for name in ("complete", "adapters", "code"):
        assert f"{name} {zero} {few}" in text, (name, zero, few, text)


PUSH_AS_STOCK = """
import sys
from adaptclip_hf import AdaptCLIPModel, PromptBank
from transformers import pipeline
detect = pipeline("anomaly-detection", model=sys.argv[1], device="cpu")
said = {"commit_message": "A model", "commit_description": "Of parts", "create_pr": True, "tags": ["parts", "clip"]}
print("at", detect.model.push_to_hub("me/parts", max_shard_size="50KB", **said).pr_url)
print("at", detect.encode_prompts(sys.argv[2:]).push_to_hub("me/bank", **said).pr_url)
detect.model.push_to_hub("me/whole")
try:
    pipeline(model="me/whole")
except RuntimeError as error:
    print("told:", error)
"""


@pytest.mark.works("Hub", "`create_pr`, `commit_description`, `tags`, `max_shard_size`")
@pytest.mark.slow
def test_a_push_takes_the_arguments_of_any_model(hub, call, small_folder, photos):
    status, text = call("-c", PUSH_AS_STOCK, small_folder, photos["normal"][0])
    assert status == 0 and "/me/parts/discussions/1" in text and "/me/bank/discussions/1" in text, text
    assert "does not seem to have a correct `pipeline_tag`" in text
    assert hub.messages[:2] == [("A model", "Of parts")] * 2
    for name in ("me/parts", "me/bank"):
        branches = hub.repos[name]["branches"]
        assert not branches["main"]
        tags = ModelCard(branches["refs/pr/1"]["README.md"].decode()).data.tags
        assert "parts" in tags and "adaptclip" in tags and len(tags) == len(set(tags))
    pushed = hub.repos["me/parts"]["branches"]["refs/pr/1"]
    assert "model.safetensors.index.json" in pushed and sum(name.endswith(".safetensors") for name in pushed) > 1
    assert "model.safetensors" not in pushed
    status, text = call("-c", SCORE, "me/parts", photos["bad"][0], "refs/pr/1")
    here = pipeline("anomaly-detection", model=str(small_folder), device="cpu")(photos["bad"][0])["score"]
    assert status == 0 and f"score {here.hex()}" in text, text


@pytest.mark.slow
def test_a_profile_decides_the_same_elsewhere(hub, call, small_folder, photos, tmp_path):
    hub.serve("me/parts", small_folder)
    fit = (
        "fit",
        "--no-verdict",
        "--normal",
        *photos["normal"],
        *photos["good"],
        "--false-alarm-rate",
        "20%",
        "--model",
        small_folder,
    )
    status, text = call(*CLI, *fit, "--output", tmp_path / "ring", "--quiet")
    assert status == 0, text
    status, text = call(*PUSH, tmp_path / "ring", "me/ring")
    assert status == 1 and "name its Hub id" in text, text
    status, text = call(*PUSH, tmp_path / "ring", "me/ring", "--model", "me/parts", "--private")
    assert status == 0, text
    pushed = hub.repos["me/ring"]["branches"]["main"]
    assert {name.rpartition(".")[2] for name in pushed} == {"json", "safetensors", "md"} and len(pushed) == 3
    assert str(tmp_path).encode() not in pushed["profile.json"] and b"me/parts" in pushed["README.md"]
    found = []
    for profile in (tmp_path / "ring", "me/ring"):
        output = tmp_path / f"out-{len(found)}"
        status, text = call(*DETECT, *photos["bad"], "--profile", profile, "--output", output, "--quiet")
        assert status == 0, text
        lines = [json.loads(line) for line in (output / "results.jsonl").read_text().splitlines()]
        found.append([(line["score"], line["p_value"], line["label"], line["regions"]) for line in lines])
    assert found[0] == found[1]


@pytest.mark.works("Hub", "`push_to_hub=True` of a training")
@pytest.mark.slow
def test_training_pushes_the_model_with_its_record(hub, call, small_folder, tmp_path):
    parts = write_dataset(tmp_path / "parts", 2, size=96, train=2, good=2, bad=4)
    words = ("--data", parts, "--output", tmp_path / "run", "--model", small_folder, "--num-train-epochs", "1")
    more = ("--push-to-hub", "--hub-model-id", "me/trained", "--use-cpu", "--per-device-train-batch-size", "4")
    status, text = call(*CLI, "train", *words, *more, "--feature-cache", tmp_path / "features")
    assert status == 0, text
    pushed = hub.repos["me/trained"]["branches"]["main"]
    assert set(pushed) >= {"model.safetensors", "processor_config.json", "README.md"}
    assert not any("checkpoint" in name or name.endswith((".bin", ".pt")) or name == "training.json" for name in pushed)
    card = pushed["README.md"].decode()
    assert (
        "12 images (8 anomalous) of parts" in card and "| 1.0 | 3 | 4 | adamw_torch | 0.001 | constant | 42 |" in card
    )
    assert str(tmp_path) not in card + pushed["config.json"].decode()
    record = json.loads((tmp_path / "run" / "training.json").read_text())
    assert record["images"] == 12 and record["normal_images"] == 4 and record["loss"] > 0


RELEASED = """
import torch
from adaptclip_hf import AdaptCLIPModel
model = AdaptCLIPModel.from_released("org/released", trained_on="visa", clip="org/clip", image_size=84)
torch.manual_seed(0)
print("score", model(torch.rand(1, 3, 84, 84)).anomaly_scores.item().hex(), model.config.clip_revision)
"""


@pytest.mark.slow
def test_released_checkpoints_are_fetched_once(hub, call, small_model, clip_folder, released_folder, tmp_path):
    clip = hub.serve("org/clip", clip_folder)
    hub.serve("org/released", released_folder, private=True)
    torch.manual_seed(0)
    expected = small_model(torch.rand(1, 3, 84, 84)).anomaly_scores.item().hex()
    status, text = call("-c", RELEASED, home=tmp_path / "home")
    assert status == 0 and f"score {expected} {commit_of(clip)}" in text, text
    hub.close()
    status, text = call("-c", RELEASED, home=tmp_path / "home")
    assert status == 0 and f"score {expected}" in text, text
    status, text = call("-c", RELEASED)
    assert status == 1 and "org/released is not in the cache and the Hub does not answer" in text


@pytest.mark.works("Hub", "tokens, and a clear error without one")
@pytest.mark.slow
def test_a_push_without_a_token_says_how_to_log_in(hub, call, small_folder):
    status, text = call(*PUSH, small_folder, "me/parts", token=None)
    assert status == 1 and "does not let you write me/parts: log in with `hf auth login`" in text, text
    assert "Traceback" not in text and not hub.repos


@pytest.mark.slow
def test_the_lines_of_the_pages_that_need_the_hub_run(hub, call, clip_folder, released_folder):
    hub.serve("openai/clip-vit-large-patch14-336", clip_folder)
    hub.serve("csgaobb/AdaptCLIP", released_folder)
    text = (ROOT / "docs" / "released.md").read_text() + (ROOT / "docs" / "hub.md").read_text()
    blocks = [
        each for each in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if any(w in each for w in NEED_THE_HUB)
    ]
    assert len(blocks) == 2
    for block in blocks:
        status, text = call("-c", block + 'print(sorted(result), "ran")')
        assert status == 0 and "ran" in text, text


@pytest.mark.slow
def test_a_push_that_breaks_off_publishes_nothing_and_the_next_completes(hub, call, small_folder, photos):
    for step in ("uploads", "commits"):
        setattr(hub, f"break_{step}", True)
        status, text = call(*PUSH, small_folder, "me/parts")
        assert status == 1 and "broke off" in text and "push again" in text and "Traceback" not in text, text
        assert not hub.repos["me/parts"]["branches"]["main"]
        setattr(hub, f"break_{step}", False)
    status, text = call("-c", SCORE, "me/parts", photos["bad"][0])
    assert status != 0 and "score" not in text.splitlines()[-1]
    status, text = call(*PUSH, small_folder, "me/parts", "--revision", "v2")  # into a branch
    assert status == 0 and "model.safetensors" in hub.repos["me/parts"]["branches"]["v2"], text
    assert not hub.repos["me/parts"]["branches"]["main"]
    status, text = call("-c", SCORE, "me/parts", photos["bad"][0], "v2")
    assert status == 0 and "score 0x" in text, text


@pytest.mark.slow
def test_a_hub_that_cannot_be_reached(hub, call, small_folder):
    hub.close()
    status, text = call(*PUSH, small_folder, "me/parts")
    assert status == 1 and "adaptclip: The push to me/parts broke off" in text and "Traceback" not in text, text
    status, text = call(*PUSH, small_folder, "me/parts", "--flavour", "adapters", "--clip", "org/clip")
    assert status == 1 and "cannot be asked for" in text and "Traceback" not in text, text


def test_dry_run_and_bad_folders(hub, small_folder, tmp_path, capsys):
    assert main(["push", str(small_folder), "me/parts", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "model.safetensors" in printed and "in all" in printed and "README.md" in printed
    assert not hub.repos and not (small_folder / "README.md").exists()
    assert main(["push", str(tmp_path / "none"), "me/parts"]) == 1
    assert "No model folder at" in capsys.readouterr().err
    assert main(["push", str(tmp_path), "me/parts"]) == 1
    assert "is not a complete model: it lacks config.json" in capsys.readouterr().err


def test_a_pushed_model_brings_its_endpoint_handler(small_folder, photos, tmp_path, capsys):
    assert main(["push", str(small_folder), "me/parts", "--endpoint-handler", "--dry-run"]) == 0
    assert {"handler.py", "requirements.txt"} <= set(capsys.readouterr().out.split())
    folder = tmp_path / "repository"
    shutil.copytree(small_folder, folder)
    endpoint_files(folder)
    spec = importlib.util.spec_from_file_location("handler", folder / "handler.py")
    handler = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(handler)
    answer = handler.EndpointHandler(str(folder))
    encoded = [base64.b64encode(Path(path).read_bytes()).decode() for path in photos["bad"] + photos["normal"]]
    found = answer(
        {"inputs": encoded[:2], "parameters": {"threshold": 0.1, "normal_images": encoded[3:], "overlay": True}}
    )
    detector = AnomalyDetector.from_pretrained(small_folder)
    expected = detector.detect(photos["bad"][:2], prompt_bank=detector.remember(photos["normal"]))
    assert [each["score"] for each in found] == pytest.approx([each.score for each in expected], abs=1e-6)
    assert found[0]["label"] == "anomalous" and base64.b64decode(found[0]["overlay"]).startswith(b"\x89PNG")
    for wrong in (photos["bad"][0], {"a": 1}, None):  # a path is not read
        with pytest.raises(ValueError):
            answer({"inputs": wrong})
    with pytest.raises(ValueError, match="Unknown parameters"):
        answer({"inputs": encoded[0], "parameters": {"profile": "/etc"}})
