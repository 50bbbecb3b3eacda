"""Where to look and by which areas to decide, as it is drawn on a photo of good parts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from PIL import Image, ImageDraw
from pydantic import Field

from ..engine import View
from ..engine.heatmap import data_url
from ..inspection.acceptance import Acceptance
from ..processing.image_loading import load_image
from ..report.assets import template
from ..validation import FileContent
from .frames import frame

MOST_SHOWN = 24  # good photos
PICTURE = {"longest_side": 620, "quality": 80}
MOST_SHAPES, MOST_POINTS = 100, 5000

Pixels = Annotated[int, Field(ge=0, le=100_000)]
Box = Annotated[list[Pixels], Field(min_length=4, max_length=4)]  # left, top, width, height
Point = Annotated[list[Pixels], Field(min_length=2, max_length=2)]


class LeftOut(FileContent):
    """A part of the photo where nothing is looked at: a box, or an outline."""

    box: Box | None = None
    outline: Annotated[list[Point], Field(min_length=3, max_length=MOST_POINTS)] | None = None

    def points(self) -> list[tuple[int, int]]:
        """The corners, all of them inside."""
        if self.box is None:
            return [(x, y) for x, y in self.outline or ()]
        left, top, width, height = self.box
        right, bottom = left + width - 1, top + height - 1
        return [(left, top), (right, top), (right, bottom), (left, bottom)]


class DrawnZone(FileContent):
    """A part of the photo with a limit of its own; its smallest area in square millimetres where a scale is given."""

    name: str
    box: Box
    min_area: float | None = None


class DrawnRegions(FileContent):
    """What was drawn on a photo, in its pixels.

    Attributes:
        size: (width, height) of the photo.
        look: the part to look at; `None` for all of it.
        hide: parts to leave out.
        zones: parts with limits of their own.
        min_area: the smallest area that counts outside the zones, in pixels, or with a scale in square millimetres.
        scale: millimetres along a pixel.
    """

    size: Point
    look: Box | None = None
    hide: Annotated[list[LeftOut], Field(max_length=MOST_SHAPES)] = []
    zones: Annotated[list[DrawnZone], Field(max_length=MOST_SHAPES)] = []
    min_area: float | None = None
    scale: float | None = None

    def view(self) -> View:
        """How photos of this size are looked at.

        Raises:
            ValueError: nothing is left to look at.
        """
        region = None if self.look is None else (self.look[0], self.look[1], self.look[2], self.look[3])
        return View(region=region, ignore=self._mask() if self.hide else None)

    def acceptance(self) -> Acceptance | None:
        """By which regions to decide; `None` where the score does.

        Raises:
            ValueError: a value that is out of range, a zone outside the photo or two of one name, an area that no
                region can have, or a scale alone.
        """
        if not self.zones and self.min_area is None:
            if self.scale is not None:
                raise ValueError("The scale says what areas mean: give a smallest area too, or draw a zone.")
            return None
        zones = [
            (zone.name, (zone.box[0], zone.box[1], zone.box[2], zone.box[3]), zone.min_area) for zone in self.zones
        ]
        made = Acceptance.of(self.min_area, self.scale, zones)
        made.require_room((self.size[1], self.size[0]), "The photo")
        return made

    def _mask(self) -> np.ndarray:
        """(H, W), true where something was left out."""
        mask = Image.new("1", (self.size[0], self.size[1]))
        draw = ImageDraw.Draw(mask)
        for each in self.hide:
            draw.polygon(each.points(), fill=1)
        return np.array(mask)


def regions_frame(files: Sequence[str], drawn: DrawnRegions | None) -> str:
    """The first photos of good parts with the tools that draw on them, as HTML; empty without one that can be read."""
    photos = []
    for file in files[:MOST_SHOWN]:
        try:
            image = load_image(file)
        except (OSError, ValueError):  # the fit names it
            continue
        about = {"name": Path(file).name, "width": image.width, "height": image.height}
        photos.append(about | {"url": data_url(image, **PICTURE)})
    if not photos:
        return ""
    if drawn is not None and drawn.size != [photos[0]["width"], photos[0]["height"]]:
        drawn = None
    content = template("regions.html", __package__).render(
        photos=photos, more=len(files[MOST_SHOWN:]), drawn=drawn and drawn.model_dump(exclude_none=True)
    )
    return frame(content, "Good photos, and where to look on them", "12rem")
