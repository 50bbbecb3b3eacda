"""Many images of any place: each has one row, whatever stops the run and wherever it goes on."""

import io
import json
import os
import shutil
import time
import urllib.request
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from commands import CLI, Command, run_python, start_python
from PIL import Image
from pyarrow import parquet
from small_profiles import fit_small_profile

from adaptclip_hf import InspectionProfile
from adaptclip_hf.cli import main
from adaptclip_hf.runs import store_parts
from adaptclip_hf.runs.executor import make_plan
from adaptclip_hf.runs.sources import Sources
from adaptclip_hf.runs.store_parts import PartStore
from adaptclip_hf.runs.tables import BOOKKEEPING
from adaptclip_hf.synthetic import make_category, render_sample


@pytest.fixture(scope="module")
def line(small_folder, tmp_path_factory) -> dict[str, Path]:
    """A profile, and a folder of 40 images of which two are broken and one lies deeper."""
    folder, category = tmp_path_factory.mktemp("line"), make_category(5, "metal ring")
    for part, count, first in (("good", 10, 0), ("images", 38, 50)):
        (folder / part).mkdir()
        for index in range(count):
            image = Image.fromarray(
                render_sample(category, first + index, 50, defect="stain" if index % 5 else False)[0]
            )
            image.save(folder / part / f"{index:02}.png")
    (folder / "images" / "broken.png").write_bytes(b"no image")
    (folder / "images" / "deeper").mkdir()
    (folder / "images" / "00.png").rename(folder / "images" / "deeper" / "teil ü.png")
    (folder / "images" / "empty.jpg").touch()
    fit_small_profile(folder / "good", small_folder, 0.2, folder / "profile")
    return {"images": folder / "images", "profile": folder / "profile"}


