"""Who may ask what: the middleware that looks at tokens before anything else of a request is read."""

import hmac
from collections.abc import Callable

from .limits import RefusedError, answer

OPEN = "/health"
READING = ("GET", "HEAD", "OPTIONS")
ASKING = "/detect"
CHALLENGE = (b"www-authenticate", b"Bearer")


class Tokens:
    """ASGI middleware: refuses requests without the token (`Authorization: Bearer ...`), whatever their address.

    Args:
        token: needed for all but `/health`, the documentation included; `None` lets everyone in.
        admin_token: needed for what changes something; `None` forbids that.
        refused: called with the status of what is refused.
    """

    def __init__(self, app, token: str | None, admin_token: str | None, refused: Callable[[int], None]):
        self.app, self.token, self.admin_token, self.refused = app, token, admin_token, refused

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http" or scope["path"] == OPEN:
            return await self.app(scope, receive, send)
        changing = scope["method"] not in READING and scope["path"] != ASKING
        needed = self.admin_token if changing else self.token
        if changing and needed is None:
            reason = "Products cannot be changed here: the service was started without an admin token."
            await self._refuse(send, RefusedError(403, reason))
        elif not self._allowed(scope, needed):
            await self._refuse(send, RefusedError(401, "A valid token is needed."), CHALLENGE)
        else:
            await self.app(scope, receive, send)

    def _allowed(self, scope, needed: str | None) -> bool:
        kind, _, given = dict(scope["headers"]).get(b"authorization", b"").partition(b" ")
        return needed is None or (kind.lower() == b"bearer" and hmac.compare_digest(given.strip(), needed.encode()))

    async def _refuse(self, send, error: RefusedError, *headers: tuple[bytes, bytes]):
        self.refused(error.status)
        await answer(send, error, *headers)
