"""A sheet of small pictures of normal images, for the card of their prompt bank."""

import math

from PIL import Image, ImageOps

from ..processing.image_loading import load_image

SHEET_FILE = "normal_images.jpg"
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
