"""Who is answered when: whoever came first, whatever its product, its photo's size and the machine's load."""

import asyncio
import bisect
import io
import statistics
import threading
import time
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from adaptclip_hf import AnomalyDetector
from adaptclip_hf.engine import DetectionResult, View
from adaptclip_hf.serving.app import ServiceSettings, make_app
from adaptclip_hf.serving.batches import Batches
from adaptclip_hf.serving.budget import Budget
from adaptclip_hf.serving.products import Products

CLIENTS, EACH, WORKERS = 64, 3, 2
LARGE = 400  # pixels
FORM = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n%s\r\n--x\r\n'
FORM += b'Content-Disposition: form-data; name="product"\r\n\r\n%s\r\n--x--\r\n'


def photo(side: int) -> bytes:
    content = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8)).save(content, "PNG")
    return content.getvalue()


def result_of(image) -> DetectionResult:
    return DetectionResult(image.name, 0.5, np.zeros((8, 8), np.float32), image.tiles.size)


class Sleeping:
    """Scores as a model that takes a fixed time for an image, which no load on the machine changes.

    Attributes:
        sizes: of the batches.
    """

    def __init__(self, seconds):
        self.seconds, self.sizes = seconds, Counter()

    def __call__(self, batch, on_error=None):
        self.sizes[len(batch)] += 1
        time.sleep(sum(self.seconds(image) for image, _ in batch))
        return [result_of(image) for image, _ in batch]


async def ask(app, body: bytes, late: float = 0.0) -> int:
    """The status of an answer; the request's body comes so many seconds after its head."""
    statuses = []

    async def receive():
        await asyncio.sleep(late)
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    headers = [(b"content-type", b"multipart/form-data; boundary=x"), (b"content-length", b"%d" % len(body))]
    scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": "/detect", "raw_path": b"/detect"}
    scope |= {"query_string": b"", "headers": headers, "state": {}, "root_path": "", "scheme": "http"}
    await app(scope, receive, send)
    return statuses[0]


def spans_of(app, request_of) -> list[tuple[float, float]]:
    """When each request of 64 clients began and ended; a client's next one begins as soon as the last one ends."""
    spans = []

    async def client(number: int):
        for turn in range(EACH):
            begin = time.perf_counter()
            assert await ask(app, *request_of(number, turn)) == 200
            spans.append((begin, time.perf_counter()))

    async def run():
        async with app.router.lifespan_context(app):
            await asyncio.gather(*map(client, range(CLIENTS)))

    asyncio.run(run())
    return spans


def overtakings(spans: list[tuple[float, float]]) -> list[int]:
    """For each request, by its begin, how many began after it and ended before it."""
    ends, counts = [], []
    for _, end in sorted(spans, reverse=True):
        counts.append(bisect.bisect_left(ends, end))
        bisect.insort(ends, end)
    return counts[::-1]


def answers_meanwhile(spans: list[tuple[float, float]]) -> list[int]:
    """For each request how many were answered while it waited: its time, by a clock that no other program slows."""
    ends = sorted(end for _, end in spans)
    return [bisect.bisect_left(ends, end) - bisect.bisect_left(ends, begin) for begin, end in spans]


@pytest.fixture(scope="module")
def app_of(products, small_folder):
    detector = AnomalyDetector.from_pretrained(small_folder, device="cpu")
    eight = {f"{name} {number}": str(folder) for number in range(3) for name, folder in products.items()}
    eight.pop("board 2")
    opened = Products(detector, {name.replace("ü", "u"): folder for name, folder in eight.items()})

    def make(batch_size: int):
        return make_app(detector, opened, ServiceSettings(WORKERS, batch_size)), list(opened)

    return make


@pytest.mark.parametrize("batch_size", [1, 8])
def test_nobody_is_overtaken_by_more_than_what_is_in_work(app_of, monkeypatch, batch_size):
    small, large = (photo(side) for side in (64, LARGE))
    app, names = app_of(batch_size)
    slow = names[0]
    sleeping = Sleeping(lambda image: 0.02 if image.tiles.size == (LARGE, LARGE) else 0.004)
    monkeypatch.setattr("adaptclip_hf.engine.scorer.AnomalyScorer.score_images", lambda self, *args: sleeping(*args))

    def request_of(number: int, turn: int) -> tuple[bytes, float]:
        """Of eight products; one's photos are large and take five times as long. Every ninth body comes late."""
        name = names[number % len(names)]
        return FORM % (large if name == slow else small, name.encode()), 0.03 if number % 9 == 0 else 0.0

    spans = spans_of(app, request_of)
    in_work = WORKERS * batch_size
    found = overtakings(spans)[CLIENTS:]  # since the row is full
    assert len(names) == 8 and len(found) == CLIENTS * (EACH - 1)
    assert max(found) <= 2 * in_work + 2, sorted(found)[-10:]
    waited = answers_meanwhile(spans)
    assert statistics.quantiles(waited, n=100, method="inclusive")[98] <= 2 * statistics.median(waited)
    assert max(sleeping.sizes) > 1 or batch_size == 1  # products are mixed in a batch


def test_products_with_one_object_name_are_compared_together(products, small_folder, queries):
    detector = AnomalyDetector.from_pretrained(small_folder, device="cpu")
    opened = Products(detector, {"a": products["ring"], "b": products["ring"], "sheet": products["Blech ü"]})
    a, b, sheet = (opened[name].undecided for name in ("a", "b", "sheet"))
    assert a.text_embeds is b.text_embeds is not sheet.text_embeds and a.prompt_bank is not b.prompt_bank
    photos = list(detector.reader.read_ready(queries[:3]))
    together = detector.score_images(list(zip(photos, (a, b, sheet), strict=True)))
    for found, image, reference in zip(together, photos, (a, b, sheet), strict=True):
        [alone] = detector.score_images([(image, reference)])
        assert found.score == pytest.approx(alone.score, abs=1e-6)


def test_a_budget_goes_to_the_earliest_request_whenever_it_asks():
    async def run():
        budget, order = Budget(1), []

        async def step(arrival: int):
            async with budget.lend(1, arrival):
                order.append(arrival)
                await asyncio.sleep(0)

        await asyncio.gather(*map(step, (4, 3, 5, 1, 2)))
        assert order == [4, 1, 2, 3, 5]  # the first one had begun

    asyncio.run(run())


def test_batches_take_the_earliest_images_and_only_as_many_tiles_as_fit(small_folder, monkeypatch):
    detector = AnomalyDetector.from_pretrained(small_folder, device="cpu")
    tiled = detector.reader.load(Image.new("RGB", (128, 64)), View(tile=32, same_place=False))
    whole = detector.reader.load(Image.new("RGB", (128, 64)))
    begun, go_on, scored = threading.Event(), threading.Event(), []

    def score(self, batch, on_error=None):
        scored.append([reference for _, reference in batch])
        begun.set()
        assert go_on.wait(10)
        return [result_of(image) for image, _ in batch]

    monkeypatch.setattr("adaptclip_hf.engine.scorer.AnomalyScorer.score_images", score)
    batches = Batches(detector, 1, 4, lambda size: None)
    batches.submit(whole, 9, 9)
    assert begun.wait(10)
    for arrival in (7, 3, 6, 2, 5, 8, 4):
        batches.submit(tiled if arrival == 5 else whole, arrival, arrival)
    go_on.set()
    batches.close()
    assert len(tiled.tiles) > 4 and scored == [[9], [2, 3, 4], [5], [6, 7, 8]]
