"""What `adaptclip detect` sends to a line: every decision, in order, whatever is away or stopped."""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from receivers import Broker, hooked

from adaptclip_hf.cli import main
from adaptclip_hf.delivery import couriers
from adaptclip_hf.delivery.command import Command
from adaptclip_hf.delivery.couriers import Delivery
from adaptclip_hf.delivery.folder import SortedFolder
from adaptclip_hf.delivery.mqtt import MQTTTopic
from adaptclip_hf.delivery.target import UndeliverableError
from adaptclip_hf.delivery.webhook import Webhook
from adaptclip_hf.engine import DetectionResult, PlainReference, UnreadableImage
from adaptclip_hf.runs import store_lines
from adaptclip_hf.runs.outbox import Message
from adaptclip_hf.runs.rows import row_of
from adaptclip_hf.runs.sources import Source
from adaptclip_hf.runs.spec import RunSpec
from adaptclip_hf.runs.store_lines import LineStore

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
    monkeypatch.setattr(couriers, "AT_END", 20)
    Path("line").mkdir()
    for name, photo in zip(NAMES, [*photos["bad"], photos["good"][0]], strict=True):
        shutil.copy(photo, Path("line", name))
    Path("note.py").write_text(NOTE)
    return tmp_path


@pytest.fixture
def detect(line, small_folder):
    """`adaptclip detect line`, which calls every photo anomalous."""

    def call(*words, status: int = 0) -> list[dict]:
        words = ["line", *words, "--threshold", 0, "--model", small_folder, "--device", "cpu", "--no-heatmaps"]
        assert main(["detect", *map(str, words)]) == status
        return [json.loads(text) for text in Path("adaptclip-output/results.jsonl").read_text().splitlines()]

    return call


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def decide(line, told):
    """Decides each photo of the line that has no row, as a run does, without a model; returns how many wait."""

    def call(*targets, label: str = "anomalous") -> int:
        store = LineStore(Path("out"), RunSpec("none", PlainReference()))
        delivery = Delivery(targets, told.append)
        with store.locked():
            store.begin({}, False)
            with delivery.of(store):
                for file in sorted(Path("line").rglob("*.png")):
                    source = Source(str(file))
                    row = store.index.find(source)
                    if row is None or not store.index.is_current(source, row):
                        size = len(file.read_bytes())
                        result = DetectionResult(source.path, 0.5, np.zeros((2, 2), np.float32), (2, 2), label)
                        if size < 100:
                            result = UnreadableImage(source.path, "half of it")
                        store.add(row_of(source.path, source.whole_stamp(), result), result)
        return delivery.undelivered

    return call


def rows() -> list[dict]:
    return [json.loads(text) for text in Path("out/results.jsonl").read_text().splitlines()]


def paths(bodies) -> list[str]:
    return [body["path"] for body in bodies]


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


def test_the_next_call_delivers_what_waits(detect, capsys, monkeypatch):
    monkeypatch.setattr(couriers, "AT_END", 1)
    with hooked() as hook:
        port = hook.port
    expected = detect("--webhook", f"http://127.0.0.1:{port}/in?key=hidden", "--sort-into", "sorted", status=1)
    told = capsys.readouterr().out
    assert "4 decisions wait for http://127.0.0.1" in told and "the same command delivers them" in told
    assert "hidden" not in told and len(list(Path("sorted/anomalous").iterdir())) == 4
    with hooked() as hook:
        assert detect("--webhook", f"http://127.0.0.1:{hook.port}/corrected") == expected
    assert paths(hook.bodies) == paths(expected)


def test_a_webhook_has_it_when_it_says_so(decide, told):
    with hooked() as hook:
        hook.statuses = [503, 302, 404]
        assert decide(Webhook(hook.url)) == 0
        assert paths(hook.bodies) == paths(rows())
        decide(Webhook(hook.url))
    assert len(hook.bodies) == 4 and "answers 503" in told[0] and "takes decisions again" in told[1]
    assert len(told) == 2


