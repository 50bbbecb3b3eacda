"""What requests hold in memory: who waits, who is given up, and when it is given back."""

import asyncio

import pytest

from adaptclip_hf.serving.answers import Answer
from adaptclip_hf.serving.budget import Budget
from adaptclip_hf.serving.limits import BodyLimit, Limits, RefusedError
from adaptclip_hf.serving.memory import ImageMemory, Traffic
from adaptclip_hf.serving.stopping import Stopping


class Request:
    """Chunks that arrive one after the other; `None` waits for ever."""

    def __init__(self, *chunks: bytes | None):
        self.chunks = chunks

    async def stream(self):
        for chunk in self.chunks:
            if chunk is None:
                await asyncio.Event().wait()
            yield chunk


async def settled():
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_budget_lends_in_order_and_alone_what_is_too_large():
    async def run():
        budget, order = Budget(100), []

        async def work(name, size):
            async with budget.lend(size, ord(name)):
                order.append(name)
                await done[name].wait()

        done = {name: asyncio.Event() for name in "abcde"}
        tasks = [asyncio.create_task(work(*each)) for each in (("a", 60), ("b", 40), ("c", 500), ("d", 10), ("e", 10))]
        await settled()
        assert order == ["a", "b"] and budget.lent == 100
        done["a"].set()
        await settled()
        assert order == ["a", "b"]  # c is alone, and those behind it wait for their turn
        tasks[3].cancel()
        done["b"].set()
        await settled()
        assert order == ["a", "b", "c"]
        tasks[2].cancel()  # in the middle of its work
        await settled()
        assert order == ["a", "b", "c", "e"] and budget.lent == 10
        done["e"].set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert budget.lent == 0

    asyncio.run(run())


def test_one_that_waits_and_leaves_does_not_hold_those_behind_it():
    async def run():
        budget = Budget(100)
        async with budget.lend(90, 0):
            large, small = (asyncio.create_task(use(budget, *each)) for each in ((50, 1), (10, 2)))
            await settled()
            large.cancel()
            await asyncio.wait_for(small, 1)
        assert budget.lent == 0

    async def use(budget, size, arrival):
        async with budget.lend(size, arrival):
            pass

    asyncio.run(run())


def test_small_images_do_not_wait_for_large_ones():
    async def run():
        memory = ImageMemory(1600)
        async with memory.lend(5000, 1), asyncio.timeout(1), memory.lend(100, 2):
            pass

    asyncio.run(run())


def test_without_room_the_slowest_body_is_given_up():
    async def run():
        traffic = Traffic(100)
        slow = asyncio.create_task(take(traffic, Request(b"1" * 60, None)))
        await settled()
        assert traffic.used == 60
        assert await take(traffic, Request(b"2" * 50, b"3" * 30)) == b"2" * 50 + b"3" * 30
        assert traffic.used == 0 and not slow.done()
        slow.cancel()
        with pytest.raises(RefusedError) as refused:
            await take(traffic, Request(b"4" * 101))
        assert refused.value.status == 503 and traffic.used == 0
        with traffic.answer(100), pytest.raises(RefusedError):
            await take(traffic, Request(b"5"))
        assert await take(traffic, Request(b"6")) == b"6" and traffic.used == 0

    async def take(traffic, request):
        async with traffic.body(request) as body:
            return body

    asyncio.run(run())


def test_one_that_was_given_up_is_told():
    async def run():
        traffic, more = Traffic(100), asyncio.Event()

        class Late(Request):
            async def stream(self):
                yield b"1" * 60
                await more.wait()
                yield b"2"

        async def take(request):
            async with traffic.body(request) as body:
                return body

        slow = asyncio.create_task(take(Late()))
        await settled()
        await take(Request(b"3" * 90))
        more.set()
        with pytest.raises(RefusedError):
            await slow
        assert traffic.used == 0

    asyncio.run(run())


def test_an_answer_is_counted_until_it_is_read_and_who_does_not_read_is_cut_off(monkeypatch):
    class Connection:
        aborted = False

        def abort(self):
            self.aborted = True

    async def run(read: bool):
        traffic, connection, sent = Traffic(10**6), Connection(), []

        async def send(message):
            sent.append(message)
            assert traffic.used == 200_000
            if len(sent) > 2 and not read:
                await asyncio.Event().wait()

        await Answer(b"x" * 200_000, traffic)({"state": {"connection": connection}}, None, send)
        assert traffic.used == 0 and connection.aborted is not read
        return sent

    monkeypatch.setattr("adaptclip_hf.serving.answers.PATIENCE", 0.05)
    monkeypatch.setattr("adaptclip_hf.serving.answers.SLOWEST", 1e9)
    sent = asyncio.run(run(True))
    assert b"".join(each.get("body", b"") for each in sent) == b"x" * 200_000 and not sent[-1]["more_body"]
    asyncio.run(run(False))


@pytest.mark.parametrize("rate, status", [(100, 408), (20_000, None)])
def test_a_body_must_come_at_a_rate(rate, status, monkeypatch):
    monkeypatch.setattr("adaptclip_hf.serving.limits.PATIENCE", 0.1)
    sent, left = [], 8000

    async def app(scope, receive, send):
        while (await receive()).get("more_body"):
            pass

    async def receive():
        nonlocal left
        await asyncio.sleep(0.02)
        left -= rate // 50
        return {"type": "http.request", "body": bytes(rate // 50), "more_body": left > 0}

    async def send(message):
        sent.append(message)

    counted = []
    asyncio.run(BodyLimit(app, Limits(), counted.append)({"type": "http", "path": "/", "headers": []}, receive, send))
    assert [each["status"] for each in sent[:1]] == counted == ([status] if status else [])


def test_stopping_answers_what_is_accepted_until_the_time_is_over():
    async def run():
        stopping = Stopping(0.1)

        async def work(seconds):
            async with stopping.accepted():
                await asyncio.sleep(seconds)
                return "answered"

        quick, long = asyncio.create_task(work(0.01)), asyncio.create_task(work(60))
        others = [asyncio.create_task(work(0.03 * number)) for number in range(1, 6)]  # an answer every 0.03 s
        await settled()
        stopping.begin()
        stopping.begin()
        with pytest.raises(RefusedError, match="stopping"):
            await work(0)
        assert await quick == "answered" and await asyncio.gather(*others) == ["answered"] * 5
        with pytest.raises(RefusedError, match="turn did not come") as refused:
            await long
        assert refused.value.status == 503

    asyncio.run(run())
