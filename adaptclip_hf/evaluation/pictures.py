"""The worst misses, worst false alarms and best hits of a category as a picture."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from ..engine.heatmap import DRAWN, render_heatmap
from ..files import whole_file
from ..processing.image_loading import load_image, load_mask
from ..reporting import printable
from .protocol import EvaluatedCategory
from .showcase import Showcase, ShownImage

TILE, GAP, HEADING, CAPTION = 180, 6, 22, 16
OUTLINE = (255, 0, 255)


def draw_showcase(category: EvaluatedCategory, showcase: Showcase, setting: str, file: Path) -> bool:
    """Draws misses, false alarms and hits: the image with its mask's outline, and below it the heatmap.

    Returns `False` and writes no file if there is no image.
    """
    rows = {
        f"worst misses: anomalous images that score lowest ({setting})": showcase.misses(),
        "worst false alarms: normal images that score highest": showcase.false_alarms(),
        "best hits: anomalous images that score highest": showcase.hits(),
    }
    rows = {heading: shown for heading, shown in rows.items() if shown}
    if not rows:
        return False
    width = showcase.size * (TILE + GAP) + GAP
    height = HEADING + 2 * TILE + GAP + CAPTION
    sheet = Image.new("RGB", (width, len(rows) * height + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (heading, shown) in enumerate(rows.items()):
        top = number * height
        draw.text((GAP, top + 4), heading, "black", ImageFont.load_default(13))
        for column, each in enumerate(shown):
            left = GAP + column * (TILE + GAP)
            image, heatmap = draw_image(category, each)
            sheet.paste(image, (left, top + HEADING))
            sheet.paste(heatmap, (left, top + HEADING + TILE + GAP // 2))
            defect = category.rows[each.row]["defect"]
            caption = printable(f"{each.score:.3f}  {defect}")[:28]
            draw.text((left, top + HEADING + 2 * TILE + GAP // 2), caption, "black", ImageFont.load_default(11))
    with whole_file(file) as opened:
        sheet.save(opened, "JPEG", quality=90, comment=DRAWN)
    return True


def draw_image(category: EvaluatedCategory, shown: ShownImage) -> tuple[Image.Image, Image.Image]:
    """The image with its mask's outline, and the heatmap, both squeezed into squares as the model sees them."""
    row = category.rows[shown.row]
    image = load_image(row["image"]).resize((TILE, TILE), Image.Resampling.LANCZOS)
    anomaly_map = Image.fromarray(shown.anomaly_map).resize((TILE, TILE), Image.Resampling.BILINEAR)
    heatmap = render_heatmap(image, np.asarray(anomaly_map))
    if row["mask"] is not None:
        mask = Image.fromarray(load_mask(row["mask"])).resize((TILE, TILE), Image.Resampling.NEAREST)
        inside = np.asarray(mask) > 0
        pixels = np.array(image)
        pixels[ndimage.binary_dilation(inside) & ~inside] = OUTLINE
        image = Image.fromarray(pixels)
    return image, heatmap
