"""A small HTTP server beside a command, for this machine unless another address is named."""

import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@contextmanager
def served(host: str, port: int, handler: type[BaseHTTPRequestHandler], option: str) -> Iterator[str]:
    """Serves meanwhile; yields the address.

    Args:
        option: the one that asked for it, which an error names.

    Raises:
        OSError: nothing can be served there; names the address.
    """

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        def handle_error(self, *_):
            """A reader that leaves is no error."""

    try:
        server = Server((host, port), handler)
    except OSError as error:
        raise OSError(f"{option} {host}:{port} cannot be served ({error.strerror}): name another port.") from error
    Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
    try:
        shown = f"[{host}]" if ":" in host else host
        yield f"http://{shown}:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()


def is_of_this_machine(host: str) -> bool:
    """Whether a request names this machine by an address or its own name.

    A page of somebody else's, whose name is made to lead here, names another one.
    """
    name = host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host
    name = name.strip("[]").lower()
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name in ("localhost", socket.gethostname().lower())
    return True