@pytest.fixture
def without_ray(monkeypatch):
    """As where Ray is not installed."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(store_parts, "CHUNK", 8)


def rows(output) -> list[dict]:
    """Of all parts, by path, without what only a run needs to go on."""
    parts = [parquet.read_table(file).to_pylist() for file in sorted(Path(output).glob("part-*.parquet"))]
    found = sorted((row for part in parts for row in part), key=lambda row: row["path"])
    return [{name: value for name, value in row.items() if name not in (*BOOKKEEPING, "time")} for row in found]


def expected_rows(line, output, *words) -> list[dict]:
    """What the local engine finds."""
    call = ["detect", str(line["images"]), "--profile", str(line["profile"]), "--no-heatmaps", "--quiet"]
    assert main([*call, *words, "--format", "parquet", "--output", str(output)]) == 1  # two are broken
    found = sorted(parquet.read_table(output / "results.parquet").to_pylist(), key=lambda row: row["path"])
    assert all(row.pop("time").endswith("+00:00") for row in found)
    return found


def bulk(line, output, *words) -> int:
    call = ["detect", "--engine", "ray", "--profile", str(line["profile"]), "--output", str(output), "--quiet"]
    return main([*call, *map(str, words)])


def test_the_same_rows_as_the_local_engine_and_nothing_twice(line, tmp_path, without_ray, small_chunks):
    assert bulk(line, tmp_path / "out", "--input", line["images"]) == 1
    found = rows(tmp_path / "out")
    assert found == expected_rows(line, tmp_path / "local") and len(found) == 40
    assert sum(row["error"] is not None for row in found) == 2
    assert len(pd.read_parquet(tmp_path / "out")) == 40  # the folder as one table
    parts = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").glob("part-*")}
    assert len(parts) == 5 and not (tmp_path / "out" / "_plan").exists()
    next(iter(parts)).unlink()
    assert bulk(line, tmp_path / "out", "--input", line["images"]) in (0, 1)
    assert rows(tmp_path / "out") == found  # what was lost is scored again, and nothing else
    assert all(file.stat().st_mtime_ns == time for file, time in list(parts.items())[1:])


def test_lists_as_input(line, tmp_path, without_ray):
    images = sorted(line["images"].glob("1*.png"))
    (tmp_path / "list.txt").write_text("\n".join(map(str, [*images[:3], images[0]])) + "\n\n")
    pd.DataFrame({"n": [1, 2], "path": [str(images[3]), "gone.png"]}).to_csv(tmp_path / "list.csv", index=False)
    pd.DataFrame({"path": [str(images[4])]}).to_parquet(tmp_path / "list.parquet")
    lists = [tmp_path / f"list.{kind}" for kind in ("txt", "csv", "parquet")]
    assert bulk(line, tmp_path / "out", "--input", *lists, images[5]) == 1
    found = rows(tmp_path / "out")
    assert [row["path"] for row in found] == sorted([*map(str, images[:6]), "gone.png"])
    assert [row["error"] for row in found if row["path"] == "gone.png"] == ["No such image file: gone.png"]


def test_maps_are_what_the_local_engine_saves(line, tmp_path, without_ray):
    image = line["images"] / "11.png"
    assert bulk(line, tmp_path / "out", "--input", image, "--save-maps") == 0
    call = ["detect", str(image), "--profile", str(line["profile"]), "--save-maps", "--no-heatmaps", "--quiet"]
    assert main([*call, "--output", str(tmp_path / "local")]) == 0
    [row] = rows(tmp_path / "out")
    found = np.asarray(Image.open(io.BytesIO(row["map_png"]))) / 65535
    assert np.abs(found - np.load(tmp_path / "local" / "maps" / "11.npy")).max() < 1e-5


def test_changed_files_are_scored_anew(line, tmp_path, without_ray, small_chunks, capsys):
    shutil.copytree(line["images"], tmp_path / "images")
    assert bulk(line, tmp_path / "out", "--input", tmp_path / "images") == 1
    before = {row["path"]: row for row in rows(tmp_path / "out")}
    shutil.copy(tmp_path / "images" / "11.png", tmp_path / "images" / "broken.png")
    os.utime(tmp_path / "images" / "12.png")
    call = ["detect", "--engine", "ray", "--profile", str(line["profile"]), "--output", str(tmp_path / "out")]
    assert main([*call, "--input", str(tmp_path / "images")]) == 1
    printed = capsys.readouterr().out
    assert "2 files have changed" in printed and "2 images in" in printed and "38 scored before" in printed
    found = {row["path"]: row for row in rows(tmp_path / "out")}
    broken = str(tmp_path / "images" / "broken.png")
    assert len(found) == len(rows(tmp_path / "out")) == 40
    assert found[broken]["score"] == before[str(tmp_path / "images" / "11.png")]["score"]
    assert {path: row for path, row in found.items() if path != broken} == {
        path: row for path, row in before.items() if path != broken
    }


def test_formats_beside_parts(line, tmp_path, without_ray, small_chunks):
    words = ["--profile", str(line["profile"]), "--quiet", "--save-maps", "--format"]
    words += ["jsonl", "csv", "parquet", "coco", "label-studio"]
    local, parts = tmp_path / "local", tmp_path / "out"
    assert main(["detect", str(line["images"]), *words, "--no-heatmaps", "--output", str(local)]) == 1
    assert bulk(line, parts, "--input", line["images"], *words[2:]) == 1
    assert len(pd.read_parquet(parts)) == 40  # they do not stand in the way
    names = {"_results.jsonl", "_results.csv", "_coco.json", "_label-studio.json", "_detect.json"}
    assert {file.name for file in parts.glob("_*")} == names
    found = {each["path"]: each for each in map(json.loads, (parts / "_results.jsonl").read_text().splitlines())}
    for each in map(json.loads, (local / "results.jsonl").read_text().splitlines()):
        other = found.pop(each["path"])
        assert other == each | {"map": None, "time": other["time"]}
    assert not found
    coco = [json.loads(file.read_text()) for file in (parts / "_coco.json", local / "coco.json")]
    assert len(coco[0]["annotations"]) == len(coco[1]["annotations"]) > 0


def test_labels_at_a_false_discovery_rate_are_those_of_the_local_engine(line, tmp_path, without_ray, small_chunks):
    plain = expected_rows(line, tmp_path / "plain")
    words = ["--false-discovery-rate", "0.1"]
    for _ in range(2):  # it goes on with the same labels
        assert bulk(line, tmp_path / "out", "--input", line["images"], "--save-maps", *words) == 1
        found = rows(tmp_path / "out")
        assert all(row.pop("map_png") or row["error"] for row in found)
        assert found == expected_rows(line, tmp_path / "local", *words) != plain


def test_names_in_no_encoding_have_one_row(line, tmp_path, without_ray):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in (b"\xff.png", b"\xfe.png"):
        shutil.copy(line["images"] / "11.png", os.fsdecode(os.fsencode(folder) + b"/" + name))
    for _ in range(2):
        assert bulk(line, tmp_path / "out", "--input", folder) == 0
        assert [Path(row["path"]).name for row in rows(tmp_path / "out")] == ["?.png", "?.png"]


def test_addresses_and_lists_in_the_local_engine(line, tmp_path):
    (tmp_path / "list.txt").write_text(f"{line['images'] / '11.png'}\nfile://{line['images'] / '12.png'}\ngone.png\n")
    call = ["detect", str(line["images"] / "13.png"), "--input", str(tmp_path / "list.txt"), "--quiet"]
    assert main([*call, "--profile", str(line["profile"]), "--output", str(tmp_path / "out")]) == 1
    found = [json.loads(text) for text in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert [(Path(each["path"]).name, each["error"]) for each in found] == [
        ("13.png", None), ("11.png", None), ("12.png", None), ("gone.png", "No such image file: gone.png")
    ]  # fmt: skip


def test_a_row_of_a_worker_that_outlived_its_run_is_taken_out(line, tmp_path, without_ray, small_chunks):
    assert bulk(line, tmp_path, "--input", line["images"]) == 1
    parts = sorted(tmp_path.glob("part-*"))
    table = parquet.read_table(parts[0])
    parquet.write_table(table.slice(2), tmp_path / "part-zz.parquet")
    assert make_plan(Sources(addresses=(str(line["images"]),)), PartStore(str(tmp_path))).before.before == 40
    assert len(rows(tmp_path)) == 40 and not (tmp_path / "part-zz.parquet").exists()


def test_other_settings_and_wrong_calls(line, tmp_path, without_ray, capsys):
    assert bulk(line, tmp_path / "out", "--input", line["images"] / "11.png") == 0
    assert bulk(line, tmp_path / "out", "--input", line["images"] / "12.png", "--save-maps") == 1
    assert "differs in maps" in capsys.readouterr().err
    assert bulk(line, tmp_path / "out", "--input", line["images"] / "12.png", "--save-maps", "--overwrite") == 0
    assert [Path(row["path"]).name for row in rows(tmp_path / "out")] == ["12.png"]
    (tmp_path / "list.csv").write_text("file\na.png\n")
    for address, reason in (
        (tmp_path / "nothing", "no such file or folder"),
        (tmp_path / "list.csv", "column `path`"),
        ("nowhere://a/b", "cannot be reached"),
    ):
        assert bulk(line, tmp_path / "new", "--input", address) == 1
        assert reason in capsys.readouterr().err
    for words in (["--engine", "ray"], ["x", "--engine", "ray", "--watch"], ["x", "--actors", "2"]):
        with pytest.raises(SystemExit) as stopped:
            main(["detect", *words])
        assert stopped.value.code == 2


@pytest.mark.slow
def test_memory_of_the_local_engine_does_not_grow_with_the_number_of_paths(small_folder, tmp_path):
    """100,000 paths of which all but some are done: started in seconds, in the memory that ten take."""
    code = """
