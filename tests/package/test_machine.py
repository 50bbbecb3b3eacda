import json
import os
import sys
import time

import pytest
import torch

from adaptclip_hf import machine
from adaptclip_hf.engine.fast_layers import has_fused_products
from adaptclip_hf.machine import Usage, leave_room, quota, taken_by_others, usage
from adaptclip_hf.product_rates import kept_rates, layer_rates

FOUR = [frozenset({number}) for number in range(4)]


def test_what_processors_did_is_read(tmp_path):
    tick = os.sysconf("SC_CLK_TCK")
    stat = tmp_path / "stat"
    stat.write_text(
        f"cpu 9 9 9 9\ncpu0 {tick} 0 {tick} 500 70 0 0 0 0 0\ncpu3 0 {2 * tick} 0 500 0 0 0 {tick} 0 0\nintr 1\n"
    )
    assert usage(stat).busy == {0: 2.0, 3: 3.0}  # waiting for a disk is not busy; what the host takes is
    stat.write_text("cpu0 1 2\n")
    assert usage(stat) is None
    assert usage(tmp_path / "none") is None


def test_a_core_is_taken_whole_whichever_of_its_processors_work():
    before = Usage(10.0, 1.0, dict.fromkeys(range(4), 0.0))
    after = Usage(12.0, 2.0, {0: 2.0, 1: 1.0, 2: 0.0, 3: 1.0})
    assert taken_by_others(before, after, FOUR) == pytest.approx(1.5)  # of two processors, half of one is our own
    assert taken_by_others(before, after, [frozenset({0, 1}), frozenset({2, 3})]) == pytest.approx(1.0)
    assert taken_by_others(before, after, FOUR[2:3]) == 0.0


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "max 100000"}, None),
        ("0::/\n", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/a/b\n", {"a/cpu.max": "200000 100000", "a/b/cpu.max": "max 100000"}, 2.0),
        ("3:cpu:/a\n0::/\n", {"cpu/a/cpu.cfs_quota_us": "50000", "cpu/a/cpu.cfs_period_us": "100000"}, 0.5),
        ("3:cpu,cpuacct:/\n", {"cpu,cpuacct/cpu.cfs_quota_us": "-1", "cpu,cpuacct/cpu.cfs_period_us": "100000"}, None),
        ("4:memory:/a\n", {}, None),
        ("0::/\n", {"cpu.max": "nonsense"}, None),
        ("nonsense", {}, None),
    ],
)
def test_what_a_container_may_use(tmp_path, membership, files, expected):
    groups, file = tmp_path / "groups", tmp_path / "membership"
    file.write_text(membership)
    for name, text in files.items():
        (groups / name).parent.mkdir(parents=True, exist_ok=True)
        (groups / name).write_text(text)
    assert quota(groups, file) == expected


class AtOnce:
    """A timer that does not wait."""

    def __init__(self, seconds: float, function, arguments):
        self.start = lambda: function(*arguments)


@pytest.fixture
def threads(monkeypatch):
    """The number of threads that is set, and what is told, on four cores of which others take some."""

    def left(taken: float, limit: float | None = None, imported: bool = False) -> tuple[str | None, list[str]]:
        monkeypatch.delitem(sys.modules, "torch") if not imported else None
        now = time.monotonic()
        after = Usage(now, 0.0, dict.fromkeys(range(4), taken / 4))
        monkeypatch.setattr(machine, "own_cores", lambda: FOUR)
        monkeypatch.setattr(machine, "quota", lambda: limit)
        monkeypatch.setattr(machine, "usage", lambda: after)
        monkeypatch.setattr(machine, "Timer", AtOnce)
        told = []
        leave_room(Usage(now - 1.0, 0.0, dict.fromkeys(range(4), 0.0)), told.append)
        return os.environ.get(machine.THREADS), told

    monkeypatch.delenv(machine.THREADS, raising=False)
    return left


def test_a_busy_machine_is_told(threads):
    number, [told] = threads(2.2)
    assert number is None
    assert told == (
        "this machine is busy: other programs take 2.2 of 4 processors, and this takes longer (OMP_NUM_THREADS=1 "
        "leaves them more)"
    )


def test_a_machine_with_room_computes_as_torch_does_by_itself(threads):
    assert threads(0.3) == (None, [])


def test_a_container_has_its_share_alone_and_is_not_called_busy(threads):
    assert threads(0.0, limit=2.0) == ("2", [])


def test_who_sets_the_threads_is_obeyed(threads, monkeypatch):
    monkeypatch.setenv(machine.THREADS, "4")
    assert threads(2.0) == ("4", [])


def test_where_torch_has_read_the_threads_nothing_is_set(threads):
    assert threads(2.0, imported=True) == (None, [])


def test_rates_are_measured_once_and_again_where_the_file_is_not_of_this_machine(tmp_path, monkeypatch):
    measured = []

    def rates():
        measured.append(1)
        return {"float32": 2e11, "bfloat16": 1e11 * len(measured)}

    monkeypatch.setattr("adaptclip_hf.product_rates.layer_rates", rates)
    assert kept_rates(tmp_path) == kept_rates(tmp_path) == {"float32": 2e11, "bfloat16": 1e11}
    [file] = tmp_path.iterdir()
    content = json.loads(file.read_text())
    for number, changed in enumerate(
        [
            "{",
            json.dumps(content | {"machine": content["machine"] | {"processor": "another"}}),
            json.dumps(content | {"rates": {"float32": 0.0, "bfloat16": 1e11}}),
            json.dumps(content | {"rates": {"float32": 1e-300, "bfloat16": 1e300}}),
            json.dumps(content | {"rates": {}}),
        ]
    ):
        file.write_text(changed)
        assert kept_rates(tmp_path)["bfloat16"] == kept_rates(tmp_path)["bfloat16"] == 1e11 * (number + 2)
    monkeypatch.setattr("torch.get_num_threads", lambda: 64)
    assert kept_rates(tmp_path)["bfloat16"] == 7e11
    (tmp_path / "file").touch()
    assert kept_rates(tmp_path / "file")["bfloat16"] == 8e11  # where nothing can be kept, each call measures


@pytest.mark.skipif(not has_fused_products(), reason="torch has no products in bfloat16 here")
def test_the_rates_of_this_machine():
    state = torch.random.get_rng_state()
    rates = layer_rates()
    assert all(1e8 < rates[name] < 1e15 for name in ("float32", "bfloat16"))
    assert torch.equal(torch.random.get_rng_state(), state)
