"""What `adaptclip detect` sends to a line: every decision, in order, whatever is away or stopped."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from receivers import Broker, hooked

from adaptclip_hf.cli import main
from adaptclip_hf.delivery import couriers
from adaptclip_hf.runs import store_lines

# names that a shell, an option parser or a template would take for something else
NAMES = ["a;touch owned.png", "-rf $(touch owned) `touch owned`.png", 'it\'s "quoted" {score}.png', "two\nlines.png"]
NOTE = """
import json, sys
with open("noted.jsonl", "a") as opened:
    print(json.dumps([sys.argv[1:], json.loads(sys.stdin.readline())]), file=opened)
"""


@pytest.fixture
def line(photos, tmp_path, monkeypatch) -> Path:
    """A folder of four photos with hostile names, seen from its parent."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(couriers, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(couriers, "AT_END", 0.3)
    Path("line").mkdir()
    for name, photo in zip(NAMES, [*photos["bad"], photos["good"][0]], strict=True):
        shutil.copy(photo, Path("line", name))
    Path("note.py").write_text(NOTE)
    return tmp_path


@pytest.fixture
def detect(line, small_folder):
    """`adaptclip detect line`, which calls every photo anomalous."""

    def call(*words, threshold: float = 0.0, status: int = 0):
        words = ["line", *words, "--threshold", threshold, "--model", small_folder, "--device", "cpu", "--no-heatmaps"]
        assert main(["detect", *map(str, words)]) == status
        return [json.loads(text) for text in Path("adaptclip-output/results.jsonl").read_text().splitlines()]

    return call


def noted() -> list:
    return [json.loads(text) for text in Path("noted.jsonl").read_text().splitlines()]


def test_all_four_get_every_decision_in_order(detect, monkeypatch):
    broker = Broker(password="secret")
    monkeypatch.setenv("ADAPTCLIP_MQTT_PASSWORD", "secret")
    monkeypatch.setenv("ADAPTCLIP_WEBHOOK_TOKEN", "token")
    command = f"{sys.executable} note.py {{path}} --score={{score}} '{{label}} {{id}}'"
    with hooked() as hook:
        words = ["--on-anomalous", command, "--sort-into", "sorted", "--webhook", f"http://127.0.0.1:{hook.port}/in"]
        rows = detect(*words, "--mqtt", f"mqtt://me@127.0.0.1:{broker.port}/line/1")
        broker.close()
    assert len(rows) == 4 and all(row["time"] for row in rows)
    for bodies in (hook.bodies, [body for _, body in broker.published], [body for _, body in noted()]):
        assert [{name: body[name] for name in row} for body, row in zip(bodies, rows, strict=True)] == rows
        assert len({body["id"] for body in bodies}) == 4
    assert {topic for topic, _ in broker.published} == {"line/1"}
    assert [each["Idempotency-Key"] for each in hook.headers] == [body["id"] for body in hook.bodies]
    assert {each["Authorization"] for each in hook.headers} == {"Bearer token"}
    for words, body in noted():
        file = os.path.realpath(body["path"])
        assert words == [file, f"--score={body['score']}", f"anomalous {body['id']}"]
    assert sorted(file.name for file in Path("sorted/anomalous").iterdir()) == sorted(NAMES)
    assert not list(Path.cwd().rglob("owned"))


def test_who_is_away_gets_it_later_and_others_do_not_wait(detect, capsys):
    with hooked() as hook:
        port = hook.port
    words = ["--webhook", f"http://127.0.0.1:{port}/in?key=hidden", "--sort-into", "sorted"]
    rows = detect(*words, status=1)
    told = capsys.readouterr().out
    assert "4 decisions wait for http://127.0.0.1" in told and "the same command delivers them" in told
    assert "hidden" not in told and len(list(Path("sorted/anomalous").iterdir())) == 4
    with hooked() as hook:
        hook.statuses = [503, 302, 404]
        assert detect("--webhook", f"http://127.0.0.1:{hook.port}/corrected") == rows
    assert [body["path"] for body in hook.bodies] == [row["path"] for row in rows]
    with hooked() as hook:
        detect("--webhook", f"http://127.0.0.1:{hook.port}/")
    assert not hook.bodies


def test_a_target_gets_what_is_decided_from_when_it_is_named(detect, photos):
    detect()
    with hooked() as hook:
        detect("--webhook", f"http://127.0.0.1:{hook.port}")
        shutil.copy(photos["good"][1], "line/new.png")
        detect("--webhook", f"http://127.0.0.1:{hook.port}")
        assert [body["path"] for body in hook.bodies] == ["line/new.png"]
        shutil.copy(photos["good"][0], "line/new.png")
        detect()  # which names no target: the decision waits
        detect("--webhook", f"http://127.0.0.1:{hook.port}")
    assert [body["path"] for body in hook.bodies] == 2 * ["line/new.png"]
    assert len({body["id"] for body in hook.bodies}) == 2


