"""Where in a photo the anomaly is: connected parts of the map, as boxes and polygons."""

import numpy as np

POLYGON_TOLERANCE = 0.3  # pixels that a polygon may be off its outline
MOST_REGIONS = 200
PEAK_SHARE = 0.7  # of a map's highest value, where nothing is above the threshold


def find_regions(anomaly_map: np.ndarray, threshold: float) -> list[dict]:
    """The anomalous regions of an image: connected parts (by sides and corners) of its map, the highest first.

    Args:
        anomaly_map: (H, W).
        threshold: what good photos' maps stay below.

    Returns:
        For each a `dict`: `box` [x, y, width, height] (int), `polygon` [[x, y], ...] (its outline, holes left out),
        `area` (pixels), `share` (of the image), `peak` and `mean` (of the map), `significant` (above the threshold).
        Pixel (0, 0) covers x and y from 0 to 1. At most 200. Where nothing is above the threshold, the one part about
        the highest value, not significant: the image as a whole is anomalous, and this is the likeliest place.
    """
    from skimage.measure import label, regionprops

    peak = float(anomaly_map.max())
    significant = peak > threshold
    parts = label(anomaly_map > (threshold if significant else PEAK_SHARE * peak), connectivity=2)
    if not significant:
        parts = np.where(parts == parts.flat[anomaly_map.argmax()], 1, 0)
    found = sorted(regionprops(parts, intensity_image=anomaly_map), key=lambda part: -part.intensity_max)
    return [
        describe(part, anomaly_map.size) | {"significant": significant}
        for part in found[:MOST_REGIONS]
        if part.intensity_max > 0
    ]


def describe(part, pixels: int) -> dict:
    top, left, bottom, right = part.bbox
    area = int(part.num_pixels)
    return {
        "box": [left, top, right - left, bottom - top],
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
