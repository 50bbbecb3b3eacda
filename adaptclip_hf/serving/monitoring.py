"""The metrics of a service, for Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
BATCHES = (1, 2, 4, 8, 16, 32, 64)


class Monitor:
    """The metrics of one service.

    Args:
        waiting: returns how many images wait for the model.
    """

    def __init__(self, waiting: Callable[[], int]):
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.images = self._of(Counter, "images", "images that were scored", ["product", "label"])
        self.refused = self._of(Counter, "refused_requests", "requests that were refused or failed", ["status"])
        self.seconds = self._of(Histogram, "request_seconds", "of requests whose image was scored", buckets=SECONDS)
        self.batches = self._of(Histogram, "batch_size", "images that were scored together", buckets=BATCHES)
        self._of(Gauge, "waiting_images", "images that wait for the model").set_function(waiting)

    def count_refused(self, status: int):
        """Counts a request that was not answered as it asked."""
        self.refused.labels(str(status)).inc()

    def _of(self, kind, name: str, about: str, labels=(), **options):
        return kind(f"adaptclip_{name}", about, labels, registry=self.registry, **options)
