"""The products of a service, which can be replaced while it runs."""

import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from PIL import Image

from ..engine import AnomalyScorer, DetectionResult, PlainReference, View
from ..engine.reference import PreparedReference
from ..inspection import InspectionProfile
from ..inspection.profile_files import FEATURES, is_profile_file
from ..model_files import PROFILE_FILE
from ..modeling.checksums import CHECKSUMS_FILE
from ..modeling.text_encoder import TextEmbeds
from .product_folder import ProductFolder

NAME = re.compile(r"\w[\w .+-]{0,63}")
ONE_DTYPE = (
    "A service scores all products by one model in one dtype, those of the first --profile or of --model and --dtype: "
    "fit this one with it, start the service in a dtype that all of them allow (`adaptclip fit --show PROFILE` tells "
    "which), or start a second service."
)
TRIAL_SIDE = 64  # pixels of the image that a product is tried with


@dataclass(frozen=True)
class Product:
    """A profile under a name, ready to be scored against."""

    name: str
    profile: InspectionProfile
    reference: PreparedReference
    digest: str

    @cached_property
    def undecided(self) -> PreparedReference:
        """The reference without its decision, which takes memory by the photo's size and is made apart."""
        profile = self.profile
        return replace(
            self.reference, reference=PlainReference(view=profile.view, needs_appearance=profile.needs_appearance)
        )

    def describe(self) -> dict:
        """What `GET /products` shows."""
        profile = self.profile
        return {
            "name": self.name,
            "digest": self.digest,
            "model": profile.model,
            "dtype": profile.made_by["dtype"],
            "object_name": profile.object_name,
            "good_photos": len(profile.good_photos),
            "threshold": profile.calibration.threshold,
            "false_alarm_rate": profile.settings.false_alarm_rate,
            "summary": profile.describe(),
        }


