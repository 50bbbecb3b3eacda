"""A profile's two files: every value is checked, damage is refused by name, and nobody reads a half of two."""

import hashlib
import json
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save

from adaptclip_hf import AnomalyDetector, InspectionProfile
from adaptclip_hf.cli import main
from adaptclip_hf.inspection.profile_content import content_digest

FIXTURE = Path(__file__).resolve().parents[1] / "fixtures" / "v0_2"


@pytest.fixture
def old(tmp_path) -> Path:
    """A profile of an earlier version, without digests in `profile.json`."""
    return Path(shutil.copytree(FIXTURE / "profile", tmp_path / "old"))


@pytest.fixture
def new(tmp_path) -> Path:
    """The same profile, saved by this version."""
    return InspectionProfile.from_pretrained(FIXTURE / "profile").save_pretrained(tmp_path / "new")


def rewrite(folder: Path, change: Callable[[dict], object], digest: bool = False):
    """Changes `profile.json`.

    Args:
        digest: as somebody would who can compute digests.
    """
    content = json.loads((folder / "profile.json").read_text())
    change(content)
    if digest:
        content["sha256"] = content_digest(content)
    (folder / "profile.json").write_text(json.dumps(content))


def refusal(folder: Path) -> str:
    with pytest.raises(ValueError, match="is not a profile") as refused:
        InspectionProfile.from_pretrained(folder)
    [line] = str(refused.value).splitlines()
    assert line.startswith(f"{folder / 'profile.json'} is not a profile") and line.endswith("a copy that is whole.")
    return line


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", None),
        ("model", 3),
        ("settings", None),
        ("settings.false_alarm_rate", "0.2"),
        ("settings.false_alarm_rate", 0.01),
        ("settings.choice", "best"),
        ("settings.seed", -1),
        ("settings.storage", "float8"),
        ("settings.object_name", 7),
        ("view.tile", 3),
        ("view.tile", "64"),
        ("view.overlap", float("nan")),
        ("view.region", [0, 0, 99, 99]),
        ("view.region", "0123"),
        ("method", "split"),
        ("threshold", float("nan")),
        ("threshold", float("inf")),
        ("threshold", None),
        ("threshold", "0.5"),
        ("threshold", 5.0),
        ("threshold", 10**400),
        ("threshold", 0.1),  # other rates are stated
        ("pixel_threshold", 0.9),
        ("pixel_threshold", True),
        ("false_alarm_rate_on_average", 0.01),
        ("escapes", {"defects": 3, "missed": 0, "rate": 0.0, "low": 0.0, "high": 0.7}),
        ("features", "../features-e0035f33b6be7859.safetensors"),
        ("bank_rows", []),
        ("bank_rows", [0, 99]),
        ("bank_rows", [1, 0]),
        ("bank_rows", [[0]]),
        ("photos", []),
        ("photos", {}),
        ("photos.0.name", None),
        ("photos.0.digest", "8af4"),
        ("photos.0.size", [40]),
        ("photos.0.size", [10**12, 40]),
        ("photos.0.role", "defect"),
        ("photos.0.role", "unknown"),
        ("photos.0.rows", [0, 2]),
        ("photos.0.score", float("nan")),
        ("photos.0.score", 2.0),
        ("photos.0.peak", -1.0),
        ("made_by", {}),
        ("made_by.dtype", "load"),
        ("made_by.feature_layers", 2),
        ("made_by.fingerprint", {"weights": 3}),
        ("made_by.preprocessing", None),
        ("strange", 1),
    ],
)
def test_every_value_has_a_type_and_a_range(old, field, value):
    *path, name = field.split(".")

    def change(content):
        for each in path:
            content = content[int(each) if each.isdigit() else each]
        content[name] = value

    rewrite(old, change)
    said = refusal(old).partition("adaptclip fit")[2]
    says = {"settings.false_alarm_rate": "cannot carry", "method": "photos.0.role", "photos.0.role": "bank_rows"}
    assert says.get(field, field.split(".")[0]) in said or field in said


