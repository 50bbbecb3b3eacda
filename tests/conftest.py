import gc
import json
import os
from collections import Counter
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported

import pytest
import torch
from safetensors.torch import load_file
from small_clip import small_clip_config
from transformers import AutoTokenizer, CLIPModel

from adaptclip_hf import DEFAULT_MODEL, AdaptCLIPModel, AdaptCLIPProcessor
from adaptclip_hf.conversion import adapter_names
from adaptclip_hf.synthetic import make_category, render_sample

SHARED = Path(os.environ.get("ADAPTCLIP_SHARED", Path(__file__).resolve().parents[2] / "shared"))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Those that say `slow(SECONDS)` first, the longest before the others: no process has one to itself at the end.

    A group, which one process runs, takes as long as all of its tests.
    """
    takes: Counter[str] = Counter()
    for item in items:
        if (mark := item.get_closest_marker("slow")) and mark.args:
            takes[unit_of(item)] += mark.args[0]
    items.sort(key=lambda item: -takes[unit_of(item)])


def unit_of(item) -> str:
    """What one process runs: a group or a test."""
    group = item.get_closest_marker("xdist_group")
    return group.args[0] if group else item.nodeid


def pytest_collection_finish():
    """What the imports made stays until the end: no garbage collection looks at it again, and Trainer asks for many."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def same_dtype():
    """Commands choose float32, whatever this processor multiplies fastest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("adaptclip_hf.product_rates.kept_rates", lambda folder: {"float32": 1.0, "bfloat16": 1.0})
        yield


@pytest.fixture(autouse=True)
def seeded():
    """The same random numbers and as many threads for each test."""
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    yield
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the reference numbers, which stands beside the project and not in it."""
    if not (SHARED / "reference").is_dir():
        pytest.skip(f"no reference numbers at {SHARED} (ADAPTCLIP_SHARED names another place)")
    return SHARED


@pytest.fixture(scope="session", params=["case_a", "case_b"])
def case(request, shared) -> dict:
    """One reference case: its settings, inputs and what is expected."""
    folder = shared / "reference" / request.param
    return {
        "folder": folder,
        "settings": json.loads((folder / "case.json").read_text()),
        "inputs": load_file(folder / "inputs.safetensors"),
        "expected": load_file(folder / "expected.safetensors"),
        "training": load_file(folder / "training.safetensors"),
    }


@pytest.fixture(scope="session")
def tokenizer():
    return AutoTokenizer.from_pretrained(DEFAULT_MODEL)


@pytest.fixture(scope="session")
def make_model(tokenizer):
    """Builds a small model with seeded random weights; arguments go to the config."""

    def make(seed: int = 0, clip: dict | None = None, **config) -> AdaptCLIPModel:
        torch.manual_seed(seed)
        clip_model = CLIPModel(small_clip_config(len(tokenizer), **(clip or {})))
        settings = {"image_size": 84, "prompt_length": 4, "prompt_query_hidden_size": 16, **config}
        model = AdaptCLIPModel.from_clip_pretrained(clip_model, tokenizer, **settings)
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                if name.endswith("running_mean"):
                    buffer.normal_(0, 0.1)
                elif name.endswith("running_var"):
                    buffer.uniform_(0.5, 1.5)
        model.config.fresh_adapters = None  # what they hold stands for what was learned
        return model

    return make


@pytest.fixture(scope="session")
def small_model(make_model) -> AdaptCLIPModel:
    """A model for reading; tests that change one make their own."""
    return make_model()


@pytest.fixture(scope="session")
def small_folder(make_model, tokenizer, tmp_path_factory) -> Path:
    """The same small model saved with its processor."""
    folder = tmp_path_factory.mktemp("model")
    model = make_model()
    model.save_pretrained(folder)
    AdaptCLIPProcessor.for_model(model.config, tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def clip_folder(small_model, tokenizer, tmp_path_factory) -> Path:
    """The small model's CLIP as a folder of its own."""
    folder = tmp_path_factory.mktemp("clip")
    small_model.clip.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def released_folder(small_model, make_model, tmp_path_factory) -> Path:
    """Two checkpoints in the authors' layout, of which that of VisA holds the small model's adapters."""
    folder = tmp_path_factory.mktemp("released")
    (folder / "weights").mkdir()
    (folder / "notes.txt").write_text("no checkpoint")
    for name, model in (("visa", small_model), ("mvtec", make_model(seed=1))):
        checkpoint, state = {}, model.state_dict()
        for ours, copies in adapter_names(model).items():
            for theirs in copies:
                learner, _, tensor = theirs.partition(".")
                shape = (1, 1, *state[ours].shape) if learner == "textual_learner" else state[ours].shape
                checkpoint.setdefault(learner, {})[tensor] = state[ours].clone().reshape(shape)
        torch.save(checkpoint, folder / "weights" / f"trained_on_{name}.pth")
    return folder


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> dict:
    """Procedural photos on disk: `normal` (4), `good` (2) and `bad` (3) of one product."""
    from PIL import Image

    folder, category = tmp_path_factory.mktemp("photos"), make_category(5, "metal ring")
    paths = {"normal": [], "good": [], "bad": []}
    for kind, count, first in (("normal", 4, 0), ("good", 2, 10), ("bad", 3, 20)):
        for index in range(count):
            image, _, _ = render_sample(category, first + index, 150, defect="stain" if kind == "bad" else False)
            path = folder / f"{kind}_{index}.png"
            Image.fromarray(image).resize((170, 150)).save(path)
            paths[kind].append(str(path))
    return paths
