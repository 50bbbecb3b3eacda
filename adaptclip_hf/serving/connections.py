"""Connections of a service: more than it has room for, silent ones, and those that do not read their answers."""

import asyncio
import contextlib

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST = 1000
MOST_FILES = 8192  # that a process is allowed, where it may have so many
ACCEPTED = 1 / 8  # of its files at most are connections that asyncio takes at once, before it looks at any of them
OTHER_FILES = 100  # a process has open: weights, logs, libraries
HEAD_SECONDS = 10.0  # in which a request's head must come
UNREAD_SECONDS = 30.0  # in which the rest of an answer must be read


class Connection(H11Protocol):
    """A connection of uvicorn's. Where there are too many, the one that has been silent for the longest time goes.

    The application finds it as `scope["state"]["connection"]`, and is told of the end by `state["stopping"]`.
    """

    def __init__(self, config, server_state, app_state, _loop=None):
        super().__init__(config, server_state, {**app_state, "connection": self}, _loop)
        self._head_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None
        self._begun = self.loop.time()

    def connection_made(self, transport):
        super().connection_made(transport)
        self._wait_for_head()
        if len(self.connections) > most_connections():
            self._make_room()

    def data_received(self, data: bytes):
        super().data_received(data)
        self._wait_for_head()

    def on_response_complete(self):
        super().on_response_complete()
        self._wait_for_head()
        self._wait_for_reader()

    def pause_writing(self):
        super().pause_writing()
        self._wait_for_reader()

    def connection_lost(self, exc):
        cancel(self._head_timer)
        cancel(self._unread_timer)
        super().connection_lost(exc)

    def shutdown(self):
        self.app_state["stopping"].begin()
        super().shutdown()

    def abort(self):
        """Ends the connection at once; what was not read is lost."""
        if self.transport is not None:
            self.transport.abort()

    @property
    def silent(self) -> bool:
        """No request has come, or the last one is answered."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def arriving(self) -> bool:
        """A request's body has not come yet."""
        return not self.silent and self.cycle.more_body

    def _wait_for_head(self):
        if not self.silent:
            cancel(self._head_timer)
            self._head_timer = None
        elif self._head_timer is None:
            self._begun = self.loop.time()
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self.abort)

    def _wait_for_reader(self):
        cancel(self._unread_timer)
        self._unread_timer = self.loop.call_later(UNREAD_SECONDS, self._end_unread)

    def _end_unread(self):
        if self.transport.get_write_buffer_size() and (self.silent or self.flow.write_paused):
            self.abort()

    def _make_room(self):
        others = [each for each in self.connections if each is not self and not each.transport.is_closing()]
        for group in ([each for each in others if each.silent], [each for each in others if each.arriving], [self]):
            if group:
                return min(group, key=lambda each: each._begun).abort()


def cancel(timer: asyncio.TimerHandle | None):
    if timer is not None:
        timer.cancel()


def most_connections() -> int:
    """How many connections there may be: what the limit of open files leaves, at most 1,000."""
    return max(1, min(MOST, file_limit() - accepted_at_once() - OTHER_FILES))


def accepted_at_once() -> int:
    """How many connections may wait to be accepted."""
    return max(1, int(ACCEPTED * file_limit()))


def file_limit() -> int:
    """How many files this process may open; no more than a service needs."""
    try:
        import resource
    except ImportError:  # Windows
        return MOST_FILES
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_FILES if soft == resource.RLIM_INFINITY else min(soft, MOST_FILES)


def raise_file_limit():
    """Lets this process open as many files as a service needs, where that is allowed."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY and soft < MOST_FILES:
            allowed = MOST_FILES if hard == resource.RLIM_INFINITY else min(MOST_FILES, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