def test_a_target_gets_what_is_decided_from_when_it_is_named(decide, photos, told):
    decide()
    with hooked() as hook:
        decide(Webhook(hook.url))
        shutil.copy(photos["good"][1], "line/new.png")
        decide(Webhook(hook.url))
        assert paths(hook.bodies) == ["line/new.png"]
        shutil.copy(photos["good"][0], "line/later.png")
        decide()  # which names no target: the decision waits
        assert "1 decisions wait for the webhook that an earlier call named" in told[-1]
        decide(Webhook(hook.url))
    assert paths(hook.bodies) == ["line/new.png", "line/later.png"]


@pytest.mark.parametrize("file", ["results.jsonl", ".seen.jsonl"])
def test_a_stop_between_outbox_and_row_loses_and_repeats_nothing(decide, monkeypatch, file):
    whole, calls = store_lines.append, []

    def append(place: Path, content: bytes):
        calls.append(place.name)
        if place.name == file and calls.count(file) == 3:
            raise OSError("the power fails")
        whole(place, content)

    with hooked() as hook:
        monkeypatch.setattr(store_lines, "append", append)
        with pytest.raises(OSError, match="the power fails"):
            decide(Webhook(hook.url))
        assert len(hook.bodies) == 3 and len(rows()) == 2
        decide(Webhook(hook.url))
    assert paths(hook.bodies) == paths(rows()) and len(hook.bodies) == 4


def test_a_command_that_fails_is_run_again(decide, told):
    Path("fails.py").write_text(
        f"import os, sys\nif not os.path.exists('ready'):\n    open('ready', 'x')\n    sys.exit('no')\n{NOTE}"
    )
    decide(Command(f"{sys.executable} fails.py"))
    assert paths(body for _, body in noted()) == paths(rows())
    assert "ended with status 1: no)" in told[0]


def test_a_command_is_run_for_anomalous_photos_alone(decide):
    assert decide(Command(f"{sys.executable} note.py"), label="normal") == 0 and not Path("noted.jsonl").exists()


def test_sorting_overwrites_no_photo(decide, photos):
    Path("sorted/anomalous").mkdir(parents=True)
    Path("sorted/anomalous", NAMES[0]).write_text("another photo")
    Path("line/broken.png").write_bytes(b"half of it")
    assert decide(SortedFolder(Path("sorted"))) == 0
    assert Path("sorted/anomalous", NAMES[0]).read_text() == "another photo"
    found = sorted(file.read_bytes() for file in Path("sorted/anomalous").iterdir())
    assert found == sorted([*(Path("line", name).read_bytes() for name in NAMES), b"another photo"])
    assert [file.name for file in Path("sorted/unreadable").iterdir()] == ["broken.png"]


def test_a_photo_that_has_gone_or_changed_is_not_sorted(decide, told):
    decide()
    row = rows()[0] | {"file": os.path.realpath(rows()[0]["path"]), "sha256": 64 * "0"}
    with pytest.raises(UndeliverableError, match="has changed since it was decided"):
        SortedFolder(Path("sorted")).deliver(Message(1, "a", row))
    Path(row["path"]).unlink()
    with pytest.raises(UndeliverableError, match="is gone"):
        SortedFolder(Path("sorted")).deliver(Message(1, "a", row))


def test_a_broker_that_forgets_gets_it_again(decide, told, monkeypatch):
    broker = Broker()
    broker.forgets = 2
    assert decide(MQTTTopic(f"mqtt://127.0.0.1:{broker.port}/line?qos=1")) == 0
    assert paths(body for _, body in broker.published) == paths(rows())
    broker.password = "secret"
    monkeypatch.setattr(couriers, "AT_END", 0.5)
    shutil.copy(Path("line", NAMES[0]), "line/z.png")
    assert decide(MQTTTopic(f"mqtt://127.0.0.1:{broker.port}/line")) == 1
    assert "Not authorized" in told[-1]
    broker.close()