@pytest.mark.parametrize("file", ["results.jsonl", ".seen.jsonl"])
def test_a_stop_between_outbox_and_row_loses_and_repeats_nothing(detect, monkeypatch, file):
    whole, calls = store_lines.append, []

    def append(place: Path, content: bytes):
        calls.append(place.name)
        if place.name == file and calls.count(file) == 3:
            raise KeyboardInterrupt
        whole(place, content)

    with hooked() as hook:
        words = ["--webhook", f"http://127.0.0.1:{hook.port}"]
        monkeypatch.setattr(store_lines, "append", append)
        detect(*words, status=130)
        assert len(hook.bodies) == 3
        monkeypatch.setattr(store_lines, "append", whole)
        rows = detect(*words)
    assert [body["path"] for body in hook.bodies] == [row["path"] for row in rows]


def test_a_command_that_fails_is_run_again_and_normal_photos_run_none(detect, capsys):
    Path("fails.py").write_text(
        f"import os\nif os.path.exists('ready'):{{}}\n{NOTE}".replace(
            "{}", "\n    pass\nelse:\n    os.close(os.open('ready', os.O_CREAT))\n    raise SystemExit('not yet')"
        )
    )
    rows = detect("--on-anomalous", f"{sys.executable} fails.py", threshold=0.9)
    assert {row["label"] for row in rows} == {"normal"} and not Path("noted.jsonl").exists()
    rows = detect("--on-anomalous", f"{sys.executable} fails.py", "--overwrite")
    assert [body["path"] for _, body in noted()] == [row["path"] for row in rows]
    assert "ended with status 1: not yet" in capsys.readouterr().out


def test_sorting_overwrites_no_photo(detect, photos, capsys):
    Path("sorted/anomalous").mkdir(parents=True)
    Path("sorted/anomalous", NAMES[0]).write_text("another photo")
    Path("line/broken.png").write_bytes(b"half of it")
    shutil.copytree("line", "line/below")
    detect("--sort-into", "sorted", status=1)
    assert Path("sorted/anomalous", NAMES[0]).read_text() == "another photo"
    found = {file.read_bytes() for file in Path("sorted/anomalous").iterdir()}
    assert found == {Path("line", name).read_bytes() for name in NAMES} | {b"another photo"}
    assert [file.name for file in Path("sorted/unreadable").iterdir()] == ["broken.png"]


def test_a_broker_that_forgets_gets_it_again(detect, capsys):
    broker = Broker()
    broker.forgets = 2
    rows = detect("--mqtt", f"mqtt://127.0.0.1:{broker.port}/line?qos=1")
    assert [body["path"] for _, body in broker.published] == [row["path"] for row in rows]
    broker.password = "secret"
    shutil.copy(Path("line", NAMES[0]), "line/z.png")
    detect("--mqtt", f"mqtt://127.0.0.1:{broker.port}/line", status=1)
    assert "Not authorized" in capsys.readouterr().out
    broker.close()


WRONG = {
    "no program": (["--on-anomalous", "no-such-program {path}"], 1, "there is no program 'no-such-program'"),
    "quotes": (["--on-anomalous", "echo 'open"], 1, "No closing quotation"),
    "field": (["--on-anomalous", "echo {pth}"], 1, "{pth} is none of {path}"),
    "scheme": (["--webhook", "ftp://line"], 1, "--webhook ftp://line: expected an address such as http"),
    "password": (["--webhook", "http://me:secret@line/in"], 1, "leave user and password out"),
    "no topic": (["--mqtt", "mqtt://me:secret@line"], 1, "expected a topic"),
    "quality": (["--mqtt", "mqtt://me:secret@line/a?qos=0"], 1, "expected qos=1 or qos=2"),
    "port": (["--mqtt", "mqtt://line:x/a"], 1, "--mqtt: Port"),
    "ray": (["--webhook", "http://line", "--engine", "ray"], 2, "--webhook belongs to --engine local"),
    "inside": (["--sort-into", "line/sorted"], 2, "lies in line, whose photos are scored"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_what_cannot_be_a_target_is_refused_at_once(line, fault, capsys):
    words, status, told = WRONG[fault]
    try:
        found = main(["detect", "line", "--threshold", "0.5", "--model", "none", *words])
    except SystemExit as ended:
        found = ended.code
    printed = "".join(capsys.readouterr())
    assert found == status and told in printed and "secret" not in printed


def test_a_decision_is_needed(line, capsys):
    with pytest.raises(SystemExit):
        main(["detect", "line", "--sort-into", "sorted"])
    assert "--sort-into needs a decision: give --profile, or --threshold" in capsys.readouterr().err
