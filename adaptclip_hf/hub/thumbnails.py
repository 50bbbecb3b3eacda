"""A sheet of thumbnails, by which a prompt bank's card shows its images."""

import math

from PIL import Image, ImageOps

from ..processing.image_loading import load_image

SIDE, GAP, COLUMNS = 160, 8, 6


def thumbnail_sheet(images: list) -> Image.Image:
    """Thumbnails of images (anything that `load_image` reads) on white, six a row."""
    columns = min(COLUMNS, len(images))
    rows = math.ceil(len(images) / columns)
    sheet = Image.new("RGB", (columns * (SIDE + GAP) + GAP, rows * (SIDE + GAP) + GAP), "white")
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        small = ImageOps.pad(load_image(image), (SIDE, SIDE), color="white")
        sheet.paste(small, (GAP + column * (SIDE + GAP), GAP + row * (SIDE + GAP)))
    return sheet