@pytest.mark.parametrize("text", [b"", b"[]", b"null", b"[" * 100_000, b'{"format": 1', b"\xff\xfe{", b'{"format": 1}'])
def test_what_is_no_profile_at_all(old, text, capsys):
    (old / "profile.json").write_bytes(text)
    refusal(old)
    assert main(["detect", "part.png", "--profile", str(old)]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"adaptclip: {old / 'profile.json'} is not a profile")


@pytest.mark.parametrize("folder", ["old", "new"])
def test_a_flipped_bit_in_the_features_is_refused(folder, request):
    folder = request.getfixturevalue(folder)
    [file] = folder.glob("*.safetensors")
    whole = file.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(whole), 20):
        damaged = bytearray(whole)
        damaged[place] ^= 64
        file.write_bytes(damaged)
        assert f"{file.name} is damaged or was changed" in refusal(folder)
    file.write_bytes(whole)
    InspectionProfile.from_pretrained(folder)


@pytest.mark.parametrize(("name", "value"), [("layer.1", float("nan")), ("image_embeds", float("inf"))])
def test_features_that_are_not_finite_are_refused_whoever_hashed_them(new, name, value):
    [file] = new.glob("*.safetensors")
    tensors = load_file(file)
    tensors[name][3].view(-1)[5] = value
    put_features(new, file, tensors)
    assert f"{name} of good/3.png holds numbers that are not finite" in refusal(new)


@pytest.mark.parametrize("way", ["fewer", "other", "more", "float64", "flat"])
def test_features_of_other_photos_are_refused(new, way):
    [file] = new.glob("*.safetensors")
    tensors = load_file(file)
    changed = {
        "fewer": lambda: tensors.update(image_embeds=tensors["image_embeds"][:3].clone()),
        "other": lambda: tensors.pop("layer.1"),
        "more": lambda: tensors.update(strange=torch.zeros(3)),
        "float64": lambda: tensors.update(image_embeds=tensors["image_embeds"].double()),
        "flat": lambda: tensors.update({"layer.0": tensors["layer.0"].flatten(1)}),
    }
    changed[way]()
    put_features(new, file, tensors)
    assert "expected" in refusal(new)


def put_features(folder: Path, file: Path, tensors: dict[str, torch.Tensor]):
    """Other features, with the digests that belong to them."""
    packed = save(tensors)
    digest = hashlib.sha256(packed).hexdigest()
    file.unlink()
    file = folder / f"features-{digest[:16]}.safetensors"
    file.write_bytes(packed)
    rewrite(folder, lambda content: content.update(features=file.name, features_sha256=digest), digest=True)


def test_what_decides_cannot_be_changed_and_the_model_may_move(new):
    before = InspectionProfile.from_pretrained(new)
    rewrite(new, lambda content: content.update(model="elsewhere/model"))
    moved = InspectionProfile.from_pretrained(new)
    assert moved.model == "elsewhere/model" and moved.digest() == before.digest()
    whole = (new / "profile.json").read_text()
    for change in (
        lambda content: content.update(threshold=0.9),
        lambda content: content["photos"][0].update(name="another.png"),
        lambda content: content["made_by"].update(weights="0" * 64),
        lambda content: content["settings"].update(seed=3),
    ):
        rewrite(new, change)
        assert "changed or damaged after it was written" in refusal(new)
        (new / "profile.json").write_text(whole)
    rewrite(new, lambda content: content.pop("sha256"))
    assert "one of the digests is not there" in refusal(new)


def test_a_moved_threshold_is_kept(old, new):
    profile = InspectionProfile.from_pretrained(new)
    for threshold in (0.0, 0.3, 1.0):
        moved = replace(profile, calibration=replace(profile.calibration, threshold=threshold))
        again = InspectionProfile.from_pretrained(moved.save_pretrained(new))
        assert again.calibration.threshold == threshold and again.describe() == moved.describe()
    for threshold in (float("nan"), float("inf"), None, "0.5", True):
        with pytest.raises(ValueError, match="threshold that is a finite number"):
            replace(profile.calibration, threshold=threshold)


