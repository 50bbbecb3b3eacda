import pytest
from PIL import Image

from adaptclip_hf import AnomalyDetector
from adaptclip_hf.synthetic import make_category, render_sample


@pytest.fixture(scope="module")
def detector(small_folder) -> AnomalyDetector:
    return AnomalyDetector.from_pretrained(small_folder, device="cpu")


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> list[str]:
    """Thirty photos of good parts."""
    folder, category = tmp_path_factory.mktemp("good"), make_category(5, "metal ring")
    for index in range(30):
        Image.fromarray(render_sample(category, index, 90, defect=False)[0]).save(folder / f"{index:02}.png")
    return sorted(map(str, folder.iterdir()))
