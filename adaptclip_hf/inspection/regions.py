"""Where in a photo the anomaly is: connected parts of the map, as boxes and polygons."""

import numpy as np

POLYGON_TOLERANCE = 0.3  # pixels that a polygon may be off its outline
MOST_REGIONS = 200
PEAK_SHARE = 0.7  # of a map's highest value, where nothing is above the threshold


def find_regions(
    anomaly_map: np.ndarray, threshold: float, size: tuple[int, int] | None = None, least: int = 1
) -> list[dict]:
    """The anomalous regions of an image: connected parts (by sides and corners) of its map, the highest first.

    Args:
        anomaly_map: (H, W).
        threshold: what good photos' maps stay below.
        size: (height, width) of the image, where the map is smaller.
        least: pixels of the map that a region has at least.

    Returns:
        For each a `dict`: `box` [x, y, width, height] (int), `polygon` [[x, y], ...] (its outline, holes left out),
        `area` (pixels), `share` (of the image), `peak` and `mean` (of the map), `significant` (above the threshold).
        Pixel (0, 0) covers x and y from 0 to 1. At most 200. Where nothing is above the threshold, the one part about
        the highest value, not significant: the image as a whole is anomalous, and this is the likeliest place.
    """
    from skimage.measure import label, regionprops

    peak = float(anomaly_map.max())
    if peak <= 0:
        return []
    significant = peak > threshold
    above = np.asarray(anomaly_map > (threshold if significant else PEAK_SHARE * peak))
    rows, columns = extent(above.any(axis=1)), extent(above.any(axis=0))
    shown = anomaly_map[rows, columns]  # alone, because labels take several times as much memory
    parts = label(above[rows, columns], connectivity=2)
    if not significant:
        parts = np.where(parts == parts.flat[shown.argmax()], 1, 0)
    found = [part for part in regionprops(parts, intensity_image=shown) if part.num_pixels >= least]
    found.sort(key=lambda part: -part.intensity_max)
    described = [
        describe(part, anomaly_map.size, columns.start, rows.start) | {"significant": significant}
        for part in found[:MOST_REGIONS]
        if part.intensity_max > 0
    ]
    if size in (None, anomaly_map.shape):
        return described
    return [enlarged(each, size[1] / anomaly_map.shape[1], size[0] / anomaly_map.shape[0]) for each in described]


def extent(occupied) -> slice:
    """From the first to the last true value."""
    places = np.flatnonzero(occupied)
    return slice(int(places[0]), int(places[-1]) + 1)


def enlarged(region: dict, right: float, down: float) -> dict:
    """A region of a map that is smaller than its image, in the image's pixels."""
    left, top, width, height = region["box"]
    x, y = round(left * right), round(top * down)
    return region | {
        "box": [x, y, round((left + width) * right) - x, round((top + height) * down) - y],
        "polygon": [[round(x * right, 2), round(y * down, 2)] for x, y in region["polygon"]],
        "area": round(region["area"] * right * down),
    }


def describe(part, pixels: int, left: int, top: int) -> dict:
    """A region, found in a part of the map that begins at `left` and `top`."""
    height, width = part.bbox[2] - part.bbox[0], part.bbox[3] - part.bbox[1]
    left, top = left + part.bbox[1], top + part.bbox[0]
    area = int(part.num_pixels)
    return {
        "box": [left, top, width, height],
        "polygon": outline(part.image_filled, left, top),
        "area": area,
        "share": area / pixels,
        "peak": float(part.intensity_max),
        "mean": float(part.intensity_mean),
    }


def outline(mask: np.ndarray, left: int, top: int) -> list[list[float]]:
    """The longest outline of a mask (h, w) without holes, as x and y in the photo."""
    from skimage.measure import approximate_polygon, find_contours

    contour = max(find_contours(np.pad(mask, 1).astype(np.float32), 0.5), key=len)
    rows, columns = approximate_polygon(contour, POLYGON_TOLERANCE)[:-1].T
    # contours count from the middle of the padding's pixels
    x, y = np.clip(columns - 0.5, 0, mask.shape[1]) + left, np.clip(rows - 0.5, 0, mask.shape[0]) + top
    return np.stack([x, y], axis=1).round(2).tolist()
