"""Which lines of a verdict are shown first; imports nothing heavy."""

WARNING = "WARNING"


def first_and_other_lines(text: str | None) -> tuple[list[str], list[str]]:
    """The verdict itself with its warning, and the lines for who wants to know more."""
    lines = (text or "").splitlines()
    first = [line for number, line in enumerate(lines) if number == 0 or line.startswith(WARNING)]
    return first, [line for line in lines if line not in first]
