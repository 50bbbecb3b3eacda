"""Stage 2: freely licensed pictures from Debian packages, which are unpacked and not installed."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
from PIL import Image

# package: what it shows; each package's own file `copyright` names the authors and the licence of every picture
PACKAGES = {
    "gnome-backgrounds": "photographs and drawings (CC-BY-SA 3.0 and others)",
    "mate-backgrounds": "photographs (GPL 2+, CC-BY-SA 4.0)",
    "plasma-workspace-wallpapers": "photographs and drawings (GPL 2+)",
    "tuxpaint-stamps-default": "photographs and drawings of single things (GPL 2)",
    "supertuxkart-data": "textures and scenes of a game (CC-BY-SA 3.0 and 4.0, CC-BY 3.0, CC0, GPL, MIT)",
    "redeclipse-data": "textures and scenes of a game (CC-BY-SA 3.0, CC-BY 3.0, CC0, Zlib)",
    "megaglest-data": "textures of a game (CC-BY-SA 3.0, GPL 2+)",
    "torcs-data": "textures of a game (GPL 2+, LGPL 2+, Free Art License, GFDL)",
    "openclipart-png": "drawings of single things (public domain)",
}
EVERY = {
    "openclipart-png": 4
}  # of a package's pictures only each such one, so that drawings do not outnumber photographs
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
SMALLEST_SIDE, SMALLEST_CONTRAST = 128, 6.0


def fetch_pictures(folder: Path) -> list[Path]:
    """The pictures' paths, sorted; packages that are not in `folder` yet are downloaded and unpacked there.

    Raises:
        RuntimeError: the pictures are not there yet, and Debian's apt-get and dpkg-deb are missing.
    """
    for package in PACKAGES:
        if (folder / package).exists():
            continue
        if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
            raise RuntimeError(
                f"The pictures come out of Debian packages, and apt-get and dpkg-deb are not here. Unpack {package} "
                f"into {folder / package} yourself, or learn from procedural images alone with --no-pictures."
            )
        download, unpacked = folder / "download", folder / f"{package}.part"
        shutil.rmtree(unpacked, ignore_errors=True)
        download.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", package], cwd=download, check=True, stdout=subprocess.DEVNULL)
        (archive,) = download.glob(f"{package}_*.deb")
        subprocess.run(["dpkg-deb", "-x", archive, unpacked], check=True)
        archive.unlink()
        unpacked.rename(folder / package)
    return sorted(path for package in PACKAGES for path in pictures_of(folder / package)[:: EVERY.get(package, 1)])


def pictures_of(folder: Path) -> list[Path]:
    files = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return sorted(path for path in files if path.is_file() and not path.is_symlink())


def crop_picture(path: Path, seed: int, size: int) -> list[np.ndarray]:
    """Crops (size, size, 3) of one picture at random scales, from the whole picture to its own pixels; none of a flat
    picture or of one that cannot be read. Under a transparent picture lies noise of a random colour."""
    rng = np.random.default_rng([seed, 30])
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGBA" if "A" in opened.getbands() or opened.mode == "P" else "RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return []
    short = min(picture.size)
    if short < SMALLEST_SIDE or max(picture.size) > 12 * short:
        return []
    if picture.mode == "RGBA":
        ground = rng.integers(0, 256, 3) + rng.normal(0, rng.uniform(0, 12), (*picture.size[::-1], 3))
        ground = Image.fromarray(np.clip(ground, 0, 255).astype(np.uint8))
        ground.paste(picture, mask=picture.getchannel("A"))
        picture = ground
    crops = []
    for _ in range(int(np.clip(short / 340, 1, 8)) + (max(picture.size) > 1.6 * short)):
        # the crop's side in pixels of the picture: uniform in its logarithm, enlarged at most 1.6 times
        side = int(np.exp(rng.uniform(np.log(min(short, size / 1.6)), np.log(short))))
        left, top = rng.integers(0, picture.width - side + 1), rng.integers(0, picture.height - side + 1)
        box = (left, top, left + side, top + side)
        crop = np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0))
        if crop.std() > SMALLEST_CONTRAST:
            crops.append(crop)
    return crops
