"""transformers' own common tests on our classes: no failure that its CLIP and CLIPSeg do not have as well.

The tests are those of the source of the installed version, which is fetched and never part of this repository. They run
in a process of their own, as they are; what they import and the source does not hold is in `stand_ins.py`.
"""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from fetch_sdist import transformers_source

RUN = Path(__file__).with_name("run_suites.py")

# what fails and should not be mended; an entry whose test passes again is to be removed
NOT_OURS: dict[str, dict[str, str]] = {
    "model": {
        "test_correct_missing_keys": "a plain CLIP is no AdaptCLIP model with random adapters: it is refused, with the "
        "name of the call that puts fresh adapters on it",
        "test_model_get_set_embeddings": "pixels enter by a convolution, as in CLIPVisionModel, whose own test expects "
        "a module and no table of tokens",
        "test_model_weights_reload_no_missing_tied_weights": "weights are refused that are not those of SHA256SUMS, "
        "and so is a folder without all its weights, which would run on random ones",
        "test_retain_grad_hidden_states_attentions": "CLIP is frozen, so that its hidden states have no gradient, and "
        "the scores, which are fused for reading, hand none back: gradients come from the loss",
    },
    "image processor": {
        "test_new_models_require_torchvision_backend": "pixel values are those of PIL, to the bit, on every machine: "
        "torchvision resizes in another way, and is not needed",
    },
    "processor": {},
}
MOST_ENTRIES = 10
# suites that share a process, since the imports take longer than the tests
PROCESS_OF = {
    "model": ["model"],
    "image processor": ["image processor", "processor"],
    "processor": ["image processor", "processor"],
}


@pytest.fixture(scope="module")
def source() -> Path:
    try:
        return transformers_source()
    except OSError as error:
        pytest.skip(f"transformers' own common tests did not run: {error}")


@pytest.fixture(scope="module")
def outcomes(source, tmp_path_factory):
    """What each test of a suite gave, by class; the first class is ours, the others are the controls."""
    done: dict[str, dict[str, dict[str, list]]] = {}

    def of(suite: str) -> dict[str, dict[str, list]]:
        if suite not in done:
            results = tmp_path_factory.mktemp("suites") / "results.json"
            command = [sys.executable, str(RUN), str(source), str(results), *PROCESS_OF[suite]]
            ran = subprocess.run(command, capture_output=True, text=True, cwd=results.parent)
            assert ran.returncode == 0, ran.stderr[-3000:]
            done.update(json.loads(results.read_text()))
        return done[suite]

    return of


def only_ours(by_class: dict[str, dict[str, list]]) -> dict[str, str]:
    """The failures of our class that no control has for the same reason."""
    ours, *controls = by_class.values()
    failed = {name: outcome for name, outcome in ours.items() if outcome[0] == "failed"}
    return {
        name: f"{outcome[1]}\n{outcome[2]}"
        for name, outcome in failed.items()
        if not any(control.get(name, [])[:2] == outcome[:2] for control in controls)
    }


@pytest.mark.slow(30)
@pytest.mark.parametrize(
    "suite", [pytest.param(name, marks=pytest.mark.xdist_group(" ".join(PROCESS_OF[name]))) for name in PROCESS_OF]
)
def test_nothing_fails_with_ours_alone(outcomes, suite):
    by_class = outcomes(suite)
    for name, tests in by_class.items():
        print(f"{suite}, {name}: {dict(Counter(kind for kind, *_ in tests.values()))}")
    found, listed = only_ours(by_class), NOT_OURS[suite]
    new = [f"{name}: {reason}" for name, reason in found.items() if name not in listed]
    gone = sorted(listed.keys() - found.keys())
    assert not new, f"{len(new)} of transformers' tests fail with ours alone:\n\n" + "\n\n".join(new)
    assert not gone, f"on the list, and they pass, or fail with a control too: {gone}"
    assert any(kind == "passed" for kind, *_ in next(iter(by_class.values())).values())


def test_the_list_is_short():
    assert sum(map(len, NOT_OURS.values())) <= MOST_ENTRIES
