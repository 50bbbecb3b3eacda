"""Requests that wait for the model, scored together."""

import math
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty, PriorityQueue
from threading import Lock, Thread

import torch

from ..engine import AnomalyScorer, DetectionResult
from ..engine.images import LoadedImage
from ..engine.reference import PreparedReference

LAST = math.inf  # comes after all that waits


@dataclass(frozen=True)
class Waiting:
    """An image that waits for its result."""

    image: LoadedImage
    reference: PreparedReference
    result: Future[DetectionResult] = field(default_factory=Future)


class Batches:
    """Threads that score waiting images of all products in batches; the next batch gathers while one is scored.

    Who came first is scored first, whatever its product. No image waits for a batch to fill: a single image is scored
    by itself with all of torch's threads. When several workers are busy, they share these threads.

    Args:
        workers: threads, which share the model.
        batch_size: at most this many images are scored together, or tiles of them where they are cut: an image of more
            tiles is scored alone, so that no other waits for all of them.
        observe: called with the number of images of each batch.
    """

    def __init__(self, detector: AnomalyScorer, workers: int, batch_size: int, observe: Callable[[int], None]):
        self._detector, self._batch_size, self._observe = detector, batch_size, observe
        self._queue: PriorityQueue[tuple[float, Waiting | None]] = PriorityQueue()  # by arrival
        self._torch_threads, self._busy, self._counting = torch.get_num_threads(), 0, Lock()
        self._threads = [Thread(target=self._work, name=f"batches-{number}") for number in range(workers)]
        for thread in self._threads:
            thread.start()

    def __len__(self) -> int:
        """How many images wait, about."""
        return self._queue.qsize()

    def submit(self, image: LoadedImage, reference: PreparedReference, arrival: int) -> Future[DetectionResult]:
        """Queues an image; the future raises what scoring it raises.

        Args:
            arrival: the number of its request, by when it came; each has another one.
        """
        waiting = Waiting(image, reference)
        self._queue.put((arrival, waiting))
        return waiting.result

    def close(self):
        """Scores the waiting images whose results are still wanted, and ends the threads."""
        for _ in self._threads:
            self._queue.put((LAST, None))
        for thread in self._threads:
            thread.join()

    def _work(self):
        while (first := self._queue.get()[1]) is not None:
            batch = self._gathered(first)
            self._observe(len(batch))
            with self._counting:
                self._busy += 1
                sharing = min(len(self._threads), self._busy + len(self))
            torch.set_num_threads(max(1, self._torch_threads // sharing))  # of this thread
            self._score(batch)
            del first, batch  # large images are not kept until the next one comes
            with self._counting:
                self._busy -= 1

    def _gathered(self, first: Waiting) -> list[Waiting]:
        """An image and those next to it that fit into its batch."""
        batch, room = [first], self._batch_size - len(first.image.tiles)
        while room > 0:
            try:
                number, following = self._queue.get_nowait()
            except Empty:
                break
            if following is None or len(following.image.tiles) > room:
                self._queue.put((number, following))  # begins the next batch
                break
            batch.append(following)
            room -= len(following.image.tiles)
        return batch

    def _score(self, batch: list[Waiting]):
        batch = [each for each in batch if each.result.running() or each.result.set_running_or_notify_cancel()]
        try:
            results = list(self._detector.score_images([(each.image, each.reference) for each in batch]))
        except Exception as error:
            if len(batch) == 1:
                batch[0].result.set_exception(error)
            else:
                for each in batch:  # only the one that cannot be scored fails
                    self._score([each])
            return
        for each, result in zip(batch, results, strict=True):
            assert isinstance(result, DetectionResult)  # without `on_error` what cannot be scored is raised
            each.result.set_result(result)


def default_workers(detector: AnomalyScorer) -> int:
    """A thread a core where torch computes on a CPU, one where something else does."""
    return torch.get_num_threads() if computes_on_cpu(detector) else 1


def default_batch_size(detector: AnomalyScorer) -> int:
    """One where torch computes on a CPU: several together take longer there than one by one."""
    return 1 if computes_on_cpu(detector) else 8


def computes_on_cpu(detector: AnomalyScorer) -> bool:
    return detector.backend == "torch" and detector.device.type == "cpu"
