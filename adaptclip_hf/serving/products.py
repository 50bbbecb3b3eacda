"""The products of a service, which can be replaced while it runs."""

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from ..engine import AnomalyScorer
from ..engine.reference import PreparedReference
from ..inspection import InspectionProfile
from ..inspection.profile_files import FEATURES, is_profile_file
from ..model_files import PROFILE_FILE

NAME = re.compile(r"\w[\w .+-]{0,63}")
HIDDEN = "."  # names in the folder of products that begin with it are ignored


@dataclass(frozen=True)
class Product:
    """A profile under a name, ready to be scored against."""

    name: str
    profile: InspectionProfile
    reference: PreparedReference
    digest: str

    def describe(self) -> dict:
        """What `GET /products` shows."""
        profile = self.profile
        return {
            "name": self.name,
            "digest": self.digest,
            "model": profile.model,
            "object_name": profile.object_name,
            "good_photos": len(profile.good_photos),
            "threshold": profile.calibration.threshold,
            "false_alarm_rate": profile.settings.false_alarm_rate,
            "summary": profile.describe(),
        }


class Products(Mapping[str, Product]):
    """Products by name. A reader sees each product complete, either before or after a change.

    Args:
        folder: keeps products that are added while the service runs, a folder for each; those in it are loaded at the
            start. Without it, added products are lost when the service ends.

    Raises:
        ValueError: an invalid name, or a profile of another model; the message names it.
    """

    def __init__(self, detector: AnomalyScorer, profiles: Mapping[str, str], folder: Path | None = None):
        self._detector, self._folder, self._changing = detector, folder, Lock()
        kept: dict[str, Path] = {}
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            kept = {each.name: each for each in sorted(folder.iterdir()) if not each.name.startswith(HIDDEN)}
        given: dict[str, str | Path] = {**kept, **profiles}
        self._products = {name: self._open(name, profile) for name, profile in given.items()}

    def __getitem__(self, name: str) -> Product:
        return self._products[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._products)

    def __len__(self) -> int:
        return len(self._products)

    def put(self, name: str, files: Mapping[str, bytes]) -> Product:
        """Adds a product, or replaces it, from the files of a profile's folder.

        Args:
            files: name -> content of `profile.json` and the features that it names, and of no other.

        Raises:
            ValueError: an invalid name, other files, a damaged profile, or one of another model; nothing changes then.
        """
        check_name(name)
        if PROFILE_FILE not in files or len(files) != 2 or not all(map(is_profile_file, files)):
            raise ValueError(
                f"Expected the two files of a profile's folder, {PROFILE_FILE} and {FEATURES.format('...')}, got "
                f"{sorted(files)}."
            )
        with self._changing, tempfile.TemporaryDirectory(prefix=HIDDEN, dir=self._folder) as temporary:
            incoming = Path(temporary) / "profile"
            incoming.mkdir()
            for file, content in files.items():
                (incoming / file).write_bytes(content)
            product = self._open(name, incoming)
            if self._folder is not None:
                if (self._folder / name).exists():
                    (self._folder / name).rename(Path(temporary) / "older")
                incoming.rename(self._folder / name)
            self._products = {**self._products, name: product}
        return product

    def remove(self, name: str):
        """Forgets a product.

        Raises:
            KeyError: there is none of this name.
        """
        with self._changing:
            remaining = dict(self._products)
            del remaining[name]
            self._products = remaining
            if self._folder is not None:
                shutil.rmtree(self._folder / name, ignore_errors=True)

    def _open(self, name: str, folder: str | Path) -> Product:
        check_name(name)
        try:
            profile = InspectionProfile.from_pretrained(folder)
            return Product(name, profile, self._detector.prepare(profile), profile.digest())
        except (OSError, ValueError) as error:
            raise ValueError(f"Product {name}: {error}") from error


def check_name(name: str):
    """Raises ValueError for an invalid name; a product's name is also its folder's."""
    if not NAME.fullmatch(name) or name.endswith((".", " ")):
        raise ValueError(
            f"{name[:80]!r} cannot be a product's name: expected 1 to 64 letters, digits, spaces and . _ + -, with a "
            "letter or digit first."
        )
