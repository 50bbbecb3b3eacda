"""A data set by its spec, a line such as `mvtec:/data/mvtec_ad`."""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

import datasets

from . import amazon_lookout, folders, lists, loco, mvtec
from .hub_rows import load_hub_dataset
from .image_folders import subfolders
from .layout import Layout
from .rows import build_dataset
from .same_bytes import report_same_bytes
from .unread import report_unread

logger = logging.getLogger(__name__)

# in the order in which they are tried on a folder without a name
LAYOUTS = {
    "visa": lists.VISA,
    "meta": lists.META_JSON,
    "real-iad": lists.REAL_IAD,
    "real-iad-variety": lists.REAL_IAD,
    "lookout": amazon_lookout.AMAZON_LOOKOUT,
    "mvtec-3d": mvtec.MVTEC_3D,
    "mvtec-ad-2": mvtec.MVTEC_2,
    "mvtec-loco": loco.LOCO,
    "autovi": loco.LOCO,
    "mvtec": mvtec.MVTEC,
    "mpdd": mvtec.MVTEC,
    "dtd-synthetic": mvtec.MVTEC,
    "btad": mvtec.MVTEC,
    "br35h": folders.BR35H,
    "covid": folders.COVID,
    "kvasir": folders.POLYPS,
    "endo": folders.POLYPS,
    "folder": folders.GOOD_AND_BAD,
    "ksdd": folders.KSDD,
}
HUB = "hub"


def register_layout(name: str, layout: Layout):
    """Registers a layout for specs `NAME:FOLDER`; a folder without a layout's name is tried against it last.

    Raises:
        ValueError: another layout has the name, or it has characters that a spec cannot hold.
    """
    if not name or name == HUB or set(name) & set(":/\\"):
        raise ValueError(f"A layout cannot be called {name!r}: expected a word without : / and \\, other than {HUB!r}.")
    if LAYOUTS.setdefault(name, layout) is not layout:
        raise ValueError(f"There is another layout {name!r} already: {LAYOUTS[name].description}.")


def load_data_set(spec: str | Path, report: Callable[[str], None] = logger.warning) -> datasets.Dataset:
    """Lists a data set, without opening its images.

    Args:
        spec: `LAYOUT:FOLDER`, a folder alone where its layout can be recognised, or `hub:OWNER/NAME`.
        report: called with a line for whatever is missing or does not fit.

    Returns:
        `datasets.Dataset` with the columns `image` and `mask` (decoded when they are read), `label` (0 normal, 1
        anomalous), `category`, `defect`, `split` ("train" or "test"), `view` and `sample_id`.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: an unknown layout, a folder of another or no known layout, or lists that cannot be read.
    """
    name, path = resolve_spec(spec)
    if name == HUB:
        dataset = load_hub_dataset(path)
    else:
        root, layout = Path(path), LAYOUTS[name]
        dataset = build_dataset(layout.read(root, report))
        report_unread(root, layout, paths_of(dataset), report)
        if not len(dataset):
            raise ValueError(f"{root} holds no image where this layout expects them: {layout.description}.")
    report_same_bytes(dataset, report)
    for line in odd_categories(dataset):
        report(f"{spec}: {line}")
    return dataset


def paths_of(dataset: datasets.Dataset) -> set[str]:
    """The paths of all images and masks."""
    table = dataset.with_format("arrow")
    return {each["path"] for name in ("image", "mask") for each in table[name].to_pylist() if each is not None}


def resolve_spec(spec: str | Path) -> tuple[str, str]:
    """The layout's name and the folder, or "hub" and the name there.

    Raises:
        FileNotFoundError, ValueError: as [`load_data_set`].
    """
    name, path = split_spec(str(spec))
    if name == HUB:
        return name, path
    root = Path(path).expanduser().absolute()
    return find_layout(name, root), str(root)


def split_spec(spec: str) -> tuple[str | None, str]:
    """The layout's name, `None` without one, and the rest."""
    name, colon, path = spec.partition(":")
    if colon and (name in LAYOUTS or name == HUB):
        return name, path
    if colon and not Path(spec).exists() and "/" not in name and len(name) > 1:
        raise ValueError(f"There is no layout {name!r}; there are {', '.join([*LAYOUTS, HUB])}.")
    return None, spec


def find_layout(name: str | None, root: Path) -> str:
    """The name of the folder's layout, recognised where it is not given."""
    if not root.is_dir():
        raise FileNotFoundError(f"No data folder at {root}.")
    if name is None:
        name = next((each for each, layout in LAYOUTS.items() if layout.recognise(root)), None)
    if name is None:
        known = "\n".join(f"  {each}: {layout.description}" for each, layout in LAYOUTS.items())
        raise ValueError(f"The layout of {root} is not known{subfolder_hint(root)}:\n{known}")
    if not LAYOUTS[name].recognise(root):
        raise ValueError(
            f"{root} does not look like {name}: expected {LAYOUTS[name].description}{subfolder_hint(root, name)}."
        )
    return name


def subfolder_hint(root: Path, wanted: str | None = None) -> str:
    """Which subfolder to name instead, where an archive was unpacked into a folder of its own."""
    for folder in subfolders(root)[:20]:
        names = [wanted] if wanted else list(LAYOUTS)
        if (found := next((each for each in names if LAYOUTS[each].recognise(folder)), None)) is not None:
            return f" (its subfolder {folder.name} looks like {found}: name that)"
    return ""


def unique_name(root: str | Path, taken: Iterable[str]) -> str:
    """A data set's name: its folder's, with as many parents' names as make it unique, or else with a number."""
    taken = set(taken)
    parts = Path(root).parts
    names = ["_".join(parts[-count:]).strip("/") for count in range(1, len(parts) + 1)]
    names += [f"{names[0]}-{number}" for number in range(2, len(taken) + 3)]
    return next(name for name in names if name not in taken)


def odd_categories(dataset: datasets.Dataset) -> list[str]:
    """A line for each category that lacks test images or normal images to compare with."""
    columns = dataset.select_columns(["category", "split", "label"]).with_format("pandas")[:]
    lines = []
    for category, rows in columns.groupby("category", sort=False):
        if not (rows["split"] == "test").any():
            lines.append(f"category {category} has no test image")
        if not ((rows["split"] == "train") & (rows["label"] == 0)).any():
            lines.append(f"category {category} has no normal image in its train split to compare with")
    return lines
