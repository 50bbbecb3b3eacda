"""The engine: one way in for whoever scores an image, without a state that a call can change."""

import gc
import io
import os
import shutil
import subprocess
import sys
import time
import tracemalloc
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import pipeline

from adaptclip_hf import AdaptCLIPModel, AnomalyDetector, View
from adaptclip_hf.engine import AnomalyScorer
from adaptclip_hf.engine.prefetch import Prefetch
from adaptclip_hf.engine.scoring import to_cpu
from adaptclip_hf.synthetic import make_category, render_sample


@pytest.fixture(scope="module")
def detector(small_folder) -> AnomalyDetector:
    return AnomalyDetector.from_pretrained(small_folder, device="cpu")


@pytest.fixture(scope="module")
def products() -> dict[str, dict[str, list[Image.Image]]]:
    """Three products with two normal images and three to look at."""
    found = {}
    for seed, name in ((5, "metal ring"), (6, "leather"), (7, "cookie")):
        category = make_category(seed, name)
        pictures = [Image.fromarray(render_sample(category, index, 90)[0]) for index in range(5)]
        found[name] = {"normal": pictures[:2], "test": pictures[2:]}
    return found


def test_results_are_of_one_kind_and_equal_the_pipelines(detector, small_folder, photos):
    bank = detector.remember(photos["normal"])
    results = detector.detect(photos["bad"], prompt_bank=bank, threshold=0.2)
    detect = pipeline("anomaly-detection", model=str(small_folder), device="cpu")
    for result, theirs in zip(results, detect(photos["bad"], prompt_bank=bank, threshold=0.2), strict=True):
        assert (result.score, result.label, result.name) == (theirs["score"], theirs["label"], theirs["path"])
        assert result.anomaly_map.shape == (150, 170) and result.anomaly_map.dtype == np.float32
        np.testing.assert_array_equal(result.anomaly_map, theirs["anomaly_map"])
        assert result.image is None and result.heatmap(Image.open(result.name)).size == (170, 150)
    [single] = detector.detect(photos["bad"][0])
    assert single.label is None and single.score == detect(photos["bad"][0])["score"]


def test_a_bank_for_each_image_of_a_batch(detector, products):
    banks = {name: detector.remember(each["normal"]) for name, each in products.items()}
    images = [each["test"][0] for each in products.values()]
    together = detector.detect(images, prompt_bank=list(banks.values()), batch_size=3)
    for image, bank, result in zip(images, banks.values(), together, strict=True):
        [alone] = detector.detect(image, prompt_bank=bank)
        assert result.score == pytest.approx(alone.score, abs=1e-6)
        np.testing.assert_allclose(result.model_map, alone.model_map, atol=1e-5)
    swapped = detector.detect(images, prompt_bank=list(banks.values())[::-1], batch_size=3)
    assert swapped[0].score != together[0].score and swapped[1].score == together[1].score
    for wrong, message in (
        (list(banks.values())[:2], "for each image, got NoneType for the image"),
        ([*banks.values(), banks["leather"]], "more banks than images"),
        ([None, *banks.values()][:3], "got NoneType"),
    ):
        with pytest.raises(ValueError, match=message):
            detector.detect(images, prompt_bank=wrong)


def test_any_iterable_of_images_and_a_banks_file(detector, photos, tmp_path):
    bank = detector.remember(deque(photos["normal"]))
    assert bank == detector.remember(path for path in photos["normal"])
    file = bank.save_pretrained(tmp_path / "ring.safetensors")
    expected = [each.score for each in detector.detect(photos["bad"], prompt_bank=bank)]
    for images in (tuple(photos["bad"]), dict.fromkeys(photos["bad"]).keys(), iter(photos["bad"])):
        assert [each.score for each in detector.detect(images, prompt_bank=str(file))] == expected
    batch = np.stack([np.asarray(Image.open(path)) for path in photos["bad"]])
    assert [each.score for each in detector.detect(batch, prompt_bank=file)] == expected


def test_a_stream_of_unknown_length_makes_the_bank_of_the_list(detector, products):
    images = [image for each in products.values() for kind in each.values() for image in kind]
    assert len(images) == 15
    listed, streamed = detector.remember(images), detector.remember(iter(images))
    assert listed == streamed and len(streamed) == 15 and streamed.digest() == listed.digest()
    assert [layer.is_contiguous() for layer in streamed.features] == [True] * len(streamed.features)


