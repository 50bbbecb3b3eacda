"""What a call names and is not there is told at once, before torch is imported."""

import subprocess
import sys

import pytest

from adaptclip_hf.cli.given_names import require_model, require_photos, require_profile

CALLS = [
    ("fit --normal typo/ --output x", "No photos at typo/ (--normal): no such file or folder."),
    ("fit --normal god --output x", "No photos at god (--normal): no such file or folder. Near it: good."),
    ("fit --normal good --defects bad --output x", "No photos at bad (--defects)"),
    ("fit --update good --confirmed a.png", "No profile in good: expected profile.json"),
    ("fit --update nowhere --confirmed a.png", "No profile at nowhere: there is no such folder"),
    ("fit --normal good --output x --model nowhere", "No model at nowhere"),
    ("fit --normal good --output x --ignore m.png", "No file at m.png (--ignore)."),
    ("fit --show nowhere", "No profile at nowhere"),
    ("fit --undo nowhere", "No profile at nowhere"),
    ("detect typo/", "No photos at typo/: no such file or folder."),
    ("detect good --normal typo.png", "No photos at typo.png (--normal)"),
    ("detect good/*.bmp", "Nothing matches good/*.bmp."),
    ("detect typo --watch", "No folder typo to watch."),
    ("detect good --profile nowhere", "No profile at nowhere"),
    ("check nowhere good", "No profile at nowhere"),
]


def test_before_torch_is_imported(tmp_path):
    """In one process, since Python itself takes a second to start."""
    (tmp_path / "good").mkdir()
    program = (
        "import contextlib, io, sys; sys.argv = ['adaptclip']\n"
        "from adaptclip_hf.cli import main\n"
        f"for call, said in {CALLS!r}:\n"
        "    with contextlib.redirect_stderr(io.StringIO()) as errors:\n"
        "        assert main(call.split()) == 1, call\n"
        "    [line] = errors.getvalue().splitlines()\n"
        "    assert said in line, (call, line)\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_photo_that_is_gone_is_passed_over_later(tmp_path):
    (tmp_path / "a.png").touch()
    require_photos("", [str(tmp_path / "gone.png")])  # keeps a row with its error
    require_photos("--normal", [str(tmp_path / name) for name in ("a.png", "gone.png")], files_too=True)
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        require_photos("--normal", [str(tmp_path / "gone.png")], files_too=True)
    require_photos("--input", ["s3://line/today/"])
    require_profile("me/bottle")
    require_model("adaptclip-tiny")
