"""Carries decisions from the outbox to their targets, beside the scoring."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread

from ..reporting import Report, first_line
from ..runs.outbox import OUTBOX_FILE, Message, Outbox
from ..runs.store_lines import LineStore
from .target import Target, UndeliverableError

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds between tries; each pause is twice the one before
AT_END = 10.0  # seconds without a delivery, after which a run that is done ends; for one that is stopped, in all
CLEAN_EVERY = 1000  # deliveries
LOOK_AGAIN = 5.0  # seconds


class Courier(Thread):
    """Delivers to one target, in order, each decision until the target has it."""

    def __init__(self, target: Target, outbox: Outbox, report: Report):
        super().__init__(daemon=True, name=f"courier to {target.name}")
        self.target, self.outbox, self.report = target, outbox, report
        self.ends, self.hurries = Event(), Event()
        self.delivered, self.refused, self.failure = 0, 0, ""

    def run(self):
        pause = FIRST_PAUSE
        try:
            while not self.ends.is_set():
                message = self.outbox.wait_for(self.target.name, LOOK_AGAIN)
                if message is None:
                    continue
                if self._deliver(message):
                    pause = FIRST_PAUSE
                    continue
                self.hurries.wait(pause)  # at the end of the run the next try comes at once
                if self.hurries.is_set():
                    self.ends.wait(FIRST_PAUSE)
                pause = min(2 * pause, LONGEST_PAUSE)
            self.target.close()
        except OSError as error:  # of the outbox
            if not self.ends.is_set():
                self.failure = first_line(error)
                self.report(f"{self.name} ends: {self.failure}")

    def _deliver(self, message: Message) -> bool:
        """Whether it is done with."""
        try:
            self.target.deliver(message)
        except UndeliverableError as error:
            self.refused += 1
            self.report(f"not delivered to {self.target.shown}: {first_line(error)}")
            self.outbox.note_delivered(self.target.name, message, refused=True)
            return True
        except Exception as error:  # also what a target's library raises: it is tried again
            if not self.failure:
                self.report(f"{self.target.shown} does not take decisions ({first_line(error)}): they wait for it")
            self.failure = first_line(error)
            return False
        self.outbox.note_delivered(self.target.name, message)
        self.delivered += 1
        if self.delivered % CLEAN_EVERY == 0:
            self.outbox.forget_delivered()
        if self.failure:
            self.failure = ""
            self.report(f"{self.target.shown} takes decisions again; {self.waiting()} wait")
        return True

    def waiting(self) -> int:
        return self.outbox.waiting(self.target.name)

    def describe(self, waiting: int) -> str:
        why = f" ({self.failure})" if self.failure else ""
        return f"{waiting} decisions wait for {self.target.shown}{why}"


class Delivery:
    """What becomes of the decisions of a run.

    Attributes:
        couriers: one a target, while the run goes on.
        undelivered: how many decisions still wait when it has ended, or cannot be delivered.
    """

    def __init__(self, targets: Sequence[Target], report: Report):
        self.targets, self.report = targets, report
        self.couriers: list[Courier] = []
        self.undelivered = 0

    @contextmanager
    def of(self, store: LineStore) -> Iterator[None]:
        """The decisions that the store takes meanwhile are delivered, and what waits from before.

        At the end what waits has some seconds more. What waits then is told; the next call delivers it.

        Raises:
            OSError: the outbox cannot be read or written.
        """
        file = store.output / OUTBOX_FILE
        if not self.targets and not file.is_file():
            yield
            return
        outbox = Outbox(file)
        for target in self.targets:
            outbox.enrol(target.name, target.label)
        outbox.forget_delivered()
        store.outbox = outbox
        self.couriers = [Courier(target, outbox, self.report) for target in self.targets]
        for courier in self.couriers:
            courier.start()
        stopped = False
        try:
            yield
        except KeyboardInterrupt:
            stopped = True
            raise
        finally:
            try:
                self._wait(stopped)
            finally:
                self._end(outbox)

    def waiting(self) -> list[str]:
        """A line for each target that does not have every decision."""
        lines = []
        for courier in self.couriers:
            if waiting := courier.waiting():
                lines.append(courier.describe(waiting))
            if courier.refused:
                lines.append(f"{courier.refused} decisions could never be delivered to {courier.target.shown}")
        return lines

    def _wait(self, stopped: bool):
        """Waits for what is on its way: as long as there is progress, or [`AT_END`] in all if the run was stopped."""
        for courier in self.couriers:
            courier.hurries.set()
        last, end = -1, time.monotonic() + AT_END
        while time.monotonic() < end and any(courier.is_alive() and courier.waiting() for courier in self.couriers):
            done = sum(courier.delivered + courier.refused for courier in self.couriers)
            if done != last and not stopped:
                last, end = done, time.monotonic() + AT_END
            time.sleep(0.02)

    def _end(self, outbox: Outbox):
        for courier in self.couriers:
            courier.ends.set()
        outbox.wake()
        for courier in self.couriers:
            courier.join(1.0)
            waiting = courier.waiting()
            self.undelivered += waiting + courier.refused
            if waiting:
                self.report(f"{courier.describe(waiting)}: the same command delivers them")
        for name in outbox.targets():
            if name not in {target.name for target in self.targets} and (waiting := outbox.waiting(name)):
                self.report(f"{waiting} decisions wait for the {name} that an earlier call named: name it again")
        couriers, self.couriers = self.couriers, []
        if not any(courier.is_alive() for courier in couriers):  # one may hang in a delivery
            outbox.close()
