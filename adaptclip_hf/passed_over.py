"""What a call passes over: counted, and named by reason."""

import sys
from collections import Counter
from collections.abc import Callable

from .reporting import printable

SHOWN = 5  # names of a reason
LONGEST = 200  # characters of a name

OnPassedOver = Callable[[str, str], None]  # called with a path or name, and the reason


def print_error(line: str):
    """Prints a line on standard error."""
    print(printable(line), file=sys.stderr)


class PassedOver:
    """Counts what is passed over, and names the first of each reason.

    Args:
        report: called with the lines of [`~PassedOver.tell`].
    """

    def __init__(self, report: Callable[[str], None] = print_error):
        self.report, self.counts = report, Counter[str]()
        self._names: dict[str, list[str]] = {}
        self._told = Counter[str]()

    def __call__(self, name: str, reason: str):
        self.counts[reason] += 1
        names = self._names.setdefault(reason, [])
        if self.counts[reason] - self._told[reason] <= SHOWN:
            names.append(name if len(name) <= LONGEST else f"{name[:60]}...{name[-100:]}")

    def tell(self):
        """Reports a line for each reason, of what was not told yet."""
        for reason, count in self.counts.items():
            if new := count - self._told[reason]:
                names = self._names.pop(reason)
                more = f" and {new - len(names)} more" if new > len(names) else ""
                self.report(f"passed over, {reason}: {', '.join(names)}{more}")
        self._told = self.counts.copy()

    def describe(self) -> str:
        """One line for a summary; empty where nothing was passed over."""
        if not self.counts:
            return ""
        reasons = "; ".join(f"{reason}: {count}" for reason, count in self.counts.most_common())
        return f"{self.counts.total()} files and folders passed over ({reasons})"


def pass_silently(name: str, reason: str):
    """For callers that look at the same folder again."""
