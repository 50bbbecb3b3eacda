"""Outlines with fewer points are those of scikit-image, to the bit."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import approximate_polygon, find_contours

from adaptclip_hf.inspection.regions import with_fewer_points


@pytest.mark.parametrize("kind", ["smooth", "jagged", "box"])
def test_the_points_are_those_of_scikit_image(kind):
    rng = np.random.default_rng(0)
    values = ndimage.gaussian_filter(rng.random((60, 60)), 2) > 0.5
    if kind == "smooth":
        values = ndimage.gaussian_filter(rng.random((60, 60)), 3)
        values = (values - values.min()) / (values.max() - values.min())
    elif kind == "box":
        values = np.zeros((60, 60))
        values[10:40, 20:51] = 1
    outlines = find_contours(np.pad(np.asarray(values, float), 1), 0.5, fully_connected="high")
    assert outlines
    for outline in outlines[:20]:
        for tolerance in (1.0, 0.5, 0.1):
            fewer = with_fewer_points(outline, tolerance)
            np.testing.assert_array_equal(fewer, approximate_polygon(outline, tolerance))
            assert 2 <= len(fewer) <= len(outline)
