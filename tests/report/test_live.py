"""The page beside a run: what it shows of rows as they come, and whom it answers."""

import http.client
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from PIL import Image

from adaptclip_hf.cli import main
from adaptclip_hf.report import live as live_page
from adaptclip_hf.report.live import LivePage, live

NOW = datetime.now(UTC)


def line(path: str, label: str | None = "normal", days: int = 0, **fields) -> str:
    when = (NOW - timedelta(days=days)).isoformat(timespec="milliseconds")
    row = {"path": path, "score": 0.5, "p_value": 0.1, "label": label, "regions": [], "size": [40, 40]}
    row |= {"heatmap": None, "map": None, "error": None, "among_normals": False, "bytes": None, "modified": None}
    return json.dumps(row | {"time": when} | fields) + "\n"


@pytest.fixture
def page(tmp_path, monkeypatch) -> LivePage:
    monkeypatch.setattr(live_page, "KEPT", 0.0)
    return LivePage(tmp_path, lambda: ["3 decisions wait for <http://line>"])


def test_rows_show_as_they_come(page, tmp_path):
    file = tmp_path / "results.jsonl"
    assert "none yet" in page.html().decode()
    rows = [line("a.png"), line("b.png", "anomalous"), line("c.png", "not inspectable")]
    file.write_text(rows[0] + rows[1] + rows[2][:40])
    shown = page.html().decode()
    assert (
        "<b>2</b> photos today" in shown and "<b>1</b> anomalous, 50.0 % of 2 decided" in shown and "c.png" not in shown
    )
    with file.open("a") as opened:
        opened.write(rows[2][40:] + line("<script>.png", None, score=None, error="half\nof it") + line("d.png", days=3))
        old = json.loads(line("old.png"))
        del old["time"]  # as version 0.2 wrote it
        opened.write(json.dumps(old) + "\n")
    shown = page.html().decode()
    assert "<b>4</b> photos today" in shown and "<b>1</b> anomalous, 50.0 % of 2 decided" in shown
    assert "<b>1</b> not inspectable" in shown and "<b>1</b> unreadable" in shown
    assert "&lt;script&gt;.png" in shown and "<script" not in shown and "old.png" in shown
    assert "3 decisions wait for &lt;http://line&gt;" in shown
    assert f"{(NOW - timedelta(days=3)).astimezone():%Y-%m-%d}" in shown
    whole = tmp_path / "new"
    whole.write_text(rows[1])
    whole.replace(file)  # as rows of changed photos are taken back
    shown = page.html().decode()
    assert "<b>1</b> photos today" in shown and "a.png" not in shown


def test_heatmaps_come_from_the_folder_alone(page, tmp_path):
    (tmp_path / "heatmaps").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "heatmaps" / "a.png")
    Image.new("RGB", (40, 40)).save(tmp_path / "mine.png")
    rows = [line("gone.png", heatmap="elsewhere/a.png"), line("other.png", heatmap="../mine.png")]
    (tmp_path / "results.jsonl").write_text("".join(rows))
    assert page.html().decode().count('<img src="data:image/') == 1


def ask(port: int, method: str = "GET", path: str = "/", **headers) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def test_who_is_answered(page):
    with live("127.0.0.1", 0, page) as address:
        port = int(address.rstrip("/").rpartition(":")[2])
        assert ask(port) == ask(port, Host=f"localhost:{port}") == ask(port, Host=f"[::1]:{port}") == 200
        assert ask(port, Host="evil.example") == ask(port, Host=f"127.0.0.1.evil.example:{port}") == 403
        assert ask(port, "POST") == ask(port, "DELETE") == 501
        assert ask(port, path="/../results.jsonl") == ask(port, path="/?x") == 404
        with pytest.raises(OSError, match=f"--live 127.0.0.1:{port} cannot be served"), live("127.0.0.1", port, page):
            pass
    with pytest.raises(ConnectionRefusedError):
        ask(port)


@pytest.mark.parametrize("words", [["--live", "x"], ["--live", "99999"], ["--live", "8100", "--engine", "ray"]])
def test_wrong_calls(words):
    with pytest.raises(SystemExit) as ended:
        main(["detect", str(Path.cwd()), *words])
    assert ended.value.code == 2
