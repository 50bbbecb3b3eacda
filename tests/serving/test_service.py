"""The service as its clients meet it: a server at a loopback port, and what is sent to it in good and bad faith."""

import base64
import errno
import io
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from hostile_images import FORMATS, mutated, png_bomb, valid_file
from PIL import Image
from servers import ADMIN, HEAD, SMALL_LIMITS, Server, ServerThread, profile_files
from transformers import pipeline

from adaptclip_hf import AnomalyDetector, InspectionProfile
from adaptclip_hf.cli import main
from adaptclip_hf.serving.batches import Batches

SECRET = {"Authorization": "Bearer secret"}


def test_answers_are_the_pipelines(server, products, small_folder, queries):
    detect = pipeline("anomaly-detection", model=str(small_folder), device="cpu")
    jobs = [(name, index) for index in range(len(queries)) for name in products]
    random.Random(0).shuffle(jobs)
    with ThreadPoolExecutor(12) as pool:  # products mixed, many at once
        answers = list(pool.map(lambda job: server.detect(queries[job[1]], job[0]), jobs))
    for (name, index), answer in zip(jobs, answers, strict=True):
        expected = detect(queries[index], profile=str(products[name]))
        found = answer.json()
        assert answer.status_code == 200 and found["product"] == name and (found["width"], found["height"]) == (70, 70)
        assert found["score"] == pytest.approx(expected["score"], abs=1e-6)
        assert (found["label"], len(found["regions"])) == (expected["label"], len(expected["regions"]))
        assert found["p_value"] == pytest.approx(expected["p_value"])


def test_json_and_pictures(server, products, small_folder, queries):
    body = {"image": base64.b64encode(queries[0]).decode(), "product": "ring", "include": ["map", "overlay"]}
    answer = httpx.post(f"{server.address}/detect", json=body).json()
    [expected] = AnomalyDetector.from_pretrained(small_folder, device="cpu").detect(
        queries[0], profile=products["ring"]
    )
    found = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["map"])))) / 65535
    assert np.abs(found - expected.anomaly_map).max() < 1e-4
    overlay = Image.open(io.BytesIO(base64.b64decode(answer["overlay"])))
    assert overlay.size == (70, 70) and overlay.mode == "RGB"
    form = server.detect(queries[0], "ring", include="overlay").json()
    assert form["overlay"] == answer["overlay"] and form["map"] is None


def test_what_it_says_of_itself(server, products, queries):
    server.detect(queries[0], "ring")
    assert httpx.get(f"{server.address}/health").json()["products"] >= 3
    listed = {each["name"]: each for each in httpx.get(f"{server.address}/products").json()}
    assert listed["Blech ü"]["object_name"] == "sheet" and listed["ring"]["false_alarm_rate"] == 0.2
    metrics = httpx.get(f"{server.address}/metrics").text
    assert 'adaptclip_images_total{label="' in metrics and "process_resident_memory_bytes" in metrics
    page = httpx.get(f"{server.address}/docs").text
    assert "http://" not in page and "https://" not in page  # works offline
    about = httpx.get(f"{server.address}/").json()
    assert about["products"] == list(listed) and httpx.get(f"{server.address}{about['documentation']}").text == page


def test_its_documentation_knows_each_answer(server, queries):
    described = httpx.get(f"{server.address}/openapi.json").json()
    detect, schemas = described["paths"]["/detect"]["post"], described["components"]["schemas"]
    assert set(detect["requestBody"]["content"]) == {"multipart/form-data", "application/json"}
    assert {"200", "400", "401", "413", "415", "422", "503"} <= set(detect["responses"])
    answer = server.detect(queries[0], "ring").json()
    assert answer["label"] == "normal" or answer["regions"][0].keys() >= schemas["FoundRegion"]["properties"].keys()
    assert answer.keys() == schemas["Inspection"]["properties"].keys() >= schemas["Inspection"]["examples"][0].keys()
    for path, methods in described["paths"].items():
        for method, about in methods.items():
            for status, each in about["responses"].items():
                content = each.get("content", {})
                assert status in ("204",) or path == "/metrics" or content["application/json"]["schema"], (path, method)
                assert status < "400" or content["application/json"]["example"]["detail"]


