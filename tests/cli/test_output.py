"""What a command prints never decides about what it does: a reader that goes, a console without letters, no console."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from adaptclip_hf.cli import main
from adaptclip_hf.reporting import Unfailing, is_lost, print_line, printable, unfailing_output


def stream(descriptor: int, encoding: str = "utf-8") -> io.TextIOWrapper:
    return io.TextIOWrapper(io.FileIO(descriptor, "w"), encoding=encoding, write_through=True)


def test_letters_that_a_console_does_not_have_are_escaped():
    beneath = io.BytesIO()
    output = Unfailing(io.TextIOWrapper(beneath, encoding="cp1252", write_through=True))
    print("Teil ü 部品 \udcff", file=output)
    assert beneath.getvalue() == "Teil ü \\u90e8\\u54c1 \\udcff\n".encode("cp1252") and output.error is None


@pytest.mark.parametrize("broken", ["no reader", "full", "closed", "none"])
def test_a_stream_that_takes_nothing_ends_nothing(broken, monkeypatch, capfd):
    from tqdm.auto import tqdm

    streams = {"stdout": None, "stderr": None}
    for name in streams if broken != "none" else ():
        if broken == "no reader":
            reader, writer = os.pipe()
            os.close(reader)
        else:
            writer = os.open("/dev/full" if broken == "full" else os.devnull, os.O_WRONLY)
        streams[name] = stream(writer)
        if broken == "closed":
            streams[name].close()
    for name, beneath in streams.items():
        monkeypatch.setattr(sys, name, beneath)
    with unfailing_output() as output:
        for each in tqdm([1, 2, 3], mininterval=0):
            print(each)
            print("more", file=sys.stderr, flush=True)
            print_line("line")
        print_line("last")
    assert is_lost(output) == (broken == "full")
    if broken in ("no reader", "full"):
        streams["stdout"].close()  # what it held has gone


def test_what_is_printed_into_a_full_disk_is_said_and_a_reader_that_has_gone_is_no_failure(
    tmp_path, monkeypatch, capsys
):
    (tmp_path / "data").mkdir()
    for target, status in (("/dev/full", 1), (None, 0)):
        if target is None:
            reader, writer = os.pipe()
            os.close(reader)
        else:
            writer = os.open(target, os.O_WRONLY)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stream(writer))
            patch.setattr("adaptclip_hf.cli.run_quietly", lambda args: print("a table") or 0)
            assert main(["report", str(tmp_path)]) == status
        assert ("what was printed is lost" in capsys.readouterr().err) == bool(status)


def test_names_show_what_they_are(capsys):
    name = "a\x1b[2J\n\u202egnp.exe\t\u2028ü\udcff.png"
    shown = printable(name)
    assert shown == "a\\x1b[2J\\n\\u202egnp.exe\\t\\u2028ü?.png" and len(shown.splitlines()) == 1
    print_line(name)
    assert capsys.readouterr().out == f"{shown}\n"
    assert main(["report", name]) == 1
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and "\x1b" not in error and "\\u202e" in error


@pytest.mark.slow
def test_a_run_is_complete_whatever_happens_to_its_output(small_folder, photos, tmp_path):
    """Its status is what it would be otherwise, and 1 where a file should have got the output and could not."""
    endings = {"piped": "2>&1 | head -1", "gone": ">&- 2>&-", "full": "> /dev/full", "ascii": "2>&1"}
    name = Path(photos["bad"][0]).rename(tmp_path / "Teil ü 部品.png")
    try:
        started = {}
        for kind, ending in endings.items():
            words = [sys.executable, "-m", "adaptclip_hf.cli", "detect", str(name), *photos["bad"][1:]]
            words += ["--model", str(small_folder), "--device", "cpu", "--output", str(tmp_path / kind)]
            encoding = "cp1252" if kind == "ascii" else "utf-8"
            environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONIOENCODING": encoding}
            command = ["bash", "-c", f'set -o pipefail; "$@" {ending}', "-", *words]
            started[kind] = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for kind, process in started.items():
            output = process.communicate()[0].decode("cp1252")
            assert process.returncode == (kind == "full"), (kind, output)
            assert "Traceback" not in output and "Exception ignored" not in output
            rows = [json.loads(line) for line in (tmp_path / kind / "results.jsonl").read_text().splitlines()]
            assert len(rows) == 3 and all(Path(row["heatmap"]).is_file() for row in rows)
            assert kind != "ascii" or "Teil ü \\u90e8\\u54c1.png" in output
    finally:
        name.rename(photos["bad"][0])