def test_banks_of_different_lengths_in_a_batch(detector, products):
    [ring, leather, _] = products.values()
    banks = [detector.remember(ring["normal"]), detector.remember(leather["normal"][:1])]
    images = [ring["test"][0], leather["test"][0]]
    together = detector.detect(images, prompt_bank=banks, batch_size=2)
    alone = [detector.detect(image, prompt_bank=bank)[0].score for image, bank in zip(images, banks, strict=True)]
    assert [each.score for each in together] == pytest.approx(alone, abs=1e-6)


def calls_of(detector, products, count: int):
    """So many different calls: another product, bank, object name and threshold each."""
    banks = {name: detector.remember(each["normal"]) for name, each in products.items()}
    texts = {name: detector.encode_text(name) for name in products}

    def call(index: int) -> tuple:
        name = list(products)[index % 3]
        image = products[name]["test"][index // 3 % 3]
        bank = banks[name] if index % 2 else None
        [result] = detector.detect(image, prompt_bank=bank, text_embeds=texts[name], threshold=index % 10 / 10)
        return result.score, result.label, result.model_map.tobytes()

    return call, range(count)


@pytest.fixture
def one_thread():
    """Each call computes alone, so that its bits do not depend on who shares the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("count", [90, pytest.param(400, marks=pytest.mark.slow)])
def test_threads_get_the_bits_of_one_after_the_other(detector, products, one_thread, count):
    call, numbers = calls_of(detector, products, count)
    expected = [call(number) for number in numbers]
    with ThreadPoolExecutor(8, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        assert list(pool.map(call, numbers)) == expected
    assert len({scores for scores, *_ in expected}) > 10


def test_two_threads_and_one_pipeline_with_different_object_names(small_folder, photos, one_thread):
    detect = pipeline("anomaly-detection", model=str(small_folder), device="cpu")
    names = ["metal ring", "leather", "object"]
    expected = {name: detect(photos["bad"][0], object_name=name)["score"] for name in names}
    assert len(set(expected.values())) == 3
    with ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        found = list(pool.map(lambda n: (n, detect(photos["bad"][0], object_name=n)["score"]), names * 10))
    assert all(score == expected[name] for name, score in found)


def test_a_call_that_fails_leaves_nothing_behind(small_folder, photos):
    detect = pipeline("anomaly-detection", model=str(small_folder), device="cpu")
    before = detect(photos["bad"][0])["score"]
    with pytest.raises(FileNotFoundError):
        detect(photos["bad"][0], object_name="leather", prompt_bank="missing.safetensors")
    assert detect(photos["bad"][0])["score"] == before and detect.model.config.object_name == "object"
    detect(photos["bad"][0], object_name="leather")
    assert detect(photos["bad"][0])["score"] == before


def test_an_object_name_given_again_is_not_encoded_again(small_folder, photos, monkeypatch):
    detect = pipeline("anomaly-detection", model=str(small_folder), device="cpu")
    encode, encoded = detect.model.encode_text, []
    monkeypatch.setattr(detect.model, "encode_text", lambda *a: encoded.append(a[0]) or encode(*a))
    scores = {detect(photos["bad"][0], object_name="leather")["score"] for _ in range(3)}
    assert encoded == ["leather"] and len(scores) == 1
    detect(photos["bad"][0], object_name="ring")
    assert detect(photos["bad"][0], object_name="leather")["score"] in scores
    assert encoded == ["leather", "ring", "leather"]
    detect.model.textual_adapter.anomalous_prompt.data.add_(1)
    assert detect(photos["bad"][0], object_name="leather")["score"] not in scores


def test_object_names_say_what_they_do(small_folder, detector, photos):
    [named] = detector.detect(photos["bad"][0], object_name="leather")
    loaded = AnomalyDetector.from_pretrained(small_folder, device="cpu", object_name="leather")
    assert loaded.model.config.object_name == "leather"
    assert loaded.detect(photos["bad"][0])[0].score == pytest.approx(named.score, abs=1e-6)
    assert named.score != detector.detect(photos["bad"][0])[0].score
    front = pipeline("anomaly-detection", model=str(small_folder), device="cpu", object_name="leather")
    assert front(photos["bad"][0])["score"] == pytest.approx(named.score, abs=1e-6)
    with pytest.raises(ValueError, match="not both"):
        detector.detect(photos["bad"][0], object_name="leather", text_embeds=detector.encode_text("leather"))
    changed = AnomalyDetector.from_pretrained(small_folder, device="cpu")
    changed.model.config.object_name = "screw"
    with pytest.raises(ValueError, match=r"config\.object_name was set to 'screw'"):
        changed.detect(photos["bad"][0])


def test_broken_images_stop_or_are_passed_over_as_asked(detector, photos, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_text("no image")
    images = [photos["bad"][0], str(broken), photos["bad"][1], None]
    with pytest.raises(ValueError, match=r"broken\.png"):
        detector.detect(images)
    seen = []
    for batch_size in (1, 3, 4):
        results = detector.detect(images, batch_size=batch_size, on_error=lambda name, error: seen.append(name))
        assert [each.error is None for each in results] == [True, False, True, False]
        assert results[1].name == str(broken) and results[1].score is results[1].anomaly_map is None
        with pytest.raises(ValueError, match="not an image format"):
            results[1].heatmap()
    assert len(seen) == 6
    bank = detector.remember([photos["normal"][0], broken, photos["normal"][1]], on_error=lambda *each: None)
    assert bank == detector.remember(photos["normal"][:2]) and len(bank) == 2
    with pytest.raises(ValueError, match=r"got none\. .*broken\.png"):
        detector.remember([broken], on_error=lambda *each: None)
    with pytest.raises(ValueError, match="at least one image"):
        detector.remember([])


def test_streams_are_read_as_they_are_scored(detector, photos):
    read = []

    def watch():
        for path in photos["bad"]:
            read.append(path)
            yield path

    results = detector.stream(watch())
    assert read == []
    first = next(results)
    assert read == photos["bad"][:1] and first.image.size == (170, 150)
    assert [each.name for each in results] == photos["bad"][1:]


def test_normal_images_given_again_are_not_encoded_again(small_folder, photos, monkeypatch):
    detect = pipeline("anomaly-detection", model=str(small_folder), device="cpu")
    remember, encoded = AnomalyScorer.remember, []
    monkeypatch.setattr(AnomalyScorer, "remember", lambda *a, **b: encoded.append(1) or remember(*a, **b))
    score = detect(photos["bad"][0], normal_images=photos["normal"])["score"]
    pictures = [Image.open(path) for path in photos["normal"]]
    for _ in range(3):
        assert detect(photos["bad"][0], normal_images=photos["normal"])["score"] == score
    assert len(encoded) == 1
    assert detect(photos["bad"][0], normal_images=pictures)["score"] == score and len(encoded) == 2
    # what they hold counts, not what they are called
    path = Path(photos["normal"][0])
    before = path.read_bytes()
    try:
        Image.new("RGB", (60, 60), "red").save(path)
        assert detect(photos["bad"][0], normal_images=photos["normal"])["score"] != score and len(encoded) == 3
    finally:
        path.write_bytes(before)
    with torch.no_grad():
        detect.model.clip.visual_projection.weight.mul_(-1)
    detect(photos["bad"][0], normal_images=pictures)
    assert len(encoded) == 4


def test_a_backend_and_a_device_that_are_not_there(small_folder):
    with pytest.raises(ValueError, match="no backend 'abacus'; there is torch"):
        AnomalyDetector.from_pretrained(small_folder, backend="abacus")
    with pytest.raises(ValueError, match="There is no device 'warp' here"):
        AnomalyDetector.from_pretrained(small_folder, device="warp")


def test_a_batch_of_no_image_is_refused(detector, photos):
    with pytest.raises(ValueError, match="batch_size of at least 1, got 0"):
        detector.detect(photos["good"], batch_size=0)


def test_a_detector_hashes_and_takes_its_options_by_name(detector, photos):
    assert {detector: 1}[detector] == 1
    with pytest.raises(TypeError, match="positional"):
        list(detector.stream(photos["good"], None, None, 0.4))
    [unreadable] = detector.detect("nowhere.png", on_error=lambda *_: None)
    fields = ("score", "label", "p_value", "regions", "anomaly_map", "model_map", "peak", "size", "region", "ignore")
    assert all(getattr(unreadable, name) is None for name in (*fields, "image"))


def test_remote_code_of_before_says_no_backend(detector, photos):
    class Older:
        def __getattr__(self, name):
            if name == "backend":
                raise AttributeError(name)
            return getattr(detector.model, name)

        def __call__(self, **inputs):
            return detector.model(**inputs)

    older = AnomalyDetector(Older(), detector.processor)
    assert older.backend == "torch" and older.detect(photos["bad"]) == detector.detect(photos["bad"])


def test_results_compare_and_hash(detector, photos):
    one, same = (detector.detect(photos["bad"][0])[0] for _ in range(2))
    assert one == same and hash(one) == hash(same)
    assert one != detector.detect(photos["bad"][1])[0] and one != "a result"


def test_a_reference_is_asked_as_a_profile_is(detector, photos):
    reference = detector.reference(detector.remember(photos["normal"]), threshold=0.0)
    by_keywords = detector.detect(photos["bad"], reference.prompt_bank, threshold=0.0)
    assert detector.detect(photos["bad"], profile=reference) == by_keywords


def test_a_score_that_is_not_finite_is_no_score(detector):
    good, bad = torch.tensor([0.5, float("nan")]), torch.zeros(2, 4, 4)
    with pytest.raises(ValueError, match=r"overflows in torch\.float32"):
        list(to_cpu(detector.model, good, bad))


@pytest.mark.slow
def test_memory_is_flat_over_many_calls(detector, products):
    call, numbers = calls_of(detector, products, 600)
    sizes = []
    tracemalloc.start()
    for number in numbers:
        call(number)
        if number % 120 == 119:
            gc.collect()
            sizes.append((tracemalloc.get_traced_memory()[0], resident()))
    tracemalloc.stop()
    assert sizes[-1][0] - sizes[0][0] < 300_000
    assert sizes[-1][1] - sizes[0][1] < 30 * 2**20


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


REMEMBER = """
from pathlib import Path
import numpy as np
from PIL import Image
from safetensors.torch import load_file, save_file
from adaptclip_hf import DEFAULT_MODEL, AnomalyDetector

def photos(count):
    noise = np.random.default_rng(0).integers(0, 255, (3000, 4000, 3), np.uint8)
    for index in range(count):
        yield Image.fromarray(np.roll(noise, index * 1000))

detector = AnomalyDetector.from_pretrained(DEFAULT_MODEL, device="cpu")
count = len(detector.remember(photos(40)))
# of this program alone: getrusage also counts the process that started it
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(count, int(peak.split()[1]) / 2**20)
"""


@pytest.mark.slow
def test_large_normal_images_are_remembered_in_bounded_memory():
    """Forty of 12 megapixels, which are 1.4 GB of pixels; 0.8 GiB are used, and now and then half as much again."""
    done = subprocess.run([sys.executable, "-c", REMEMBER], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    count, gigabytes = done.stdout.split()
    assert count == "40" and float(gigabytes) < 1.7


def test_bfloat16_in_fewer_passes_scores_as_before(small_folder, photos):
    from adaptclip_hf.engine.fast_layers import FusedLinear, has_fused_products

    queries = photos["good"] + photos["bad"]
    fast = AnomalyDetector.from_pretrained(small_folder, device="cpu", dtype="bfloat16")
    assert any(isinstance(module, FusedLinear) for module in fast.model.modules()) == has_fused_products()
    plain = AnomalyDetector(AdaptCLIPModel.from_pretrained(small_folder, dtype=torch.bfloat16), fast.processor)
    exact = AnomalyDetector.from_pretrained(small_folder, device="cpu")
    found, before, expected = (np.array([each.score for each in one.detect(queries)]) for one in (fast, plain, exact))
    assert np.abs(found - expected).max() <= 1.5 * np.abs(before - expected).max() + 1e-3
    assert fast.model.fingerprint() == plain.model.fingerprint()


def test_another_object_name_without_the_text_tower(small_folder, photos):
    detector = AnomalyDetector.from_pretrained(small_folder, device="cpu")
    whole = AnomalyDetector(AdaptCLIPModel.from_pretrained(small_folder), detector.processor)
    assert detector.model.clip.text_model is None and whole.model.clip.text_model is not None
    assert detector.describe() == whole.describe()
    for name in (None, "leather"):
        [found], [expected] = (each.detect(photos["bad"][0], object_name=name) for each in (detector, whole))
        assert found.score == expected.score
    with pytest.raises(ValueError, match="without its text tower"):
        detector.model.save_pretrained(small_folder)


def test_a_text_tower_of_another_model_is_refused(small_folder, photos, tmp_path):
    folder = Path(shutil.copytree(small_folder, tmp_path / "model"))
    detector = AnomalyDetector.from_pretrained(folder, device="cpu")
    tensors = load_file(folder / "model.safetensors")
    tensors["clip.visual_projection.weight"] += 1
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "SHA256SUMS").unlink()
    with pytest.raises(ValueError, match="is no longer the model that was loaded from there"):
        detector.detect(photos["bad"][0], object_name="leather")


def test_a_model_saved_before_text_embeddings_were_stored(small_folder, photos, tmp_path):
    folder = Path(shutil.copytree(small_folder, tmp_path / "old"))
    tensors = load_file(folder / "model.safetensors")
    del tensors["learned_text_embeds"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "SHA256SUMS").unlink()
    old, new = (AnomalyDetector.from_pretrained(each, device="cpu") for each in (folder, small_folder))
    assert old.model.clip.text_model is not None
    [found], [expected] = (each.detect(photos["bad"][0]) for each in (old, new))
    assert found.score == pytest.approx(expected.score, abs=1e-6)


@pytest.fixture
def read_ahead(detector):
    return lambda sources, count, on_error=None: Prefetch(detector.reader.read_ready(sources, View(), on_error), count)


def test_reading_ahead_keeps_order_errors_and_place(detector, photos, read_ahead):
    paths = [*photos["good"], "nowhere.png", *photos["bad"]]
    failed, expected = [], []
    for result in detector.stream(paths, on_error=lambda name, error: expected.append(name)):
        failed.append((result.name, result.score, result.error))
    named = []
    ahead = read_ahead(paths, 2, lambda name, error: named.append(name))
    found = [(each.name, each.score, each.error) for each in detector.stream(ahead)]
    assert found == failed and named == expected == ["nowhere.png"] and ahead.waited >= 0

    def two_then_an_error():
        yield from photos["good"]
        raise OSError("the camera is gone")

    results = detector.stream(read_ahead(two_then_an_error(), 4))
    assert [next(results).name for _ in photos["good"]] == photos["good"]
    with pytest.raises(OSError, match="the camera is gone"):
        next(results)


def test_reading_ahead_stops_with_whoever_takes(detector, photos, read_ahead):
    taken = []

    def endless():
        while True:
            taken.append(len(taken))
            yield photos["good"][0]

    results = detector.stream(read_ahead(endless(), 3))
    next(results)
    results.close()
    time.sleep(0.3)
    stopped_at = len(taken)
    time.sleep(0.3)
    assert len(taken) == stopped_at <= 7


def test_all_take_the_same_forms_of_an_image_and_of_several(detector, small_folder, photos):
    """Detector, pipeline and processor: bytes, open files, tuples, batches and a data set's columns."""
    detect, paths = pipeline("anomaly-detection", model=str(small_folder), device="cpu"), photos["bad"]
    expected = [each.score for each in detector.detect(paths)]
    data = Dataset.from_dict({"image": paths}).cast_column("image", datasets.Image())
    undecoded = data.cast_column("image", datasets.Image(decode=False))
    batch = np.stack([np.asarray(Image.open(path)) for path in paths])
    several = [tuple(paths), data["image"], undecoded["image"], batch, torch.from_numpy(batch).permute(0, 3, 1, 2)]
    several.append([io.BytesIO(Path(path).read_bytes()) for path in paths])
    for images in several:
        assert [each.score for each in detector.detect(images)] == expected
        assert [each["score"] for each in detect(images)] == expected
        assert len(detector.processor(images)["pixel_values"]) == len(paths)
    content = Path(paths[0]).read_bytes()
    for image in (content, bytearray(content), io.BytesIO(content), {"path": None, "bytes": content}, data[0]["image"]):
        assert [each.score for each in detector.detect(image)] == expected[:1]
        assert detect(image)["score"] == expected[0]
        assert len(detector.processor(image)["pixel_values"]) == 1
    for wrong in ("2", 2.5, True, 0, float("nan")):
        with pytest.raises(ValueError, match="batch_size"):
            detector.detect(paths, batch_size=wrong)
    for wrong in ("0.5", True, float("nan"), 1.5):
        with pytest.raises(ValueError, match="threshold must lie"):
            detector.detect(paths[0], threshold=wrong)