def test_bad_requests_are_told_what_was_expected(server, queries):
    post, address = httpx.post, f"{server.address}/detect"
    cases = [
        (server.detect(b"not an image", "ring"), 422, "format that is read"),
        (server.detect(b"", "ring"), 422, "image"),
        (server.detect(queries[0][:-40], "ring"), 422, "cannot be decoded"),
        (server.detect(png_bomb(60_000, 60_000), "ring"), 422, "pixels"),
        (server.detect(queries[0]), 422, "product: one is needed"),
        (server.detect(queries[0], "../ring"), 422, "there is no '../ring'"),
        (server.detect(queries[0], "ring", include="secrets"), 422, "include"),
        (server.detect(bytes(3_000_000), "ring"), 413, "2 MB"),
        (post(address, data={"product": "ring"}), 415, "multipart"),
        (post(address, files={"picture": b"x"}), 422, "image"),
        (post(address, json={"image": "%%%", "product": "ring"}), 422, "base64"),
        (post(address, json={"image": "/etc/passwd", "product": "ring"}), 422, "image"),
        (post(address, json=["image"]), 422, "image"),
        (post(address, content=b"{", headers={"content-type": "application/json"}), 422, "JSON"),
        (post(address, content=b"[" * 100_000, headers={"content-type": "application/json"}), 422, "JSON"),
        (post(address, content=b"x", headers={"content-type": "multipart/form-data"}), 400, ""),
        (httpx.get(f"{server.address}/nothing"), 404, ""),
        (httpx.get(address), 405, ""),
    ]
    for answer, status, reason in cases:
        assert answer.status_code == status and reason in answer.json()["detail"], (answer.status_code, answer.text)
    assert server.detect(queries[0], "ring").status_code == 200


def test_products_change_while_it_runs(server, products, kept, queries):
    def put(name: str, files, token=ADMIN):
        return httpx.put(f"{server.address}/products/{name}", files=files, headers=token)

    files = profile_files(products["ring"])
    assert (
        put("new", files, {}).status_code == 401
        and put("new", files, {"Authorization": "Bearer no"}).status_code == 401
    )
    before = server.detect(queries[0], "ring").json()
    assert put("new", files).status_code == 200
    assert server.detect(queries[0], "new").json() == before | {"product": "new"}
    assert put("new", profile_files(products["board"])).status_code == 200  # replaced as a whole
    assert (
        InspectionProfile.from_pretrained(kept / "new").digest()
        == InspectionProfile.from_pretrained(products["board"]).digest()
    )
    sound = server.detect(queries[0], "new").json()
    bad = [
        files[:1],
        [("files", ("../../evil.json", b"{}")), files[0]],
        [("files", ("profile.json", b"{}")), files[0]],
        [files[0], ("files", ("profile.json", files[1][1][1].replace(b'"features": "', b'"features": "../')))],
        [("files", (files[0][1][0], files[0][1][1][:-100])), files[1]],
    ]
    for each in bad:
        answer = put("new", each)
        assert answer.status_code == 422, answer.text
        assert server.detect(queries[0], "new").json() == sound
    for name in ("%2e%2e%2fevil", ".hidden", "a%2fb", "a" * 65, "%00", "con%5cx", "ends."):
        assert put(name, files).status_code in (404, 422), name
    assert sorted(each.name for each in kept.iterdir()) == ["new"]
    assert httpx.delete(f"{server.address}/products/new", headers=ADMIN).status_code == 204
    assert httpx.delete(f"{server.address}/products/new", headers=ADMIN).status_code == 404
    assert server.detect(queries[0], "new").status_code == 422 and not list(kept.iterdir())


def test_replaced_under_load_each_answer_is_of_one_or_the_other(server, products, queries):
    put = [profile_files(products[name]) for name in ("ring", "board")]
    expected = [server.detect(queries[0], name).json()["score"] for name in ("ring", "board")]
    address, found, done = f"{server.address}/products/swapped", set(), threading.Event()
    httpx.put(address, files=put[0], headers=ADMIN)

    def ask():
        while not done.is_set():
            answer = server.detect(queries[0], "swapped")
            found.add((answer.status_code, round(answer.json()["score"], 5)))

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        for index in range(12):
            assert httpx.put(address, files=put[(index + 1) % 2], headers=ADMIN).status_code == 200
        done.set()
        for each in asking:
            each.result()
    assert found == {(200, round(score, 5)) for score in expected}


def test_tokens(products, small_folder, queries):
    server = ServerThread({"ring": products["ring"]}, small_folder, ADAPTCLIP_API_TOKEN="secret")
    try:
        assert server.detect(queries[0]).status_code == 401
        for path in ("products", "metrics"):
            assert httpx.get(f"{server.address}/{path}").status_code == 401
        assert httpx.get(f"{server.address}/health").status_code == 200
        asked = httpx.post(
            f"{server.address}/detect", files={"image": queries[0]}, headers={"Authorization": "Bearer secret"}
        )
        assert asked.status_code == 200 and asked.json()["product"] == "ring"  # the only one
        put = httpx.put(f"{server.address}/products/a", files=profile_files(products["ring"]), headers=ADMIN)
        assert put.status_code == 403
    finally:
        server.stop()


