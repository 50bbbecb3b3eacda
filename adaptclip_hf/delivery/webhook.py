"""An address that gets each decision by HTTP."""

import os
import urllib.error
import urllib.request
from http.client import HTTPException
from urllib.parse import urlsplit

from ..reporting import printable
from ..runs.outbox import Message
from .target import Target

TOKEN = "ADAPTCLIP_WEBHOOK_TOKEN"
TIMEOUT = 10.0  # seconds without a sign of the receiver
EXAMPLE = "http://line.local:8080/decisions"


class Webhook(Target):
    """POSTs each decision as JSON. The receiver has it when it answers with a status of 2xx.

    The header `Idempotency-Key` is the decision's id. With a token in the environment ([`TOKEN`]) there is
    `Authorization: Bearer TOKEN`. Redirections are not followed.

    Raises:
        ValueError: it is no address of HTTP, or holds a password; or the token is none.
    """

    name = "webhook"

    def __init__(self, url: str):
        try:
            parts = urlsplit(url)
            known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError as error:
            raise ValueError(f"--webhook: {error}; expected an address such as {EXAMPLE}") from error
        if not known or not url.isascii() or not url.isprintable() or " " in url:
            raise ValueError(f"--webhook {printable(url)}: expected an address such as {EXAMPLE}, in ASCII")
        self.shown = printable(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")
        if parts.username is not None:
            raise ValueError(f"--webhook {self.shown}: leave user and password out, and set {TOKEN} to a token")
        self.url, self.token = url, os.environ.get(TOKEN, "").strip()
        if not self.token.isascii() or not self.token.isprintable():  # a refused header would be shown, each time
            raise ValueError(f"{TOKEN}: expected a token in printable ASCII, on one line")
        self._open = urllib.request.build_opener(NoRedirect).open

    def deliver(self, message: Message):
        headers = {"Content-Type": "application/json", "Idempotency-Key": message.id}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        request = urllib.request.Request(self.url, message.text.encode(), headers, method="POST")
        try:
            with self._open(request, timeout=TIMEOUT):
                return
        except urllib.error.HTTPError as error:
            error.close()
            raise OSError(f"it answers {error.code} {error.reason}") from error
        except urllib.error.URLError as error:
            raise OSError(str(getattr(error.reason, "strerror", None) or error.reason)) from error
        except HTTPException as error:
            raise OSError(f"it does not answer by HTTP ({error!r})") from error


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """A POST that is redirected would arrive as a GET, without the decision."""

    def redirect_request(self, *args, **kwargs) -> None:
        return None
