"""Products on disk and in memory: whole before and after every change, whatever is put, damaged or killed."""

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from servers import ADMIN, Server, ServerThread, profile_files

from adaptclip_hf import AnomalyDetector, InspectionProfile
from adaptclip_hf.model_files import PROFILE_FILE
from adaptclip_hf.serving.product_folder import INCOMING, OLDER, REMOVED, ProductFolder
from adaptclip_hf.serving.products import Products


@pytest.fixture(scope="module")
def detector(small_folder) -> AnomalyDetector:
    return AnomalyDetector.from_pretrained(small_folder, device="cpu")


def files_of(folder: Path, **changed) -> dict:
    """A profile's files as they are put; `changed` are other values in `profile.json`."""
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    content = json.loads(files[PROFILE_FILE]) | changed
    return {name: io.BytesIO(each) for name, each in (files | {PROFILE_FILE: json.dumps(content).encode()}).items()}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


WRONG = [
    *({"threshold": each} for each in (float("nan"), float("inf"), None, "0.5", True, [0.5], 7, -1)),
    *({"pixel_threshold": each} for each in (float("nan"), None, "0.5")),
    {"photos": []},
    {"photos": [{}]},
    {"settings": {"false_alarm_rate": float("nan")}},
    {"settings": None},
    {"bank_rows": [10**9]},
    {"made_by": []},
    {"view": {"tile": "NaN"}},
    {"method": 3},
    {"model": None},
]


def test_what_is_put_is_refused_whole_and_nothing_changes(detector, products, tmp_path):
    service = Products(detector, {}, tmp_path)
    service.put("ring", files_of(products["ring"]))
    before, listed = contents(tmp_path), service["ring"].describe()
    for wrong in WRONG:
        for name in ("ring", "new"):
            with pytest.raises(ValueError) as refused:
                service.put(name, files_of(products["ring"], **wrong))
                pytest.fail(f"{wrong} was taken")
            assert "\n" not in str(refused.value) and str(tmp_path) not in str(refused.value)
    assert contents(tmp_path) == before and list(service) == ["ring"] and service["ring"].describe() == listed


def test_over_http_what_is_put_is_refused_with_422(server, products):
    address = f"{server.address}/products/strict"
    assert httpx.put(address, files=profile_files(products["ring"]), headers=ADMIN).status_code == 200
    for wrong in WRONG[:4]:
        files = [("files", each) for each in files_of(products["ring"], **wrong).items()]
        answer = httpx.put(address, files=files, headers=ADMIN)
        assert answer.status_code == 422 and answer.json()["detail"], answer.text
        listed = httpx.get(f"{server.address}/products")
        assert listed.status_code == 200 and "strict" in [each["name"] for each in listed.json()]
    assert httpx.delete(address, headers=ADMIN).status_code == 204


def test_a_full_disk_is_told_as_such_and_nothing_changes(server, products, kept, monkeypatch):
    address = f"{server.address}/products/full"
    assert httpx.put(address, files=profile_files(products["ring"]), headers=ADMIN).status_code == 200
    before = contents(kept)

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", full)
        answer = httpx.put(address, files=profile_files(products["board"]), headers=ADMIN)
        assert answer.status_code == 507 and "disk is full" in answer.json()["detail"]
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", full)
        assert httpx.put(address, files=profile_files(products["board"]), headers=ADMIN).status_code == 507
        assert httpx.delete(address, headers=ADMIN).status_code == 507
    assert contents(kept) == before and not [each for each in kept.iterdir() if each.name.startswith(".")]
    assert httpx.delete(address, headers=ADMIN).status_code == 204


def test_what_is_no_product_is_skipped_and_named(detector, small_folder, products, queries, tmp_path, capsys):
    for name in ("sound", "damaged"):
        shutil.copytree(products["ring"], tmp_path / name)
    damaged = next((tmp_path / "damaged").glob("features-*"))
    damaged.write_bytes(damaged.read_bytes()[:-100])
    for name in ("lost+found", "notes", ".hidden", "con:x"):
        (tmp_path / name).mkdir()
    (tmp_path / "README").write_text("about these products")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    server = ServerThread({}, small_folder, "--products", tmp_path, ADAPTCLIP_ADMIN_TOKEN="admin-secret")
    try:
        said = capsys.readouterr().err
        names = ("damaged", "lost+found", "notes", ".hidden", "con:x", "README", "gone")
        assert all(f"{name} is skipped" in said for name in names) and "sound is skipped" not in said
        assert httpx.get(f"{server.address}/health").json()["skipped"] == len(names)
        assert server.detect(queries[0], "sound").status_code == 200
        # a name may not be left out, because another one might be meant
        for name in (None, "damaged"):
            answer = server.detect(queries[0], name)
            assert answer.status_code == 422 and "cannot be opened" in answer.json()["detail"]
        for name in ("notes", "README"):
            put = httpx.put(f"{server.address}/products/{name}", files=profile_files(products["ring"]), headers=ADMIN)
            assert put.status_code == 422 and "is no product" in put.json()["detail"]
        put = httpx.put(f"{server.address}/products/damaged", files=profile_files(products["ring"]), headers=ADMIN)
        assert put.status_code == 200 and server.detect(queries[0], "damaged").status_code == 200
        assert server.detect(queries[0]).json()["detail"].startswith("product: one is needed")
    finally:
        server.stop()
    assert (tmp_path / "README").read_text() and (tmp_path / "notes").is_dir()


