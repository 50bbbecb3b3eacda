"""Opens each item of a kind as a user's call does, in this one process, and prints what came of it as JSON lines.

    python tests/open_hostile.py KIND FOLDER

The current folder holds the canaries, the images and the profile; a program of its own, so that memory is its own too.
"""

import json
import os
import signal
import sys
import time
import warnings
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

from memory import most_memory

os.environ["HF_HUB_OFFLINE"] = "1"

MOST_SECONDS = 5
PHOTO = "images/a/0.png"


def open_model(item: Path):
    from adaptclip_hf import AnomalyDetector

    [result] = AnomalyDetector.from_pretrained(str(item), device="cpu").detect(PHOTO)
    assert 0 <= result.score <= 1


def open_profile(item: Path):
    from adaptclip_hf import AnomalyDetector, InspectionProfile

    profile = InspectionProfile.from_pretrained(item)
    assert profile.describe() and json.dumps(profile.summary(), allow_nan=False)
    [result] = AnomalyDetector.from_pretrained("model", device="cpu").detect(PHOTO, profile=profile)
    assert 0 <= result.score <= 1 and 0 < result.p_value <= 1 and result.label


def open_results(item: Path):
    """The run goes on, and a page is made of it."""
    from adaptclip_hf.cli import main

    words = ["images", "--profile", "profile", "--save-maps", "--device", "cpu", "--quiet", "--output", str(item)]
    parts = (item / "_detect.json").is_file()
    check_call(main, ["detect", *words, *(["--engine", "ray"] if parts else [])])
    if not parts:
        check_call(main, ["report", str(item)])


def open_list(item: Path):
    from adaptclip_hf.cli import main

    for file in item.glob("list.*"):
        output = str(item / "out")
        words = ["--model", "model", "--device", "cpu", "--quiet", "--engine", "ray", "--output", output]
        check_call(main, ["detect", "--input", str(file), *words])
    if (item / "meta.json").is_file():
        check_call(main, ["data", str(item)])
    if (item / "maps").is_dir():
        from adaptclip_hf.evaluation.saved_maps import SavedMaps

        SavedMaps(item / "maps")


def check_call(main, arguments: list[str]):
    """Raises what a command says when it fails; its exit status and its lines are checked as well."""
    errors = StringIO()
    with redirect_stderr(errors), redirect_stdout(StringIO()):
        status = main(arguments)
    assert status in (0, 1), status
    assert "Traceback" not in errors.getvalue(), errors.getvalue()
    fatal = [line for line in errors.getvalue().splitlines() if line.startswith("adaptclip: ")]
    if fatal:
        raise ValueError(fatal[-1])


OPEN = {
    "models": open_model,
    "profiles": open_profile,
    "exports": open_model,
    "results": open_results,
    "lists": open_list,
}


def outcome(kind: str, item: Path) -> dict:
    def too_slow(number, frame):
        raise TimeoutError(f"it took more than {MOST_SECONDS} s")

    signal.signal(signal.SIGALRM, too_slow)
    start, error = time.monotonic(), None
    signal.alarm(4 * MOST_SECONDS)
    try:
        OPEN[kind](item)
        result = "opened"
    except TimeoutError as slow:
        result, error = "failed", str(slow)
    except (OSError, ValueError) as refused:
        result, error = "refused", str(refused)
    except BaseException as fault:
        result, error = "failed", f"{type(fault).__name__}: {fault}"
    finally:
        signal.alarm(0)
    seconds = time.monotonic() - start
    return {"item": item.name, "outcome": result, "error": error, "seconds": seconds, "gib": most_memory() / 2**30}


def main():
    kind, folder = sys.argv[1:]
    warnings.simplefilter("ignore")
    import importlib.util

    found = importlib.util.find_spec
    importlib.util.find_spec = lambda name, *more: None if name == "ray" else found(name, *more)  # as without Ray
    import adaptclip_hf.detector

    adaptclip_hf.detector.AnomalyDetector.from_pretrained("model", device="cpu").detect(PHOTO)  # imports, warms up
    for item in sorted(Path(folder).iterdir()):
        print(json.dumps(outcome(kind, item)), flush=True)


if __name__ == "__main__":
    main()
