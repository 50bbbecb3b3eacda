"""Where in a photo the anomaly is: connected parts of the map, as boxes and polygons."""

import numpy as np

MOST_REGIONS = 200
# Of the threshold, or of a map's highest value where nothing is above that: how far a region reaches. The highest value
# of a good photo's map seldom lies far above this, and most of a map lies far below.
REACH = 0.7
LARGEST_TOLERANCE = 1.0  # pixels of the map that a polygon may be off its outline; less where a region is small
NEIGHBOURS = np.ones((3, 3), bool)  # by sides and corners


def find_regions(
    anomaly_map: np.ndarray, threshold: float, size: tuple[int, int] | None = None, least: int = 1
) -> list[dict]:
    """The anomalous regions of an image, the highest first.

    A region is a connected part (by sides and corners) of the map in which some value is above the threshold. It
    reaches as far as values stay above 0.7 of the threshold: a defect's map is high in places and lower in between.

    Args:
        anomaly_map: (H, W).
        threshold: what good photos' maps stay below.
        size: (height, width) of the image, where the map is smaller.
        least: pixels of the map that lie together above the threshold in a region at least.

    Returns:
        For each a `dict`: `box` [x, y, width, height] (int), `polygon` [[x, y], ...] (its outline, holes left out; it
        lies within the box and does not cross itself), `area` (pixels), `share` (of the image), `peak` and `mean` (of
        the map), `significant` (above the threshold). Pixel (0, 0) covers x and y from 0 to 1. At most 200. Where
        nothing is above the threshold, the one part about the highest value, not significant: the image as a whole is
        anomalous, and this is the likeliest place.
    """
    from scipy import ndimage

    highest = float(anomaly_map.max())
    if highest <= 0:
        return []
    significant = highest > threshold
    reach = REACH * (threshold if significant else highest)
    above = np.asarray(anomaly_map > reach)
    rows, columns = extent(above.any(axis=1)), extent(above.any(axis=0))
    shown = anomaly_map[rows, columns]  # alone, because labels take several times as much memory
    parts, _ = ndimage.label(above[rows, columns], NEIGHBOURS)
    places = ndimage.find_objects(parts)
    chosen = np.unique(parts[cores(shown, threshold, least)]) if significant else [parts.flat[shown.argmax()]]
    # the highest first, and of equal ones the first in the map
    ranked = sorted((-float(shown[places[each - 1]][parts[places[each - 1]] == each].max()), each) for each in chosen)
    down, right = (1.0, 1.0) if size is None else (size[0] / anomaly_map.shape[0], size[1] / anomaly_map.shape[1])
    found = []
    for _, number in ranked[:MOST_REGIONS]:
        place = places[number - 1]
        inside, values = parts[place] == number, shown[place]
        corner = columns.start + place[1].start, rows.start + place[0].start
        found.append(described(values, inside, corner, reach, (right, down), anomaly_map.size, significant))
    return found


def cores(shown: np.ndarray, threshold: float, least: int) -> np.ndarray:
    """(h, w) booleans: what lies above the threshold, in connected parts of at least so many pixels."""
    from scipy import ndimage

    above = shown > threshold
    if least == 1:
        return above
    numbered, _ = ndimage.label(above, NEIGHBOURS)
    large = np.bincount(numbered.ravel()) >= least
    large[0] = False
    return large[numbered]


def described(
    values: np.ndarray,
    inside: np.ndarray,
    corner: tuple[int, int],
    reach: float,
    scale: tuple[float, float],
    pixels: int,
    significant: bool,
) -> dict:
    """A region as results hold it.

    Args:
        values, inside: (h, w) of its place in the map.
        corner: left and top of its place.
        scale: pixels of the image in one of the map, to the right and down.
        pixels: of the whole map.
    """
    height, width = inside.shape
    left, top = (round(at * each) for at, each in zip(corner, scale, strict=True))
    end = [round((at + side) * each) for at, side, each in zip(corner, (width, height), scale, strict=True)]
    points = (outline(values, inside, reach) + corner) * scale
    area, held = int(inside.sum()), values[inside]
    return {
        "box": [left, top, end[0] - left, end[1] - top],
        "polygon": np.clip(points, (left, top), end).round(2).tolist(),
        "area": round(area * scale[0] * scale[1]),
        "share": area / pixels,
        "peak": float(held.max()),
        "mean": float(held.mean()),
        "significant": significant,
    }