@pytest.mark.slow
def test_stopped_in_the_middle_what_was_accepted_is_answered_and_one_too_many_is_told(products, small_folder, tmp_path):
    image = io.BytesIO()
    Image.new("RGB", (220, 220)).save(image, "PNG")
    server = Server(tmp_path, products, small_folder, "--waiting", "20", "--workers", "1")
    with ThreadPoolExecutor(40) as pool:
        asked = [pool.submit(server.detect, image.getvalue(), "board") for _ in range(40)]
        time.sleep(1.0)
        server.process.send_signal(signal.SIGTERM)
        answers = [each.result() if each.exception() is None else each.exception() for each in asked]
    server.process.wait(60)
    codes = [each.status_code if isinstance(each, httpx.Response) else type(each).__name__ for each in answers]
    assert 20 <= codes.count(200) and set(codes) <= {200, 503, "ConnectError"}, codes
    full = [each for each in answers if isinstance(each, httpx.Response) and each.status_code == 503]
    assert all("being scored" in each.json()["detail"] and each.headers["retry-after"] == "1" for each in full)


def test_a_slow_sender_and_a_large_body_hold_nothing(server, queries):
    memory = psutil.Process().memory_info().rss
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as slow:
        head = "POST /detect HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        slow.sendall(f"{head}Content-Length: 200000000\r\n\r\n".encode())
        assert b"413" in slow.recv(200)
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as large:
        large.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        sent, chunk = 0, b"10000\r\n" + bytes(65536) + b"\r\n"
        try:
            while sent < 200_000_000:
                large.sendall(chunk)
                sent += len(chunk)
        except OSError:
            pass
        assert sent < 100_000_000
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as dribbling:
        dribbling.sendall(f"{head}Content-Length: 1000\r\n\r\n".encode())
        assert server.detect(queries[0], "ring").status_code == 200  # others are served meanwhile
    assert psutil.Process().memory_info().rss < memory + 100 * 2**20


def test_a_body_that_does_not_come_in_time_gets_408():
    import asyncio

    from adaptclip_hf.serving.limits import BodyLimit, Limits

    async def app(scope, receive, send):
        await receive()

    async def never():
        await asyncio.sleep(60)

    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "path": "/detect", "headers": []}
    asyncio.run(BodyLimit(app, Limits(seconds=0.05))(scope, never, send))
    assert sent[0]["status"] == 408 and json.loads(sent[1]["body"])["detail"]


def test_one_photo_that_cannot_be_scored_fails_alone(small_folder, queries):
    detector = AnomalyDetector.from_pretrained(small_folder, device="cpu")
    reference, sizes = detector.prepare(detector.reference()), []
    photos = list(detector.reader.read_ready(queries))
    broken = type(photos[0])("broken", photos[0].image, photos[0].tiles, pixel_values=photos[0].pixel_values * np.nan)
    batches = Batches(detector, 1, 8, sizes.append)
    found = [batches.submit(each, reference, number) for number, each in enumerate((*photos, broken))]
    batches.close()  # what waits is scored
    assert all(0 <= each.result().score <= 1 for each in found[:-1]) and sum(sizes) == 7
    with pytest.raises(ValueError, match="overflows"):
        found[-1].result()


def test_wrong_calls(small_folder, products, tmp_path, capsys):
    assert main(["serve", "--model", str(small_folder), "--profile", f"a/b={products['ring']}"]) == 1
    assert "cannot be a product's name" in capsys.readouterr().err
    assert main(["serve", "--profile", f"ring={tmp_path / 'nothing'}"]) == 1
    assert main(["serve", "--profile", f"ring={products['ring']}", "--model", "adaptclip-tiny"]) == 1
    assert "another model" in capsys.readouterr().err
    for words in (["--profile", "ring"], ["--profile", "a=x", "--profile", "a=y"], ["--port", "no"]):
        with pytest.raises(SystemExit) as stopped:
            main(["serve", *words])
        assert stopped.value.code == 2


@pytest.fixture
def process(products, small_folder, tmp_path):
    running = Server(tmp_path, products, small_folder, "--products", tmp_path / "kept", *SMALL_LIMITS)
    yield running
    running.stop()


