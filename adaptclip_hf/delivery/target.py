"""What gets decisions."""

from abc import ABC, abstractmethod
from typing import ClassVar

from ..runs.outbox import Message


class UndeliverableError(Exception):
    """A target can never have this decision, however often it is tried: it is told and passed over."""


class Target(ABC):
    """Gets decisions one after the other, in their order, from one thread.

    Attributes:
        name: of its kind, by which the outbox knows it.
        label: the only one that it takes; `None` for all decisions.
        shown: what it is, for people; without passwords.
    """

    name: ClassVar[str]
    label: ClassVar[str | None] = None
    shown: str

    @abstractmethod
    def deliver(self, message: Message):
        """Returns when the target has the decision. The same one may come again.

        Raises:
            OSError: the target does not have it: it is to be tried again.
            UndeliverableError: it can never have it.
        """

    def close(self):  # noqa: B027 (most hold nothing)
        """Lets go of what is held between two decisions."""
