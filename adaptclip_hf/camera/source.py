"""Where pictures come from: a USB camera, an RTSP stream or a video file."""

import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from ..reporting import Report, print_nothing, printable

PASSWORD = "ADAPTCLIP_CAMERA_PASSWORD"
TO_OPEN, TO_READ = 10.0, 5.0  # seconds, after which a stream that says nothing is taken for broken
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds before a stream is tried again
EXPECTED = "a number or /dev/video0 for a USB camera, rtsp://user@host/path, or a video file"
# what the library may open by itself: streams no files, files (some of which name others) no addresses
STREAM_OPTIONS = {"rtsp_transport": "tcp", "protocol_whitelist": "rtsp,rtsps,tcp,tls,udp,rtp,srtp,crypto"}
FILE_OPTIONS = {"protocol_whitelist": "file"}

Picture = tuple[Any, float]  # av.VideoFrame, and when it was shown, in seconds from some beginning


class Source:
    """A camera, a stream or a video file.

    Args:
        text: a number or a device (`/dev/video0`), `rtsp://user:password@host/path` or `rtsps://`, or a file. The
            password may be in the environment instead ([`PASSWORD`]).

    Attributes:
        is_live: it has no end, and shows what is now.
        shown: how it is named in messages, without the password.

    Raises:
        ValueError: it is none of these, or PyAV is not installed.
    """

    def __init__(self, text: str):
        try:
            import av
        except ImportError as error:
            raise ValueError(f"`adaptclip capture` needs `pip install 'adaptclip-hf[video]'` ({error}).") from error
        self._library = av
        av.logging.set_level(None)  # what FFmpeg prints names passwords
        self.is_live, self.shown, self._format = is_live(text), printable(text), None
        if "://" in text:
            self._address, self._options = self._stream(text), STREAM_OPTIONS
        elif self.is_live:
            self._address, self._options = f"/dev/video{text}" if text.isdecimal() else text, {}
            self.shown, self._format = printable(self._address), "v4l2"
        else:
            self._address, self._options = str(Path(text).absolute()), FILE_OPTIONS  # so that no name is a protocol

    def _stream(self, text: str) -> str:
        """The address of a stream, with the password."""
        try:
            parts = urlsplit(text)
            name, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise ValueError(f"An address of a camera cannot be read ({error}): expected {EXPECTED}.") from error
        if parts.scheme not in ("rtsp", "rtsps") or not name:
            raise ValueError(f"{printable(parts.scheme)}:// is no address of a camera: expected {EXPECTED}.")
        host = (f"[{name}]" if ":" in name else name) + ("" if port is None else f":{port}")
        password = os.environ.get(PASSWORD) or unquote(parts.password or "")
        self.shown = printable(urlunsplit((parts.scheme, host, parts.path, "", "")))
        user = parts.username or ""  # as it is written, with its escapes
        before = f"{user}:{quote(password, safe='')}@" if user and password else f"{user}@" if user else ""
        return urlunsplit((parts.scheme, before + host, parts.path, parts.query, ""))

    def pictures(self) -> Iterator[Picture]:
        """The pictures until the end, or until it breaks off. Those that arrived damaged are left out.

        Raises:
            OSError: it cannot be opened, or it breaks off; names it.
            ValueError: it shows no pictures.
        """
        error_of_library = self._library.FFmpegError
        try:
            opened = self._library.open(
                self._address, format=self._format, options=self._options, timeout=(TO_OPEN, TO_READ)
            )
        except (error_of_library, OSError, ValueError) as error:
            raise OSError(f"{self.shown} cannot be opened: {reason_of(error)}") from error
        with opened:
            if not opened.streams.video:
                raise ValueError(f"{self.shown} shows no pictures.")
            rate = float(opened.streams.video[0].average_rate or 25)
            try:
                for number, frame in enumerate(opened.decode(video=0)):
                    if not frame.is_corrupt:
                        yield frame, time.monotonic() if self.is_live else self._time(frame, number / rate)
            except error_of_library as error:
                raise OSError(f"{self.shown} breaks off: {reason_of(error)}") from error

    @staticmethod
    def _time(frame, otherwise: float) -> float:
        return otherwise if frame.time is None else float(frame.time)


def is_live(text: str) -> bool:
    """Whether a source is a camera or a stream, and no file."""
    return text.isdecimal() or "://" in text or re.match(r"/dev/", text) is not None


def reason_of(error: Exception) -> str:
    """Why, without the address that the library adds, which may hold a password."""
    return printable(str(getattr(error, "strerror", None) or type(error).__name__))


def lasting_pictures(
    source: Source, report: Report = print_nothing, rest: Callable[[float], None] = time.sleep
) -> Iterator[Picture]:
    """The pictures of a source; one that is live is opened again for ever when it breaks off.

    Args:
        report: called with a line when it is away, and when it is back.
        rest: waits for some seconds.

    Raises:
        OSError: a file breaks off, or the first picture does not come.
        ValueError: it shows no pictures.
    """
    came, away, pause = False, False, FIRST_PAUSE
    while True:
        reason = f"{source.shown} has ended"
        try:
            for picture in source.pictures():
                if away:
                    report(f"{source.shown} is back")
                came, away, pause = True, False, FIRST_PAUSE
                yield picture
        except (OSError, ValueError) as error:
            if not (came and source.is_live):
                raise
            reason = str(error)
        if not came:
            raise OSError(f"{source.shown} ended before the first picture.")
        if not source.is_live:
            return
        if not away:
            report(f"{reason}; it is tried again")
        away = True
        rest(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