class Products(Mapping[str, Product]):
    """Products by name. A reader sees each product complete, either before or after a change.

    Args:
        profiles: by name, of the call.
        folder: keeps products that are added while the service runs, a folder for each; those in it are opened at the
            start. Without it, added products are lost when the service ends.

    Attributes:
        skipped: names in the folder that are no products or cannot be opened, and why.
        damaged: those of them that hold a profile.

    Raises:
        ValueError: an invalid name, or a profile of the call that is damaged or of another model; the message names it.
    """

    def __init__(self, detector: AnomalyScorer, profiles: Mapping[str, str], folder: Path | None = None):
        self._detector, self._changing = detector, Lock()
        self._folder = None if folder is None else ProductFolder(folder)
        self._texts: dict[str | None, TextEmbeds] = {}  # by object name: who shares one is compared in one batch
        self.skipped: dict[str, str] = {}
        self.damaged: set[str] = set()
        self._products = self._kept() if self._folder is not None else {}
        for name in (self._products.keys() | self.damaged) & profiles.keys():
            self.skipped[name] = "--profile names another one"
        self.damaged -= profiles.keys()
        self._products |= {name: self._open(name, profile) for name, profile in profiles.items()}

    def __getitem__(self, name: str) -> Product:
        return self._products[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._products)

    def __len__(self) -> int:
        return len(self._products)

    def put(self, name: str, files: Mapping[str, BinaryIO]) -> Product:
        """Adds a product, or replaces it, from the files of a profile's folder.

        Args:
            files: name -> content of `profile.json`, the features that it names and `SHA256SUMS`, if there is one; and
                of no other.

        Raises:
            ValueError: an invalid name, other files, a damaged profile, or one of another model.
            OSError, MemoryError: the machine is short of something. Nothing changes then either.
        """
        check_name(name)
        needed = set(files) - {CHECKSUMS_FILE}
        if PROFILE_FILE not in needed or len(needed) != 2 or not all(map(is_profile_file, needed)):
            raise ValueError(
                f"Expected the files of a profile's folder, {PROFILE_FILE} and {FEATURES.format('...')}, got "
                f"{sorted(files)}."
            )
        with self._changing, self._incoming(files) as incoming:
            product = self._tried(name, incoming)
            if self._folder is not None:
                self._folder.put(name, incoming)
            self._products = {**self._products, name: product}
            self.skipped.pop(name, None)
            self.damaged.discard(name)
        return product

    def remove(self, name: str):
        """Forgets a product.

        Raises:
            KeyError: there is none of this name.
            OSError: it cannot be removed; nothing changes then.
        """
        with self._changing:
            remaining = dict(self._products)
            if name not in self.damaged:
                del remaining[name]
            if self._folder is not None:
                self._folder.remove(name)
            self._products = remaining
            self.skipped.pop(name, None)
            self.damaged.discard(name)

    def _kept(self) -> dict[str, Product]:
        """The products in the folder; one that cannot be opened does not keep the others from being served."""
        assert self._folder is not None
        try:
            self._folder.recover()
        except (OSError, ValueError) as error:
            self.skipped[str(self._folder.folder)] = f"what was interrupted is not finished: {error}"
        found = {}
        folders, others = self._folder.entries()
        self.skipped |= others
        for folder in folders:
            try:
                found[folder.name] = self._open(folder.name, folder)
            except Exception as error:
                self.skipped[folder.name] = one_line(error)
                self.damaged.add(folder.name)
        return found

    def _incoming(self, files: Mapping[str, BinaryIO]):
        return self._folder.incoming(files) if self._folder is not None else in_temporary_folder(files)

    def _tried(self, name: str, folder: Path) -> Product:
        """A product of which everything was done once that requests do: what fails, fails before it is served."""
        try:
            product = self._open(name, folder)
            try_out(product, self._detector)
        except (OSError, MemoryError):
            raise
        except Exception as error:
            raise ValueError(
                one_line(error).replace(f"{folder}{os.sep}", "").replace(str(folder), "what was put")
            ) from error
        return product

    def _open(self, name: str, folder: str | Path) -> Product:
        check_name(name)
        try:
            profile = InspectionProfile.from_pretrained(folder)
            profile.require_match(self._detector, remedy=ONE_DTYPE)
            reference = self._detector.prepare(profile)
            text_embeds = self._texts.setdefault(profile.object_name, reference.text_embeds)
            product = Product(name, profile, replace(reference, text_embeds=text_embeds), profile.digest())
            json.dumps(product.describe(), allow_nan=False)
        except (OSError, ValueError) as error:
            raise ValueError(f"Product {name}: {error}") from error
        return product


@contextmanager
def in_temporary_folder(files: Mapping[str, BinaryIO]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as temporary, ProductFolder(Path(temporary)).incoming(files) as folder:
        yield folder


def try_out(product: Product, scorer: AnomalyScorer):
    """Scores a grey image and decides it; raises whatever a photo would make it raise."""
    view = product.profile.view
    if view.by_place:  # needs an image of the profile's own size, which is not known
        return
    image = scorer.reader.load(Image.new("RGB", trial_size(view), (128, 128, 128)), view)
    [result] = scorer.score_images([(image, product.reference)])
    assert isinstance(result, DetectionResult)  # what cannot be scored is raised
    json.dumps([result.score, result.p_value, result.label, result.reason, result.regions], allow_nan=False)


def trial_size(view: View) -> tuple[int, int]:
    """Width and height of an image that a view can be looked at with."""
    if view.ignore is not None:
        return view.ignore.shape[1], view.ignore.shape[0]
    left, top, width, height = view.region or (0, 0, TRIAL_SIDE, TRIAL_SIDE)
    return left + width, top + height


def one_line(error: Exception) -> str:
    """What an error says; one that says nothing to a reader begins with its kind."""
    said = " ".join(str(error).split())
    return said if isinstance(error, ValueError | OSError) and said else f"{type(error).__name__}: {said}"


def check_name(name: str):
    """Raises ValueError for an invalid name; a product's name is also its folder's."""
    if not NAME.fullmatch(name) or name.endswith((".", " ")):
        raise ValueError(
            f"{name[:80]!r} cannot be a product's name: expected 1 to 64 letters, digits, spaces and . _ + -, with a "
            "letter or digit first."
        )