import json, sys, time
from pathlib import Path
from adaptclip_hf.engine import PlainReference
from adaptclip_hf.runs.executor import make_plan
from adaptclip_hf.runs.sources import Source
from adaptclip_hf.runs.spec import RunSpec
from adaptclip_hf.runs.store_lines import LineStore
import psutil
folder, count = Path(sys.argv[1]), int(sys.argv[2])
start = time.perf_counter()
def lines():
    for index in range(count):
        row = {"path": str(folder / f"{index:06}.png"), "bytes": None, "modified": None, "score": 0.5, "label": None}
        row |= {"p_value": None, "regions": None, "size": [8, 8], "among_normals": False}
        yield row | {"error": None, "heatmap": None, "map": None}
with (folder / "results.jsonl").open("w") as opened:
    for line in lines():
        opened.write(json.dumps(line) + "\\n")
import gc
gc.collect()
store = LineStore(folder, RunSpec("model", PlainReference()))
before, start = psutil.Process().memory_info().rss, time.perf_counter()
plan = make_plan((Source(str(folder / f"{index:06}.png")) for index in range(count)), store)
assert plan.before.before == len(store.index) == count and not plan.waiting
print(json.dumps([psutil.Process().memory_info().rss - before, time.perf_counter() - start]))
"""
    found = []
    for count in (1000, 100_000):
        (tmp_path / str(count)).mkdir()
        done = run_python("-c", code, tmp_path / str(count), count)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout))
    assert found[1][0] < found[0][0] + 12 * 2**20, found  # SQLite's cache
    assert found[1][1] < 30, found


def test_the_callable_of_map_batches(line):
    ray = pytest.importorskip("adaptclip_hf.ray")
    detect = ray.Detect(profile=str(line["profile"]))
    paths = sorted(map(str, line["images"].glob("*.*")))
    by_path = detect({"path": np.array(paths)}).to_pylist()
    contents = np.array([Path(path).read_bytes() for path in paths], object)
    by_bytes = detect({"path": np.array(paths), "image": contents}).to_pylist()
    assert [row["score"] for row in by_path] == [row["score"] for row in by_bytes]
    expected = detect.scorer.detect(paths[0], profile=InspectionProfile.from_pretrained(line["profile"]))
    assert by_path[0]["score"] == expected[0].score and by_path[-1]["error"]


def start(line, store: dict, *words) -> Command:
    command = [*CLI, "detect", "--engine", "ray", "--quiet", "--profile", line["profile"], *words]
    return start_python(*command, environment=os.environ | {"OMP_NUM_THREADS": "1", "RAY_DEDUP_LOGS": "0"} | store)


def actors_of(driver: Command) -> list[psutil.Process]:
    """The processes in which a driver's actors score."""
    below = psutil.Process(driver.pid).children(recursive=True)
    return [each for each in below if any("DetectRead" in word for word in each.cmdline()[:1])]


