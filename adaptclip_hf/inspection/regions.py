"""Where in a photo the anomaly is: connected parts of the map, as boxes and polygons."""

import numpy as np

POLYGON_TOLERANCE = 0.5  # pixels that a polygon may be off its outline
MOST_REGIONS = 200


def find_regions(anomaly_map: np.ndarray, threshold: float) -> list[dict]:
    """Connected parts (by sides and corners) of a map above a threshold, the highest first.

    Args:
        anomaly_map: (H, W).

    Returns:
        For each a `dict`: `box` [x, y, width, height] (int), `polygon` [[x, y], ...] (its outline, holes left out),
        `area` (pixels), `share` (of the image), `peak` and `mean` (of the map). Pixel (0, 0) covers x and y from 0 to
        1. At most 200.
    """
    from skimage.measure import label, regionprops

    parts = label(anomaly_map > threshold, connectivity=2)
    found = sorted(regionprops(parts, intensity_image=anomaly_map), key=lambda part: -part.intensity_max)
    return [describe(part, anomaly_map.size) for part in found[:MOST_REGIONS]]


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
