"""The gallery of inspected photos on the page: what it shows of a session, and what comes back from it."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import Field

from ..engine import DetectionResult, Result
from ..engine.heatmap import data_url
from ..inspection.decisions_file import DecisionContent
from ..report.gallery import gallery_page
from ..report.page import SettingsContent, cards_of, gallery_of
from ..report.pictures import LONGEST_SIDE, NEAREST_SIDE, QUALITY, small_copy
from ..runs.rows import row_of
from ..runs.stamps import UNKNOWN
from ..validation import FileContent
from .frames import frame
from .session import Session, without_folder

MOST_SHOWN, MOST_DRAWN = 200, 60  # photos with the highest scores; normal ones drawn at random
HEIGHT = "90vh"


class Decisions(FileContent):
    """All that an inspector has said."""

    decisions: list[DecisionContent]


class Threshold(FileContent):
    """The threshold that is tried, or `None` for the profile's own."""

    threshold: Annotated[float, Field(ge=0, le=1, strict=False)] | None


def desk_frame(session: Session, decisions: list[DecisionContent]) -> str:
    """The gallery as HTML; empty before photos are inspected.

    Args:
        decisions: that were made before.
    """
    if not session.results:
        return ""
    rows = [shown_row(name, result) for name, result in session.by_name.items()]
    settings = SettingsContent(profile=None)
    if session.profile is not None:
        settings = SettingsContent.of({"profile": session.profile.summary()})
    pictures = SessionPictures(session)
    cards = cards_of(rows, settings, pictures, MOST_SHOWN, MOST_DRAWN)
    gallery = gallery_of(rows, settings, "Inspected photos")
    shown = sum(card.listed for card in cards)
    said = [decision.model_dump() for decision in decisions]
    gallery = replace(gallery, framed=True, key="", decisions=said, hidden=gallery.total - gallery.failed - shown)
    return frame(gallery_page(cards, gallery), "Inspected photos, the highest scores first", HEIGHT)


def shown_row(name: str, result: Result) -> dict:
    """The row of a result, without the folders that the page keeps photos in."""
    row = row_of(name, UNKNOWN, result)
    row["error"] = row["error"] and without_folder(result.name, row["error"])
    row["nearest"] = row["nearest"] and Path(row["nearest"]).name
    return row


class SessionPictures:
    """Pictures of a session's results, by the names that they are shown by."""

    def __init__(self, session: Session):
        self._results, self._good = session.by_name, session.good
        self._small: dict[str, str | None] = {}

    def photo(self, row: dict) -> str:
        result = self._results[row["path"]]
        assert result.image is not None  # of a stream
        return data_url(result.image, LONGEST_SIDE, QUALITY)

    def heatmap(self, row: dict) -> str:
        result = self._results[row["path"]]
        assert isinstance(result, DetectionResult)
        return data_url(result.heatmap(), LONGEST_SIDE, QUALITY)

    def nearest(self, row: dict) -> str | None:
        """The good photo that is most like a row's; `None` for one that was not given to this page."""
        file = self._results[row["path"]].nearest
        if file is None or file not in self._good:
            return None
        if file not in self._small:
            self._small[file] = small_copy(Path(file), NEAREST_SIDE)
        return self._small[file]