WRONG = {
    "no program": (["--on-anomalous", "no-such-program {path}"], 1, "there is no program 'no-such-program'"),
    "quotes": (["--on-anomalous", "echo 'open"], 1, "No closing quotation"),
    "field": (["--on-anomalous", "echo {pth}"], 1, "{pth} is none of {path}"),
    "scheme": (["--webhook", "ftp://line"], 1, "--webhook ftp://line: expected an address such as http"),
    "password": (["--webhook", "http://me:secret@line/in"], 1, "leave user and password out"),
    "port of a webhook": (["--webhook", "http://line:x/in"], 1, "--webhook: Port"),
    "blank": (["--webhook", "http://line/a b"], 1, "expected an address such as http"),
    "no topic": (["--mqtt", "mqtt://me:secret@line"], 1, "expected a topic"),
    "quality": (["--mqtt", "mqtt://me:secret@line/a?qos=0"], 1, "expected qos=1 or qos=2"),
    "port": (["--mqtt", "mqtt://line:x/a"], 1, "--mqtt: Port"),
    "ray": (["--webhook", "http://line", "--engine", "ray"], 2, "--webhook belongs to --engine local"),
    "inside": (["--sort-into", "line/sorted"], 2, "lies in line, whose photos are scored"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_what_cannot_be_a_target_is_refused_before_a_model_is_loaded(line, fault, capsys, monkeypatch):
    monkeypatch.setattr("adaptclip_hf.cli.argument_types.load_detector", pytest.fail)
    words, status, told = WRONG[fault]
    try:
        found = main(["detect", "line", "--threshold", "0.5", *words])
    except SystemExit as ended:
        found = ended.code
    printed = "".join(capsys.readouterr())
    assert found == status and told in printed and "secret" not in printed


def test_a_decision_is_needed(line, capsys):
    with pytest.raises(SystemExit):
        main(["detect", "line", "--sort-into", "sorted"])
    assert "--sort-into needs a decision: give --profile, or --threshold" in capsys.readouterr().err


def test_what_could_never_be_sorted_holds_up_nothing(decide):
    """A name that leaves no room for a number, and a photo that is still not to be read."""
    decide()
    row, target = rows()[0], SortedFolder(Path("sorted"))
    for stem in ("a" * 251, "\udcff" * 251):
        photo = Path("long", f"{stem}.png")
        photo.parent.mkdir(exist_ok=True)
        shutil.copy(row["path"], photo)
        (there := Path("sorted/anomalous", photo.name)).parent.mkdir(parents=True, exist_ok=True)
        there.write_text("another photo")
        target.deliver(Message(1, 64 * "a", row | {"path": str(photo), "file": str(photo.absolute()), "sha256": None}))
        assert photo.read_bytes() in [each.read_bytes() for each in there.parent.iterdir()]
        assert there.read_text() == "another photo"
    Path("line/folder.png").mkdir()  # as a file that may not be read
    unread = row | {"path": "folder.png", "file": os.path.realpath("line/folder.png"), "error": "why", "sha256": None}
    with pytest.raises(UndeliverableError, match="can still not be read"):
        target.deliver(Message(2, "b", unread))
    with pytest.raises(OSError):
        target.deliver(Message(3, "c", unread | {"error": None}))


def test_the_token_of_a_webhook_is_never_shown(monkeypatch):
    monkeypatch.setenv("ADAPTCLIP_WEBHOOK_TOKEN", "secret\n")
    assert Webhook("http://line/in").token == "secret"
    monkeypatch.setenv("ADAPTCLIP_WEBHOOK_TOKEN", "sec\nret")
    with pytest.raises(ValueError, match="on one line") as refused:
        Webhook("http://line/in")
    assert "sec" not in str(refused.value).lower()


def test_what_waits_is_named_when_a_run_is_begun_anew(decide, monkeypatch):
    monkeypatch.setattr(couriers, "AT_END", 0.1)
    assert decide(Webhook("http://127.0.0.1:9/away")) == 4
    said = []
    store = LineStore(Path("out"), RunSpec("none", PlainReference()), said.append)
    with store.locked():
        store.begin({}, True)
    assert said == ["4 decisions that waited for webhook are dropped with the results before"]
