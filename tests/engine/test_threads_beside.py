"""What is left to do of an item is done while the next one comes: in order, and nothing of it after an error."""

import threading

import pytest

from adaptclip_hf.engine.prefetch import one_behind


def test_the_next_item_comes_meanwhile_and_the_order_stays():
    next_came = threading.Event()

    def items():
        yield 1
        next_came.set()
        yield 2
        yield 3

    def do(item: int) -> int:
        assert item > 1 or next_came.wait(30)
        return 10 * item

    assert list(one_behind(do, items())) == [10, 20, 30]


def test_where_it_must_be_done_at_once_the_next_item_waits():
    told: list[str] = []

    def items():
        for number in range(3):
            told.append(f"came {number}")
            yield number

    assert list(one_behind(lambda number: told.append(f"did {number}"), items(), lambda number: True)) == [None] * 3
    assert told == ["came 0", "did 0", "came 1", "did 1", "came 2", "did 2"]


def test_nothing_is_done_after_an_error():
    did = []

    def do(number: int) -> int:
        if number == 1:
            raise OSError("the disk is full")
        did.append(number)
        return number

    some = one_behind(do, iter(range(4)))
    assert next(some) == 0
    with pytest.raises(OSError, match="the disk is full"):
        list(some)
    assert did == [0]


@pytest.mark.parametrize("ending", ["error", "close"])
def test_what_has_begun_is_done_when_it_ends(ending):
    did, ended = [], threading.Event()

    def items():
        yield from (0, 1)
        if ending == "error":
            ended.set()
            raise KeyboardInterrupt
        yield 2

    def do(number: int):
        assert number == 0 or ended.wait(30)
        did.append(number)

    some = one_behind(do, items())
    next(some)
    if ending == "error":
        with pytest.raises(KeyboardInterrupt):
            list(some)
    else:
        ended.set()
        some.close()
    assert did == ([0] if ending == "close" else [0, 1])
