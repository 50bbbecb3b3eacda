"""Brings anomaly maps to other sizes."""

import sys

import numpy as np

ROWS_AT_ONCE = 64  # which a processor's cache holds
SMALL = 128  # height and width together, up to which torch computes in another way


def resize_map(anomaly_map: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map (S, S) at an image's own (height, width), float32: bilinear between the middles of pixels.

    torch is a few times faster, and is taken where it is imported already; the values are the same to the bit on
    processors that add a product in one step.
    """
    torch = sys.modules.get("torch")
    if torch is None or sum(size) <= SMALL:
        return resized(anomaly_map, size)
    values = torch.from_numpy(anomaly_map)[None, None]
    return torch.nn.functional.interpolate(values, size=tuple(size), mode="bilinear", align_corners=False)[0, 0].numpy()


def resized(anomaly_map: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """As [`resize_map`], by NumPy."""
    height, width = size
    if anomaly_map.shape == (height, width):
        return anomaly_map.astype(np.float32)
    (above, below, upper, lower), (left, right, nearer, farther) = map(between, anomaly_map.shape, (height, width))
    rows = product_and_sum(anomaly_map[:, left], nearer, anomaly_map[:, right] * farther)
    whole = np.empty((height, width), np.float32)
    for first in range(0, height, ROWS_AT_ONCE):
        some = slice(first, first + ROWS_AT_ONCE)
        whole[some] = product_and_sum(rows[above[some]], upper[some, None], rows[below[some]] * lower[some, None])
    return whole


def between(count: int, wanted: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """For each of the wanted pixels along an axis the two of `count` that it lies between, and their weights."""
    scale = np.float64(np.float32(count) / np.float32(wanted))
    places = np.maximum((scale * (np.arange(wanted) + 0.5) - 0.5).astype(np.float32), np.float32(0))
    low = np.minimum(places.astype(np.int64), count - 1)
    far = np.clip(places - low.astype(np.float32), np.float32(0), np.float32(1))
    return low, np.minimum(low + 1, count - 1), np.float32(1) - far, far


def product_and_sum(values: np.ndarray, weights: np.ndarray, added: np.ndarray) -> np.ndarray:
    """values * weights + added of float32, rounded once: in float64 the product is exact."""
    return (values.astype(np.float64) * weights + added).astype(np.float32)
