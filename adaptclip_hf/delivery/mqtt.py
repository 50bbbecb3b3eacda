"""A topic of an MQTT broker that gets each decision."""

import os
import ssl
import threading
import time
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from ..reporting import printable
from ..runs.outbox import Message
from .target import Target

PASSWORD = "ADAPTCLIP_MQTT_PASSWORD"
TIMEOUT = 10.0  # seconds, for the broker's answer
LOOK_AGAIN = 0.1  # seconds, whether there is still a connection
PORTS = {"mqtt": 1883, "mqtts": 8883}
EXAMPLE = "mqtt://broker.local/line/1/decisions"


class MQTTTopic(Target):
    """Publishes each decision as JSON, one at a time. The broker has it when it acknowledges it.

    Args:
        url: `mqtt://user:password@host:1883/topic?qos=1`, or `mqtts://` over TLS, with the certificates that this
            machine trusts. The quality of service is 1 (the default) or 2. The password may be in the environment
            instead ([`PASSWORD`]).

    Raises:
        ValueError: it is no such address, or paho-mqtt is not installed.
    """

    name = "mqtt"

    def __init__(self, url: str):
        try:
            from paho.mqtt import client
        except ImportError as error:
            raise ValueError(f"--mqtt needs `pip install 'adaptclip-hf[mqtt]'` ({error}).") from error
        self._library = client
        self._client: Any = None  # while there is a connection
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ValueError(f"--mqtt: {error}; expected an address such as {EXAMPLE}") from error
        if parts.scheme not in PORTS or not parts.hostname:
            raise ValueError(f"--mqtt: expected an address such as {EXAMPLE}")
        self.host, self.port, self.is_safe = parts.hostname, port or PORTS[parts.scheme], parts.scheme == "mqtts"
        self.topic = unquote(parts.path.removeprefix("/"))
        self.shown = printable(f"{parts.scheme}://{self.host}:{self.port}/{self.topic}")
        if not self.topic or not set("+#\0").isdisjoint(self.topic):
            raise ValueError(
                f"--mqtt {self.shown}: expected a topic after the host, without + and #, such as {EXAMPLE}"
            )
        asked = parse_qs(parts.query, keep_blank_values=True)
        quality = asked.pop("qos", ["1"])[-1]
        if asked or quality not in ("1", "2"):
            raise ValueError(f"--mqtt {self.shown}: after ? expected qos=1 or qos=2; without an answer nothing is sure")
        self.quality = int(quality)
        self.user = unquote(parts.username) if parts.username else None
        self.password = os.environ.get(PASSWORD) or (unquote(parts.password) if parts.password else None)

    def deliver(self, message: Message):
        try:
            if self._client is None or not self._client.is_connected():
                self.close()
                self._client = self._connected()
            published = self._client.publish(self.topic, message.text, self.quality)
            end = time.monotonic() + TIMEOUT
            while not published.is_published():
                if not self._client.is_connected():
                    raise ConnectionError("it closed the connection")
                if time.monotonic() > end:
                    raise TimeoutError(f"it does not acknowledge within {TIMEOUT:.0f} s")
                published.wait_for_publish(LOOK_AGAIN)
        except (OSError, RuntimeError, ValueError) as error:  # the last two are paho's: no connection, a full queue
            self.close()  # with all that paho would send again by itself
            raise OSError(str(getattr(error, "strerror", None) or error)) from error

    def _connected(self):
        """
        Raises:
            OSError: there is no broker, or it refuses.
        """
        answered, answer = threading.Event(), []

        def on_connect(_, __, ___, reason, ____):
            answer.append(reason)
            answered.set()

        client = self._library.Client(self._library.CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
        client.on_connect = on_connect
        client.connect_timeout = TIMEOUT
        if self.user is not None:
            client.username_pw_set(self.user, self.password)
        if self.is_safe:
            client.tls_set_context(ssl.create_default_context())
        client.connect(self.host, self.port)
        client.loop_start()
        if not answered.wait(TIMEOUT) or answer[0].is_failure:
            client.disconnect()
            client.loop_stop()
            raise ConnectionError(f"it refuses: {answer[0]}" if answer else "it does not answer")
        return client

    def close(self):
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()
            self._client = None
