"""The products that a service knows, replaced as a whole while it runs."""

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
HIDDEN = "."  # what begins with it in the folder of products is none


@dataclass(frozen=True)
class Product:
    """A profile under a name, ready to be scored against."""

    name: str
    profile: InspectionProfile
    reference: PreparedReference
    digest: str

    def describe(self) -> dict:
        """What people and programs want to know of it."""
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
    """Products by name; who reads sees each as a whole, before or after a change.

    Args:
        folder: where products lie that are added while the service runs, a folder each; those that lie there are known
            from the start. Without it they are gone with the service.

    Raises:
        ValueError: a name that cannot be one, or a profile of another model; names it.
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
            ValueError: not a name, not a profile's files, a damaged profile, or one of another model; nothing changes.
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
                self._replace(self._folder / name, incoming, Path(temporary) / "older")
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

    @staticmethod
    def _replace(place: Path, incoming: Path, older: Path):
        if place.exists():
            place.rename(older)
        incoming.rename(place)


def check_name(name: str):
    """Raises ValueError for what cannot be a product's name: it is a folder's as well."""
    if not NAME.fullmatch(name) or name.endswith((".", " ")):
        raise ValueError(
            f"{name[:80]!r} cannot be a product's name: expected 1 to 64 letters, digits, spaces and . _ + -, with a "
            "letter or digit first."
        )