@pytest.fixture
def store(tmp_path):
    """An S3 server at a loopback port, with a bucket `line`."""
    server = pytest.importorskip("moto.server")
    import boto3

    started = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    started.start()
    address = f"http://127.0.0.1:{started.get_host_and_port()[1]}"
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
    client = boto3.client(
        "s3", endpoint_url=address, aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1"
    )
    client.create_bucket(Bucket="line")
    yield client, {"AWS_ENDPOINT_URL": address, **keys}
    urllib.request.urlopen(f"{address}/moto-api/reset", data=b"")  # what it holds outlives it in this process
    started.stop()


def upload(client, line, *folders: str):
    """The images, in each of the folders."""
    for file in sorted(line["images"].rglob("*.*")):
        content = file.read_bytes()
        for folder in folders:
            client.put_object(Bucket="line", Key=f"{folder}/{file.relative_to(line['images'])}", Body=content)


def parts_of(client) -> list[str]:
    listed = client.list_objects_v2(Bucket="line", Prefix="results/part-")
    return [each["Key"] for each in listed.get("Contents", ())]


def assert_rows(client, line, folder, *days: str):
    """Those in the store are the local engine's, day by day, each once; nothing is beside them but the settings."""
    for key in (parts := parts_of(client)):
        client.download_file("line", key, str(folder / Path(key).name))
    left = client.list_objects_v2(Bucket="line", Prefix="results/")["Contents"]
    assert sorted(each["Key"] for each in left) == sorted(["results/_detect.json", *parts])
    found, expected = rows(folder), expected_rows(line, folder / "local")
    assert len(found) == len(days) * len(expected) == len({row["path"] for row in found})
    by_path = {row["path"]: row for row in found}
    for day in days:
        for row in expected:
            path = f"s3://line/{day}/{Path(row['path']).relative_to(line['images'])}"
            other = by_path[path]
            assert (other["error"] is None) == (row["error"] is None)  # of bytes in place of a file
            assert other | {"error": None} == row | {"path": path, "error": None}
    assert sum(row["error"] is not None for row in found) == 2 * len(days)


@pytest.mark.slow(120)
def test_on_ray_with_a_worker_and_the_driver_killed_each_image_has_one_row(line, tmp_path, store):
    pytest.importorskip("ray")
    client, keys = store
    days = [f"days/{day:02}" for day in range(9)]  # 3 chunks: the driver is killed long before the last
    upload(client, line, *days)

    def go_on() -> Command:
        words = ("--input", "s3://line/days", "--output", "s3://line/results", "--actors", "1")
        return start(line, keys, *words)

    def wait_for_part(driver: Command, count: int):
        deadline = time.monotonic() + 300
        while len(parts_of(client)) < count:
            assert driver.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)

    driver = go_on()
    wait_for_part(driver, 1)
    driver.kill()
    driver.wait()
    time.sleep(3)
    driver = go_on()
    wait_for_part(driver, len(parts_of(client)) + 1)
    [actor] = actors_of(driver)
    actor.kill()
    assert driver.wait(400) == 1  # some are broken
    assert_rows(client, line, tmp_path, *days)


def test_from_a_store_into_a_store(line, tmp_path, store, without_ray, monkeypatch):
    client, keys = store
    upload(client, line, "today")
    client.put_object(Bucket="line", Key="today/.hidden/a.png", Body=b"x")
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    for _ in range(2):  # the second time nothing is left to do
        assert bulk(line, "s3://line/results", "--input", "s3://line/today") == 1
    assert_rows(client, line, tmp_path, "today")
