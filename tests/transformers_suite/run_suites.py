"""Runs suites of transformers' common tests in a process of its own, and writes what each test gave.

Usage: run_suites.py SOURCE RESULTS.json SUITE ...
"""

import json
import os
import re
import sys
import tempfile
import time
import traceback
import unittest
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error"}

import stand_ins
import suite_pipelines
from transformers import CLIPConfig

NETWORK = re.compile(
    r"OfflineModeIsEnabled|LocalEntryNotFoundError|ConnectError|ConnectionError|NameResolutionError|"
    r"couldn't connect to|offline mode is enabled|Temporary failure in name resolution|Network is unreachable"
)
# what differs from run to run and from model to model, and says nothing about the reason
VARYING = (
    (r"/tmp/[\w./-]+", "PATH"),
    (r"0x[0-9a-f]+", "ADDRESS"),
    (r"(AdaptCLIP|CLIPSeg|CLIP)(?=[A-Z])(\w*?)(Pil)?\b", r"A\2"),
    (r"-?\d+\.?\d*(e-?\d+)?", "N"),
)


def reason(error: BaseException) -> str:
    """Type and message, without what differs from run to run and from model to model."""
    text = f"{type(error).__name__}: {error}"
    for pattern, name in VARYING:
        text = re.sub(pattern, name, text)
    return " ".join(text.split())


class Outcomes(unittest.TestResult):
    """For each test "passed", or "failed", "skipped" or "network" with the reason."""

    def __init__(self):
        super().__init__()
        self.of: dict[str, list[str]] = {}
        self.seconds: dict[str, float] = {}

    def startTest(self, test):  # noqa: N802
        super().startTest(test)
        self.seconds[test._testMethodName] = -time.monotonic()

    def stopTest(self, test):  # noqa: N802
        self.seconds[test._testMethodName] += time.monotonic()
        super().stopTest(test)

    def addSuccess(self, test):  # noqa: N802
        self.of.setdefault(test._testMethodName, ["passed", ""])

    def addSkip(self, test, why):  # noqa: N802
        self.of.setdefault(getattr(test, "_testMethodName", "setUpClass"), ["skipped", why])

    def addFailure(self, test, info):  # noqa: N802
        self.addError(test, info)

    def addError(self, test, info):  # noqa: N802
        name = getattr(test, "_testMethodName", "setUpClass")
        lines = "".join(traceback.format_exception(*info))
        kind = "network" if NETWORK.search(lines) else "failed"
        self.of[name] = [kind, reason(info[1]), lines]

    def addSubTest(self, test, subtest, info):  # noqa: N802
        if info is not None:
            self.addError(test, info)


def run(test_class: type[unittest.TestCase]) -> dict[str, list]:
    outcomes = Outcomes()
    unittest.defaultTestLoader.loadTestsFromTestCase(test_class).run(outcomes)
    return {name: [*outcome, outcomes.seconds.get(name, 0.0)] for name, outcome in outcomes.of.items()}


def main(source: str, results: str, *suites: str):
    with tempfile.TemporaryDirectory() as folder:
        stand_ins.install(Path(source), Path(folder), suite_pipelines.SUMMARY)
        from suite_classes import CLIP, SUITES

        suite_pipelines.save_small_models(Path(folder), CLIPConfig(**CLIP))
        given = {suite: {each.__name__: run(each) for each in SUITES[suite]} for suite in suites}
    Path(results).write_text(json.dumps(given))


if __name__ == "__main__":
    main(*sys.argv[1:])
