"""What is damaged is refused by name when it is opened, and never scored as normal."""

import json
import shutil
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from adaptclip_hf import AdaptCLIPConfig, AdaptCLIPModel, AdaptCLIPProcessor, AnomalyDetector, PromptBank
from adaptclip_hf.hub.model_folders import save_model_folder
from adaptclip_hf.hub.staging import stage_model_folder
from adaptclip_hf.modeling import alignment
from adaptclip_hf.modeling.adapters_file import load_adapters, save_adapters
from adaptclip_hf.modeling.alignment import nearest_tokens
from adaptclip_hf.modeling.checksums import CHECKSUMS_FILE, read_checksums
from adaptclip_hf.modeling.fusion import fuse
from adaptclip_hf.processing.thresholds import label_of

ADAPTER = "prompt_query_adapter.image_head.0.weight"


def flip(file: Path, place: float = 0.9):
    """Flips one bit."""
    content = bytearray(file.read_bytes())
    content[int(len(content) * place)] ^= 1
    file.write_bytes(content)


def set_nan(file: Path, name: str):
    """Writes one NaN, as an older version would have, without sums."""
    tensors = load_file(file)
    tensors[name].view(-1)[3] = float("nan")
    save_file(tensors, file, metadata={"format": "pt"})
    (file.parent / CHECKSUMS_FILE).unlink(missing_ok=True)


@pytest.fixture
def copied(small_folder, tmp_path) -> Path:
    return Path(shutil.copytree(small_folder, tmp_path / "model"))


@pytest.mark.parametrize("text_tower", [True, False])
def test_a_flipped_bit_in_the_weights_is_refused(copied, text_tower):
    flip(copied / "model.safetensors")
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged or was changed: its SHA-256"):
        AdaptCLIPModel.from_pretrained(copied, text_tower=text_tower)


def test_each_shard_and_their_index_are_checked(make_model, tmp_path):
    model = make_model()
    model.save_pretrained(tmp_path, max_shard_size="200KB")
    files = sorted(tmp_path.glob("model*"))
    assert len(files) > 2 and set(read_checksums(tmp_path / CHECKSUMS_FILE)) == {file.name for file in files}
    AdaptCLIPModel.from_pretrained(tmp_path)
    for file in files:
        before = file.read_bytes()
        flip(file)
        with pytest.raises(ValueError, match=f"{file.name} is damaged"):
            AdaptCLIPModel.from_pretrained(tmp_path, text_tower=False)
        file.write_bytes(before)
    (tmp_path / CHECKSUMS_FILE).unlink()
    index = tmp_path / "model.safetensors.index.json"
    for wrong in ("../elsewhere.safetensors", "/etc/passwd", "pytorch_model.bin"):
        index.write_text(json.dumps({"weight_map": {"clip.logit_scale": wrong}}))
        with pytest.raises(ValueError, match=r"model\.safetensors\.index\.json: weight_map must name"):
            AdaptCLIPModel.from_pretrained(tmp_path)


def test_what_we_write_is_never_beside_old_sums(make_model, tmp_path):
    model = make_model()
    model.save_pretrained(tmp_path, max_shard_size="200KB")
    with torch.no_grad():
        model.visual_adapter.local_branch.down.weight.mul_(2)
    model.save_pretrained(tmp_path)
    save_adapters(model, tmp_path)
    assert set(read_checksums(tmp_path / CHECKSUMS_FILE)) == {"model.safetensors", "adapters.safetensors"}
    weight = model.visual_adapter.local_branch.down.weight
    loaded = AdaptCLIPModel.from_pretrained(tmp_path)
    assert torch.equal(loaded.visual_adapter.local_branch.down.weight, weight)
    load_adapters(model, tmp_path)
    flip(tmp_path / "adapters.safetensors")
    with pytest.raises(ValueError, match=r"adapters\.safetensors is damaged"):
        load_adapters(model, tmp_path)
    (tmp_path / CHECKSUMS_FILE).write_text("")
    with pytest.raises(ValueError, match=r"SHA256SUMS does not name model\.safetensors"):
        AdaptCLIPModel.from_pretrained(tmp_path)


def test_shards_replace_the_one_file_of_an_earlier_save(make_model, tmp_path):
    model = make_model()
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        model.visual_adapter.local_branch.down.weight.mul_(2)
    model.save_pretrained(tmp_path, max_shard_size="200KB")
    loaded = AdaptCLIPModel.from_pretrained(tmp_path)
    expected = model.visual_adapter.local_branch.down.weight
    assert torch.equal(loaded.visual_adapter.local_branch.down.weight, expected)


def test_a_push_brings_the_sums_of_its_weights_and_refuses_damaged_ones(copied, tmp_path):
    files = {file.name: file for file in stage_model_folder(copied, tmp_path, "me/model")}
    assert files[CHECKSUMS_FILE] == copied / CHECKSUMS_FILE
    (copied / CHECKSUMS_FILE).unlink()  # as an older version wrote it
    files = {file.name: file for file in stage_model_folder(copied, tmp_path, "me/model")}
    assert files[CHECKSUMS_FILE].parent == tmp_path and not (copied / CHECKSUMS_FILE).exists()
    shutil.copy(files[CHECKSUMS_FILE], copied)
    flip(copied / "model.safetensors")
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        stage_model_folder(copied, tmp_path, "me/model")


@pytest.mark.parametrize("text_tower", [True, False])
@pytest.mark.parametrize("name", [ADAPTER, "clip.vision_model.embeddings.class_embedding", "static_text_embeds"])
def test_a_value_that_is_not_finite_is_refused_without_sums_too(copied, name, text_tower):
    set_nan(copied / "model.safetensors", name)
    with pytest.raises(ValueError, match=rf"model: {name} .*not finite"):
        AdaptCLIPModel.from_pretrained(copied, text_tower=text_tower)