def test_a_change_that_was_interrupted_is_finished_at_the_start(detector, products, tmp_path):
    shutil.copytree(products["ring"], tmp_path / f"{OLDER}lost")  # killed between two renames
    shutil.copytree(products["ring"], tmp_path / "there")
    shutil.copytree(products["board"], tmp_path / f"{OLDER}there")  # killed before the older one was removed
    (tmp_path / f"{INCOMING}abc").mkdir()
    (tmp_path / f"{INCOMING}abc" / PROFILE_FILE).write_text("{")
    shutil.copytree(products["board"], tmp_path / f"{REMOVED}xyz" / "dropped")
    service = Products(detector, {}, tmp_path)
    assert sorted(service) == ["lost", "there"] and not service.skipped
    ring = InspectionProfile.from_pretrained(products["ring"]).digest()
    assert {product.digest for product in service.values()} == {ring}
    assert sorted(each.name for each in tmp_path.iterdir()) == ["lost", "there"]


def test_what_cannot_be_removed_stays(detector, products, tmp_path, monkeypatch):
    service = Products(detector, {}, tmp_path)
    service.put("ring", files_of(products["ring"]))

    def refused(*arguments):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(PermissionError):
        service.remove("ring")
    assert list(service) == ["ring"]


# each call that changes the disk may be the last one; forked from a process without threads
KILLED = """
import io, os, shutil, sys
from pathlib import Path
from adaptclip_hf.serving.product_folder import ProductFolder

folder, left = Path(sys.argv[1]), 0

def counted(function):
    def call(*arguments, **options):
        global left
        left -= 1
        if not left:
            os._exit(9)
        return function(*arguments, **options)
    return call

os.mkdir, os.rename, os.fsync, os.unlink, os.rmdir = map(counted, (os.mkdir, os.rename, os.fsync, os.unlink, os.rmdir))
shutil.copyfileobj = counted(shutil.copyfileobj)

def files(version):
    return {name: io.BytesIO(version.encode() * 1000) for name in ("profile.json", "features")}

def change(kept):
    with kept.incoming(files("new")) as incoming:
        kept.put("replaced", incoming)
    with kept.incoming(files("new")) as incoming:
        kept.put("added", incoming)
    kept.remove("removed")

for last in range(1, 200):
    kept = ProductFolder(folder / str(last))
    for name in ("replaced", "removed"):
        with kept.incoming(files("old")) as incoming:
            kept.put(name, incoming)
    child = os.fork()
    if not child:
        left = last
        change(kept)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        print(last)
        break
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_killed_at_any_step_each_product_is_the_old_or_the_new_one(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path], capture_output=True, text=True, check=True)
    steps = int(done.stdout)
    assert steps > 15
    seen = set()
    for last in range(1, steps + 1):
        kept = ProductFolder(tmp_path / str(last))
        kept.recover()  # as the service does at its start
        products, others = kept.entries()
        assert not others, (last, others)
        found = {}
        for product in products:
            texts = {file.read_text() for file in product.iterdir()}
            assert len(list(product.iterdir())) == 2 and texts in ({"old" * 1000}, {"new" * 1000}), (last, product)
            found[product.name] = texts.pop()[:3]
        assert found["replaced"] in ("old", "new") and found.get("added") in (None, "new"), (last, found)
        assert found.get("removed") in (None, "old")
        seen.add(tuple(sorted(found.items())))
    assert len(seen) == 4  # before and after each of the three changes


@pytest.mark.slow
def test_the_service_killed_while_products_change_starts_with_whole_ones(products, small_folder, tmp_path):
    kept, put = tmp_path / "kept", [profile_files(products[name]) for name in ("ring", "board")]
    digests = {InspectionProfile.from_pretrained(products[name]).digest() for name in ("ring", "board")}
    kept.mkdir()
    (kept / "lost+found").mkdir()
    words = (tmp_path, {}, small_folder, "--products", kept, "--dtype", "float32")  # as the profiles
    for delay in (0.3, 0.57):
        server = Server(*words, ADAPTCLIP_ADMIN_TOKEN="admin-secret")
        assert httpx.put(f"{server.address}/products/stays", files=put[0], headers=ADMIN).status_code == 200

        def change(server=server):
            try:
                for number in range(10_000):
                    httpx.put(f"{server.address}/products/stays", files=put[number % 2], headers=ADMIN)
                    httpx.put(f"{server.address}/products/comes", files=put[number % 2], headers=ADMIN)
                    httpx.delete(f"{server.address}/products/comes", headers=ADMIN)
            except httpx.TransportError:
                pass

        changing = threading.Thread(target=change)
        changing.start()
        time.sleep(delay)
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        changing.join()
        server = Server(*words, ADAPTCLIP_ADMIN_TOKEN="admin-secret")
        listed = {each["name"]: each["digest"] for each in httpx.get(f"{server.address}/products").json()}
        assert {"stays"} <= set(listed) <= {"stays", "comes"} and set(listed.values()) <= digests
        assert httpx.get(f"{server.address}/health").json()["skipped"] == 1  # lost+found
        server.stop()