@pytest.mark.slow
def test_many_mutated_uploads(process, tmp_path):
    rng, chance = np.random.default_rng(1), random.Random(1)
    uploads = []
    for index in range(600):
        kind, mode = FORMATS[index % len(FORMATS)]
        uploads.append(mutated(valid_file(kind, mode, rng), chance))
    names = ("ring", "../../etc", "Blech ü", "\x00", "a" * 5000)
    before = sorted(tmp_path.rglob("*"))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda job: process.detect(job[1], names[job[0] % 5]), enumerate(uploads)))
    codes = [each.status_code for each in answers]
    assert set(codes) <= {200, 400, 422} and codes.count(200) > 30, {code: codes.count(code) for code in set(codes)}
    assert sorted(tmp_path.rglob("*")) == before
    assert "Traceback" not in process.log.read_text() and process.process.poll() is None


def test_the_dockerfile_names_what_is_there():
    root = Path(__file__).resolve().parents[2]
    text = (root / "examples" / "docker" / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    copied = [word for line in lines if line.startswith("COPY") and "--from" not in line for word in line.split()[1:-1]]
    assert copied and all((root / word).exists() for word in copied), copied
    assert lines[0].startswith("FROM python:3.") and "slim" in lines[0]
    assert any(line.startswith("USER ") and line != "USER root" for line in lines)
    [entry] = [line for line in lines if line.startswith("ENTRYPOINT")]
    words = json.loads(entry.removeprefix("ENTRYPOINT"))
    assert words[:2] == ["adaptclip", "serve"]
    from adaptclip_hf.cli import build_parser

    args = build_parser().parse_args(words[1:])
    assert args.host == "0.0.0.0" and args.products is not None
    assert "constraints.txt" in text and "[serve]" in text
    if shutil.which("docker") and subprocess.run(["docker", "info"], capture_output=True).returncode == 0:
        subprocess.run(["docker", "build", "--check", "-f", "examples/docker/Dockerfile", "."], cwd=root, check=True)


def test_every_page_needs_the_token_but_health(products, small_folder):
    server = ServerThread({"ring": products["ring"]}, small_folder, ADAPTCLIP_API_TOKEN="secret")
    try:
        pages = ("docs", "redoc", "openapi.json", "docs/oauth2-redirect", "nothing", "products", "metrics")
        static = re.findall(r"/(static-offline-docs/[\w.-]+)", httpx.get(f"{server.address}/docs", headers=SECRET).text)
        assert static
        for page in (*pages, *static):
            for headers in ({}, {"Authorization": "Bearer no"}, {"Authorization": "Basic secret"}):
                assert httpx.get(f"{server.address}/{page}", headers=headers).status_code == 401, page
            assert httpx.get(f"{server.address}/{page}", headers=SECRET).status_code in (200, 404), page
        assert httpx.post(f"{server.address}/detect", content=b"x").headers["www-authenticate"] == "Bearer"
    finally:
        server.stop()


def test_base64_is_taken_as_load_image_takes_it(server, queries):
    def ask(image: str):
        return httpx.post(f"{server.address}/detect", json={"image": image, "product": "ring"}, timeout=60)

    plain = base64.b64encode(queries[0]).decode()
    expected = ask(plain).json()
    for text in (
        base64.encodebytes(queries[0]).decode(),
        f"data:image/png;base64,{plain}",
        plain.replace("A", " A\r\n"),
    ):
        assert ask(text).json() == expected, text[:40]
    for wrong in ("data:image/png;base64", "data:image/png;base64,%%%", "file:///etc/passwd", "http://127.0.0.1/a", ""):
        answer = ask(wrong)
        assert answer.status_code == 422 and answer.json()["detail"].startswith("image"), (wrong, answer.text)


def test_forms_that_are_damaged(server, queries):
    def post(content: bytes, boundary: str = "; boundary=x"):
        headers = {"content-type": f"multipart/form-data{boundary}"}
        return httpx.post(f"{server.address}/detect", content=content, headers=headers, timeout=60)

    image = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + queries[0]
    product = b'\r\n--x\r\nContent-Disposition: form-data; name="product"\r\n\r\nring'
    assert post(image + product + b"\r\n--x--\r\n").status_code == 200
    for content, boundary, status in (
        (image + product, "; boundary=x", 400),  # no end
        (image + product + b"\r\n--x--\r\n", "", 400),
        (b"--x--", "; boundary=x", 422),
        (image + product * 20 + b"\r\n--x--", "; boundary=x", 400),
        (image.replace(b"filename", b"file") + product + b"\r\n--x--", "; boundary=x", 422),
        (b"--x\r\n\r\n\r\n--x--", "; boundary=x", 422),
        (b"\r\n--" * 300_000, "; boundary=x", 400),
    ):
        answer = post(content, boundary)
        assert answer.status_code == status and answer.json()["detail"], (content[:40], answer.text)


def test_an_image_is_never_written_to_the_disk(server, queries, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "_mkstemp_inner", full)
    padded = queries[0] + bytes(1_500_000)  # more than Starlette keeps in memory
    assert server.detect(padded, "ring").status_code == 200


@pytest.mark.parametrize(
    "error, status, said",
    [
        (MemoryError(), 503, "too little memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), 503, "memory"),
        (OSError(errno.ENOSPC, "No space left on device"), 507, "disk is full"),
        (OSError(errno.EMFILE, "Too many open files"), 503, "too many files"),
        (ZeroDivisionError(), 500, "its log says why"),
    ],
)
def test_what_the_machine_lacks_is_told_as_such(server, queries, monkeypatch, error, status, said):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr("adaptclip_hf.engine.scorer.AnomalyScorer.score_images", fail)
    answer = server.detect(queries[0], "ring")
    assert answer.status_code == status and said in answer.json()["detail"]
    monkeypatch.undo()
    assert server.detect(queries[0], "ring").status_code == 200


def test_slow_silent_and_leaving_clients_hold_nothing(server, queries, monkeypatch):
    def refused(status: int) -> float:
        found = re.findall(rf'refused_requests_total{{status="{status}"}} (\S+)', httpx.get(metrics).text)
        return float(found[0]) if found else 0.0

    metrics = f"{server.address}/metrics"
    before = refused(500), refused(499)
    slow = []
    for _ in range(100):  # more than may be scored at a time
        connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\n--x\r\n")
        slow.append(connection)
    assert all(server.detect(queries[0], "ring").status_code == 200 for _ in range(3))
    for connection in slow:
        connection.close()
    for _ in range(100):
        if refused(499) == before[1] + 100:
            break
        time.sleep(0.05)
    assert (refused(500), refused(499)) == (before[0], before[1] + 100)

    monkeypatch.setattr("adaptclip_hf.serving.connections.most_connections", lambda: 20)
    silent = [socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(60)]
    assert httpx.get(f"{server.address}/health").status_code == 200
    assert silent[0].recv(1) == b""  # the one that was silent for the longest time went
    silent[-1].sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
    assert silent[-1].recv(20).startswith(b"HTTP/1.1 200")
    for connection in silent:
        connection.close()

    monkeypatch.setattr("adaptclip_hf.serving.connections.HEAD_SECONDS", 0.1)
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as dribbling:
        dribbling.sendall(b"GET /health HTTP/1.1\r\nHost:")
        assert dribbling.recv(1) == b""


@pytest.mark.slow
def test_twelve_images_of_many_pixels_take_the_memory_of_one(products, small_folder, tmp_path):
    image = io.BytesIO()
    Image.new("RGB", (3000, 3000), (200, 30, 40)).save(image, "WEBP", lossless=True)
    assert image.tell() < 10_000
    words = (tmp_path, {"ring": products["ring"]}, small_folder, "--memory", "300", "--workers", "2")
    server = Server(*words, OMP_NUM_THREADS="1")
    process, done = psutil.Process(server.process.pid), threading.Event()
    try:
        server.detect(image.getvalue())
        idle = highest = process.memory_info().rss

        def watch():
            nonlocal highest
            while not done.wait(0.005):
                highest = max(highest, process.memory_info().rss)

        watching = threading.Thread(target=watch)
        watching.start()
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(server.detect, [image.getvalue()] * 12))
        done.set()
        watching.join()
    finally:
        server.stop()
    assert [each.status_code for each in answers] == [200] * 12
    assert highest - idle < 600e6  # each takes up to 230


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no limit of open files here")
def test_more_silent_connections_than_files(products, small_folder, tmp_path):
    server = Server(tmp_path, {"ring": products["ring"]}, small_folder, open_files=256)
    try:
        silent = [socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(500)]
        begun = time.perf_counter()
        assert httpx.get(f"{server.address}/health", timeout=30).status_code == 200
        assert time.perf_counter() - begun < 2
        for connection in silent:
            connection.close()
    finally:
        server.stop()
    assert server.log.stat().st_size < 100_000, server.log.read_text()[:2000]