def test_adapters_alone_are_checked(small_folder, clip_folder, tmp_path):
    model, processor = (each.from_pretrained(small_folder) for each in (AdaptCLIPModel, AdaptCLIPProcessor))
    save_model_folder(model, processor, tmp_path, "adapters", str(clip_folder))
    AdaptCLIPModel.from_pretrained(tmp_path)
    flip(tmp_path / "adapters.safetensors")
    with pytest.raises(ValueError, match=r"adapters\.safetensors is damaged"):
        AdaptCLIPModel.from_pretrained(tmp_path)
    save_adapters(model, tmp_path)
    (tmp_path / CHECKSUMS_FILE).unlink()
    tensors = load_file(tmp_path / "adapters.safetensors")
    tensors[ADAPTER][0, 0] = float("inf")
    save_file(tensors, tmp_path / "adapters.safetensors", metadata={"clip": model.clip_digest()})
    with pytest.raises(ValueError, match=rf"adapters\.safetensors: {ADAPTER} holds values that are not finite"):
        AdaptCLIPModel.from_pretrained(tmp_path)


def test_prompts_that_were_never_encoded_are_no_damage(small_model, tmp_path):
    clip = deepcopy(small_model.clip)
    AdaptCLIPModel(AdaptCLIPConfig.from_dict(small_model.config.to_dict()), clip).save_pretrained(tmp_path)
    loaded = AdaptCLIPModel.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="not encoded yet"):
        loaded.encode_text()


def test_damaged_banks(small_model, tmp_path):
    size = small_model.config.image_size
    file = small_model.encode_prompts(torch.randn(2, 3, size, size)).save_pretrained(tmp_path)
    for storage in (None, "float16", "int8"):
        PromptBank.from_pretrained(PromptBank.from_pretrained(file).save_pretrained(tmp_path / "again", storage))
    before = file.read_bytes()
    for place in np.linspace(0, 0.999, 40):
        flip(file, place)
        with pytest.raises(ValueError, match=str(file)):
            PromptBank.from_pretrained(file)
        file.write_bytes(before)
    tensors = load_file(file)
    tensors["layer.1"][0, 0, 0] = float("nan")
    metadata = {"fingerprint": "{}", "preprocessing": "{}"}  # as an older version wrote it
    save_file(tensors, file, metadata=metadata)
    with pytest.raises(ValueError, match=r"prompt_bank\.safetensors: layer\.1 holds values that are not finite"):
        PromptBank.from_pretrained(file)
    save_file({"layer.0": torch.zeros(3)}, file, metadata=metadata)
    with pytest.raises(ValueError, match="features"):
        PromptBank.from_pretrained(file)


def test_fusion_hands_nan_on_and_zeros_as_before():
    zero, nan = torch.zeros(1, 8, 8), torch.full((1, 8, 8), float("nan"))
    score = torch.tensor([0.4])
    for kind in ("harmonic", "mean"):
        for distances in (None, torch.stack([zero, zero])):
            fused_map, fused = fuse([zero], [score * 0], distances, kind, 1.0)
            assert fused_map.eq(0).all() and fused.eq(0).all()
            assert fuse([nan], [score], distances, kind, 1.0)[0].isnan().all()
            assert fuse([zero], [score * float("nan")], distances, kind, 1.0)[1].isnan().all()
    assert fuse([zero], [score], torch.stack([zero, nan]), "harmonic", 1.0)[1].isnan().all()
    assert fuse([zero + 1], [score], torch.stack([zero, zero]), "harmonic", 1.0)[1].item() == 0  # as released


def test_a_damaged_normal_token_is_not_passed_over(monkeypatch):
    monkeypatch.setattr(alignment, "SIMILARITIES_AT_ONCE", 4)
    query, pool = torch.eye(3)[None, :2], torch.eye(3).repeat(3, 1)
    assert nearest_tokens(query, pool).isfinite().all()
    pool[7] = float("nan")
    assert nearest_tokens(query, pool).isnan().all()


def test_nothing_that_is_no_number_is_normal():
    for score, threshold in ((float("nan"), 0.5), (0.5, float("nan"))):
        with pytest.raises(ValueError, match="is no number"):
            label_of(score, threshold)


def test_damage_in_memory_gives_no_score(make_model, small_folder, photos):
    """An adapter that diverged, and a bank that was made by hand."""
    detector = AnomalyDetector(make_model(), AnomalyDetector.from_pretrained(small_folder, device="cpu").processor)
    bank = detector.remember(photos["normal"][:1])
    damaged = PromptBank(tuple(layer.clone() for layer in bank.features), bank.fingerprint, bank.preprocessing)
    damaged.features[0][0, 5, 0] = float("nan")
    with pytest.raises(ValueError, match=r"the prompt bank: layer\.0 holds values that are not finite"):
        detector.detect(photos["bad"][0], prompt_bank=damaged)
    with pytest.raises(ValueError, match="not finite"):  # the path of evaluation and training
        output = detector.model(detector.reader.pixel_values(photo_of(photos)), prompt_bank=damaged)
        detector.processor.post_process_anomaly_detection(output, threshold=0.5)
    with torch.no_grad():
        detector.model.get_parameter(ADAPTER)[0, 0] = float("nan")
        detector.model.visual_adapter.local_branch.down.weight[0, 0] = float("nan")
    for prompt_bank in (None, bank):
        with pytest.raises(ValueError, match="A score is not finite"):
            detector.detect(photos["bad"][0], prompt_bank=prompt_bank, threshold=0.5)


def photo_of(photos):
    from PIL import Image

    return Image.open(photos["bad"][0]).convert("RGB")