def extent(occupied) -> slice:
    """From the first to the last true value."""
    places = np.flatnonzero(occupied)
    return slice(int(places[0]), int(places[-1]) + 1)


def outline(values: np.ndarray, inside: np.ndarray, level: float) -> np.ndarray:
    """The outer outline of one connected part of a map, (N, 2) of x and y.

    It runs between pixels where the map has the level, and nowhere beyond the pixels that are inside.

    Args:
        values, inside: (h, w).
    """
    from scipy import ndimage
    from skimage.measure import find_contours

    inside = np.pad(inside, 1)
    values = np.where(inside, np.pad(values, 1).astype(np.float64), level)
    # what is outside lies as far below the level as the highest pixel beside it lies above: half a pixel away
    outside = 2 * level - ndimage.maximum_filter(values, footprint=NEIGHBOURS)
    contours = find_contours(np.where(inside, values, outside), level, fully_connected="high")
    points = max(contours, key=len)[:-1, ::-1]
    return simplified(points) - 0.5  # contours count from the middle of the padding's pixels


def simplified(points: np.ndarray) -> np.ndarray:
    """A closed outline (N, 2) with fewer points, which does not cross itself."""
    x, y = points.T
    area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    start = int(np.argmax(((points - points.mean(0)) ** 2).sum(1)))  # the first point stays: let it be a corner
    closed = np.concatenate([points[start:], points[: start + 1]])
    tolerance = min(LARGEST_TOLERANCE, 0.1 * np.sqrt(area))
    while tolerance > 0.05:
        fewer = with_fewer_points(closed, tolerance)[:-1]
        if len(fewer) > 2 and not crosses_itself(fewer):
            return fewer
        tolerance /= 2
    return points


def with_fewer_points(points: np.ndarray, tolerance: float) -> np.ndarray:
    """Those points (N, 2) of a line to which all others lie near enough (Douglas and Peucker), with both ends.

    As `skimage.measure.approximate_polygon` to the bit; that one takes half a second to import.
    """
    stays = np.zeros(len(points), bool)
    stays[[0, -1]] = True
    ahead = [(0, len(points) - 1)]
    while ahead:
        first, last = ahead.pop()
        if last - first < 2:
            continue
        distances = distances_to_side(points[first + 1 : last], points[first], points[last])
        farthest = int(distances.argmax())
        if distances[farthest] > tolerance:
            middle = first + 1 + farthest
            stays[middle] = True
            ahead += [(first, middle), (middle, last)]
    return points[stays]


def distances_to_side(points: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(N,) of points (N, 2) to the side of a polygon between two others."""
    (x, y), (right, down) = points.T, end - begin
    (from_x, from_y), (to_x, to_y) = (points - begin).T, (points - end).T
    angle = -np.arctan2(right, down)
    sine, cosine = np.sin(angle), np.cos(angle)
    to_line = np.abs(x * cosine + y * sine - (begin[1] * sine + begin[0] * cosine))
    to_ends = np.sqrt(np.minimum(from_x**2 + from_y**2, to_x**2 + to_y**2))
    beside = (from_x * right + from_y * down > 0) & (to_x * right + to_y * down < 0)
    return np.where(beside, to_line, to_ends)


def crosses_itself(points: np.ndarray) -> bool:
    """Whether two sides of a closed outline (N, 2) that are no neighbours meet."""
    ends = np.roll(points, -1, axis=0)

    def side(begin, end, of):
        """(N, N) on which side of each line each point lies."""
        (dx, dy), (x, y) = (end - begin).T, begin.T
        return np.sign(dx[:, None] * (of[:, 1] - y[:, None]) - dy[:, None] * (of[:, 0] - x[:, None]))

    apart = side(points, ends, points) * side(points, ends, ends) <= 0
    low, high = np.minimum(points, ends), np.maximum(points, ends)
    near = ((low[:, None] <= high) & (low <= high[:, None])).all(-1)  # sides on one line need not meet
    meet = apart & apart.T & near
    numbers = np.arange(len(points))
    distance = np.abs(numbers[:, None] - numbers)
    return bool((meet & (distance > 1) & (distance < len(points) - 1)).any())
