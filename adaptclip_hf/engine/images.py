"""Images on their way to the model: read, cut into tiles and resized, or the reason why they cannot be read."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol, TypeAlias

from PIL import Image

from ..processing.image_lists import as_list, is_one_image
from ..processing.image_loading import load_image, name_of
from .contract import Array
from .heatmap import require_photo
from .tiles import Tiles, View

# called with the name of an image that cannot be read, and the error
OnError = Callable[[str, Exception], None]


@dataclass(frozen=True)
class LoadedImage:
    """An image that was read.

    Attributes:
        name: its path or URL, or what kind of thing it was.
        image: RGB.
        tiles: how it is cut.
        pixel_values: (1, 3, S, S) of an image that is one tile, where they are ready; otherwise `None`.
    """

    name: str
    image: Image.Image = field(repr=False)
    tiles: Tiles
    pixel_values: Array | None = field(default=None, repr=False)


@dataclass(frozen=True)
class UnreadableImage:
    """An image that could not be read, and the reason. It takes the image's place in a list of results.

    Attributes:
        name: its path or URL, or what kind of thing it was.
        error: the reason.
    """

    name: str
    error: str

    # fields of a result, which there is none of
    score: ClassVar[None] = None
    label: ClassVar[None] = None
    reason: ClassVar[None] = None
    p_value: ClassVar[None] = None
    margin: ClassVar[None] = None
    regions: ClassVar[None] = None
    anomaly_map: ClassVar[None] = None
    size: ClassVar[None] = None
    model_map: ClassVar[None] = None
    peak: ClassVar[None] = None
    region: ClassVar[None] = None
    ignore: ClassVar[None] = None
    image: ClassVar[None] = None
    nearest: ClassVar[None] = None
    among_normals: ClassVar[bool] = False

    def heatmap(self, image: Image.Image | None = None) -> Image.Image:
        """Raises a ValueError with the reason: there is no map to draw."""
        raise ValueError(f"{self.name}: {self.error}.")


class PixelReader(Protocol):
    """Makes pixel values of images: [`AdaptCLIPImageProcessor`] for torch, [`LightImageProcessor`] for NumPy."""

    do_normalize: bool
    image_mean: Any
    image_std: Any

    def __call__(self, image: Image.Image) -> Any:
        """A dict with `pixel_values` (1, 3, S, S)."""

    def fingerprint(self) -> dict[str, str]:
        """How images become pixel values; a prompt bank records it."""


ReadImage: TypeAlias = LoadedImage | UnreadableImage


@dataclass(frozen=True)
class ImageReader:
    """Reads images for a model: it needs the model's preprocessing, not the model."""

    image_processor: PixelReader

    def read(self, sources: Iterable, view: View = View(), on_error: OnError | None = None) -> Iterator[ReadImage]:
        """Reads images as they come, and cuts them into tiles.

        Args:
            sources: what `load_image` reads. Images that were read before stay as they are.
            on_error: called for each image that cannot be read; without it the error is raised.

        Raises:
            FileNotFoundError, ValueError: an image cannot be read, and there is no `on_error`.
        """
        for source in sources:
            if isinstance(source, ReadImage):
                yield source
                continue
            try:
                yield self.load(source, view)
            except (OSError, ValueError) as error:
                if on_error is None:
                    raise
                on_error(name_of(source), error)
                yield UnreadableImage(name_of(source), str(error))

    def load(self, source, view: View = View()) -> LoadedImage:
        """Reads one image and cuts it into tiles.

        Raises:
            FileNotFoundError, ValueError: it cannot be read.
        """
        name, image = name_of(source), load_image(source, view.bit_depth)
        require_photo(image, name)
        return LoadedImage(name, image, view.tiles((image.height, image.width), name))

    def read_ready(
        self, sources: Iterable, view: View = View(), on_error: OnError | None = None
    ) -> Iterator[ReadImage]:
        """As [`~ImageReader.read`], and resizes images of one tile: only the model's work is left."""
        for image in self.read(sources, view, on_error):
            if isinstance(image, LoadedImage) and len(image.tiles) == 1 and image.pixel_values is None:
                image = replace(image, pixel_values=self.pixel_values(*image.tiles.crops(image.image)))
            yield image

    def pixel_values(self, image: Image.Image) -> Array:
        """(1, 3, S, S) of an RGB image."""
        return self.image_processor(image)["pixel_values"]


def as_list_or_stream(images) -> Iterable:
    """One image as a list of it, a batch as the list of its images; other iterables as they are.

    Raises:
        ValueError: an empty list.
    """
    return as_list(images) if is_one_image(images) or isinstance(images, list | tuple) else images
