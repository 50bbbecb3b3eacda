import io
from pathlib import Path

import pytest
from PIL import Image
from servers import SMALL_LIMITS, ServerThread

from adaptclip_hf.cli import main
from adaptclip_hf.synthetic import make_category, render_sample


@pytest.fixture(scope="session")
def products(small_folder, tmp_path_factory) -> dict[str, Path]:
    """Profiles of three products, one with an object name of its own and one cut into tiles."""
    folder, profiles = tmp_path_factory.mktemp("products"), {}
    for name, kind, words in (
        ("ring", 3, []),
        ("Blech ü", 4, ["--object-name", "sheet"]),
        ("board", 5, ["--tile", "32", "--any-place"]),  # photos of any size
    ):
        photos, category = folder / f"photos-{kind}", make_category(kind, "metal ring")
        photos.mkdir()
        for index in range(10):
            Image.fromarray(render_sample(category, index, 64, defect=False)[0]).save(photos / f"{index}.png")
        profiles[name] = folder / name
        call = [
            "fit",
            "--no-verdict",
            "--normal",
            str(photos),
            "--false-alarm-rate",
            "0.2",
            "--model",
            str(small_folder),
            *words,
        ]
        assert main([*call, "--output", str(profiles[name]), "--quiet"]) == 0
    return profiles


@pytest.fixture(scope="session")
def queries() -> list[bytes]:
    found, category = [], make_category(9, "metal ring")
    for index in range(6):
        content = io.BytesIO()
        Image.fromarray(render_sample(category, index, 70, defect="stain")[0]).save(content, "PNG")
        found.append(content.getvalue())
    return found


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    """Where the server keeps the products that are added while it runs."""
    return tmp_path_factory.mktemp("server") / "kept"


@pytest.fixture(scope="module")
def server(products, small_folder, kept):
    running = ServerThread(
        *(products, small_folder, "--products", kept, *SMALL_LIMITS, "--workers", "2"),
        ADAPTCLIP_ADMIN_TOKEN="admin-secret",
    )
    yield running
    running.stop()
