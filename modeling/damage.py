"""Refuses weights that are damaged: by the SHA-256 that was written with them, and by values that are not finite."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, cached_file

from .checksums import CHECKSUMS_FILE, read_checksums, require_sha256, write_checksums
from .fingerprint import stored_tensors
from .weights_file import WEIGHTS_FILE

# all files of weights that a folder may hold, those of variants and shards too
WEIGHTS = ("model*.safetensors", "model.safetensors.index*.json", "adapters.safetensors")
GET_IT_AGAIN = "get the model again from where it came"


def write_weights_checksums(folder: Path):
    """Writes the SHA-256 of all weights of a folder. Whatever writes weights calls it, so that no sum is an old one."""
    write_checksums(folder, weights_in(folder))


def weights_in(folder: Path) -> set[str]:
    """The names of all files of weights in a folder."""
    return {file.name for pattern in WEIGHTS for file in folder.glob(pattern) if file.is_file()}


def weights_files(name: str | Path, variant: str | None = None, **hub) -> list[Path]:
    """The files of a complete model's weights, fetched where they are on the Hub: one, or an index and its shards.

    Raises:
        OSError: there are none, or the Hub cannot be asked.
        ValueError: the index is damaged, or names files elsewhere.
    """

    def find(file_name: str) -> Path | None:
        found = cached_file(str(name), file_name, _raise_exceptions_for_missing_entries=False, **hub)
        return Path(found) if found else None

    whole, sharded = (of_variant(file_name, variant) for file_name in (WEIGHTS_FILE, SAFE_WEIGHTS_INDEX_NAME))
    if file := find(whole):
        return [file]
    if not (index := find(sharded)):
        raise OSError(f"No weights at {name}: expected {whole}, or {sharded} and its shards.")
    shards = sorted(shards_of(index))
    return [index, *(Path(cached_file(str(name), shard, **hub)) for shard in shards)]


def of_variant(file_name: str, variant: str | None) -> str:
    """A file's name with the variant before its ending, as "fp16" in model.fp16.safetensors."""
    stem, _, ending = file_name.rpartition(".")
    return f"{stem}.{variant}.{ending}" if variant else file_name


def shards_of(index: Path) -> set[str]:
    """The names of the shards that an index lists.

    Raises:
        ValueError: it is damaged, or names files elsewhere.
    """
    try:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        names = {shard for shard in shards if Path(shard).name == shard and shard.endswith(".safetensors")}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{index} is no index of weights ({type(error).__name__}): {GET_IT_AGAIN}.") from error
    if not shards or names != shards:
        raise ValueError(f"{index}: weight_map must name .safetensors files of its folder: {GET_IT_AGAIN}.")
    return shards


def require_undamaged(files: Iterable[Path]):
    """Refuses files of one folder that are not what its `SHA256SUMS` says; a folder without one is not checked.

    Each file is read once in a process: 1.2 GB took 1.2 s of a core that has instructions for SHA-256.

    Raises:
        ValueError: names the file.
    """
    for file in files:
        sums_file = file.with_name(CHECKSUMS_FILE)
        sums = read_checksums(sums_file)
        if file.name in sums:
            require_sha256(file, sums[file.name])
        elif sums_file.is_file():
            raise ValueError(f"{sums_file} does not name {file.name}: {GET_IT_AGAIN}, or remove {sums_file}.")


def shapes_of(files: Iterable[Path]) -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors of the safetensors files among some files, by their names.

    Raises:
        ValueError: a file is truncated or damaged; names it.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for file in (each for each in files if each.suffix == ".safetensors"):
        try:
            with safe_open(file, framework="pt") as opened:
                shapes |= {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}
        except SafetensorError as error:
            raise ValueError(f"The weights in {file} cannot be read, it is truncated or damaged: {error}.") from error
    return shapes


def clip_shapes(clip: str | Path, **hub) -> dict[str, tuple[int, ...]]:
    """The shapes of a plain CLIP's tensors; none where it has no safetensors file, as many on the Hub."""
    try:
        return shapes_of(weights_files(clip, **hub))
    except OSError:
        return {}


def require_finite(tensors: Mapping[str, torch.Tensor], source: str | Path, remedy: str = GET_IT_AGAIN):
    """Refuses tensors that hold NaN or infinity, with which everything would score alike.

    Args:
        source: the file or folder that they are from.

    Raises:
        ValueError: names the source and the first tensor.
    """
    if damaged := not_finite(tensors):
        more = f" and {len(damaged) - 1} more tensors" if len(damaged) > 1 else ""
        raise ValueError(f"{source}: {damaged[0]}{more} holds values that are not finite (NaN or infinity): {remedy}.")


@torch.no_grad()
def not_finite(tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """The names of the tensors that hold NaN or infinity; each is read once, without a copy."""
    stored = [(name, each) for name, tensor in tensors.items() for each in stored_tensors(tensor)]
    floats = [(name, each) for name, each in stored if each.is_floating_point() and each.numel()]
    if not floats:
        return []
    readable = (each.float() if each.itemsize == 1 else each for _, each in floats)  # torch compares no float8
    extremes = torch.stack([torch.stack(torch.aminmax(each)).float().cpu() for each in readable])
    finite = extremes.isfinite().all(-1).tolist()
    return list(dict.fromkeys(name for (name, _), good in zip(floats, finite, strict=True) if not good))
