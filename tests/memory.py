"""The most memory that a process has held.

    python tests/memory.py WORDS

runs `adaptclip WORDS`, prints the bytes last and exits as it does.
"""

import re
import sys
from pathlib import Path

COMMAND = [sys.executable, __file__]


def most_memory() -> int:
    """Bytes that this process has held; getrusage counts what the one that forked it held, too."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])


if __name__ == "__main__":
    from adaptclip_hf.cli import main

    exit_status = main(sys.argv[1:])
    print(most_memory())
    sys.exit(exit_status)
