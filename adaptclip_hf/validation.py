"""Checks what a JSON file holds before anything is done with it: types, ranges, finite numbers, no unknown field."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from .files import parse_json

MOST_NAMED = 3  # faults of one file
DAY = timedelta(days=1)


def moment(text: str) -> str:
    """A time as ISO 8601 with its zone, which every zone can show."""
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("a time without its zone, such as Z")
    try:
        [time.astimezone(UTC) + each for each in (-DAY, DAY)]
    except OverflowError as error:
        raise ValueError("expected a time between the years 1 and 9999") from error
    return text


Moment = Annotated[str, AfterValidator(moment)]


class FileContent(BaseModel):
    """The content of a JSON file. A file kind is a subclass whose fields have its types.

    Values are taken as they are: no text becomes a number, no number a boolean, and NaN and infinity are refused.
    """

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True, protected_namespaces=())

    @classmethod
    def read(cls, file: Path, remedy: str) -> Self:
        """The content of a file.

        Args:
            remedy: what to do about a file that is damaged, for the message: a sentence.

        Raises:
            OSError: it cannot be read.
            ValueError: names the file, the fields that are wrong, what was expected, and the remedy.
        """
        try:
            return cls.checked(parse_json(file.read_bytes()))
        except ValueError as error:
            raise ValueError(f"{file}: {str(error).rstrip('.')}. {remedy}") from error

    @classmethod
    def checked(cls, content) -> Self:
        """The content that a JSON value is.

        Raises:
            ValueError: names the fields that are wrong and what was expected.
        """
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise ValueError(faults(error)) from error

    @classmethod
    def of(cls, value) -> Self:
        """The content of a JSON value.

        Raises:
            ValueError: names the fields that are wrong, and what was expected.
        """
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise ValueError(faults(error)) from error


def faults(error: ValidationError) -> str:
    """What is wrong with some values, in one line: `photos.3.score: Input should be a finite number, got nan`."""
    phrases = []
    for each in error.errors(include_url=False, include_context=False)[:MOST_NAMED]:
        where = ".".join(map(str, each["loc"]))
        told = each["type"] in ("missing", "value_error")  # what our own checks raise says it all
        phrase = each["msg"].removeprefix("Value error, ") + ("" if told else f", got {str(each['input'])[:40]!r}")
        phrases.append(f"{where}: {phrase}" if where else phrase)
    more = error.error_count() - len(phrases)
    return "; ".join(phrases) + (f"; and {more} more" if more > 0 else "")