def test_names_that_are_no_unicode_are_kept(new):
    profile = InspectionProfile.from_pretrained(new)
    first, *others = profile.features.photos
    photos = (replace(first, name="teil\udcff.png"), *others)
    profile = replace(profile, features=replace(profile.features, photos=photos))
    again = InspectionProfile.from_pretrained(profile.save_pretrained(new))
    assert again.features.photos[0].name == "teil\udcff.png"


def test_a_reader_gets_one_profile_or_the_other(new):
    """Two save again and again, two read: no read fails, and at the end two files are there."""
    one = InspectionProfile.from_pretrained(new)
    halved = {name: tensor / 2 for name, tensor in one.features.tensors.items()}
    other = replace(one, features=replace(one.features, tensors=halved))
    one.digest(), other.digest()  # once, in this thread
    known, read, failures, done = {one.digest(), other.digest()}, [], [], threading.Event()

    def keep_reading():
        while not done.is_set() or not read:
            try:
                read.append(InspectionProfile.from_pretrained(new))
            except Exception as error:
                failures.append(error)
                return

    def keep_saving(profiles):
        for number in range(30):
            profiles[number % 2].save_pretrained(new)

    readers = [threading.Thread(target=keep_reading) for _ in range(2)]
    writers = [threading.Thread(target=keep_saving, args=(each,)) for each in ((one, other), (other, one))]
    for thread in (*readers, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in readers:
        thread.join()
    assert not failures and {profile.digest() for profile in read[-20:]} <= known
    assert sorted(file.suffix for file in new.iterdir() if file.is_file()) == [".json", ".safetensors"]


def test_it_is_saved_on_a_share_without_locks(new, monkeypatch, tmp_path):
    fcntl = pytest.importorskip("fcntl")

    def no_locks(*arguments):
        raise OSError(37, "No locks available")

    profile = InspectionProfile.from_pretrained(new)
    monkeypatch.setattr(fcntl, "flock", no_locks)
    assert InspectionProfile.from_pretrained(profile.save_pretrained(tmp_path / "share")).digest() == profile.digest()


def test_it_decides_as_before_through_both_files(old, new):
    detector = AnomalyDetector.from_pretrained(FIXTURE / "model", device="cpu")
    by_old, by_new = (detector.detect(str(FIXTURE / "images/a/0.png"), profile=each)[0] for each in (old, new))
    assert (by_old.score, by_old.p_value, by_old.label) == (by_new.score, by_new.p_value, by_new.label)


def test_a_mistyped_name_is_told_at_once(old, monkeypatch, capsys):
    monkeypatch.chdir(old.parent)
    old.rename("bottle")
    asked = []
    monkeypatch.setattr("transformers.utils.cached_file", lambda *args, **more: asked.append(args))
    for name in ("botle", "./botle", "a/b/botle"):
        assert main(["detect", "part.png", "--profile", name]) == 1
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith(f"adaptclip: No profile at {name}: there is no such folder, and it is no Hub id")
        assert ("Near it: bottle." in line) == (name in ("botle", "./botle"))
    assert not asked


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--profile", "line/botle"], "No profile at line/botle"),
        (["--model", "line/tiny"], "No model at line/tiny"),
        (["--prompt-bank", "line/bank"], "No prompt bank at line/bank"),
    ],
)
def test_a_hub_that_does_not_answer_is_asked_once(words, expected, monkeypatch, capsys):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert main(["detect", "part.png", *words]) == 1
    *_, line = capsys.readouterr().err.splitlines()
    assert expected in line and "the Hub cannot be reached" in line


def test_a_mistyped_model_is_told_at_once(monkeypatch, capsys):
    monkeypatch.setattr("adaptclip_hf.loading.reaching", lambda hub: pytest.fail("the Hub is not asked"))
    assert main(["detect", "part.png", "--model", "adaptclip-tny"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "No model at adaptclip-tny" in line and "Near it: adaptclip-tiny." in line
