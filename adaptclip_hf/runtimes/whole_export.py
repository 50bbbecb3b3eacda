"""What an exported folder must hold: the files that are read of it, and the inputs and outputs of its graphs."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..model_files import EXPORT_FILE, NEEDED_FILES
from ..modeling.bank_content import FIELDS, VARIATION
from ..modeling.checksums import CHECKSUMS_FILE, read_checksums, require_sha256
from .formats import ENCODE, FEW_SHOT, ZERO_SHOT

# the files that are read when a folder is opened: some beside the graphs, and the graphs with their weights
DESCRIPTIONS = (EXPORT_FILE, *NEEDED_FILES, "tokenizer_config.json")
INPUTS = {ENCODE: ("pixel_values",), ZERO_SHOT: ("image_embeds", "patch_embeds")}
INPUTS[FEW_SHOT] = (*INPUTS[ZERO_SHOT], "bank")
A_LIST = ("patch_embeds", "bank")  # one for each layer
VARIATION_INPUTS = tuple(f"{VARIATION}.{name}" for name in FIELDS)


def require_undamaged_export(folder: Path):
    """Refuses a folder whose files are not those of its `SHA256SUMS`; one of an older version has none.

    Raises:
        ValueError: names the file.
    """
    sums_file = folder / CHECKSUMS_FILE
    if not sums_file.is_file():
        return
    sums = read_checksums(sums_file)
    opened = {folder / name for name in DESCRIPTIONS}
    for graph in INPUTS:
        opened |= {*folder.glob(f"{graph}.*"), *folder.glob(f"openvino_{graph}.*")}
    for file in sorted(each for each in opened if each.is_file()):
        if file.name not in sums:
            raise ValueError(f"{sums_file} does not name {file.name}: export the model anew.")
        require_sha256(file, sums[file.name])


def structures(graph: str, layers: int, normal_variation: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """The inputs and the outputs of a graph: each `None` stands for a tensor.

    Args:
        layers: how many layers are compared.
        normal_variation: whether scores use it.
    """
    inputs: dict[str, Any] = dict.fromkeys(INPUTS[graph])
    inputs |= {name: [None] * layers for name in A_LIST if name in inputs}
    if graph == FEW_SHOT and normal_variation:
        inputs[VARIATION] = dict.fromkeys(FIELDS)
    outputs: dict[str, Any] = {"image_embeds": None, "patch_embeds": [None] * layers}
    if graph != ENCODE:
        outputs = {"anomaly_scores": None, "anomaly_maps": None}
    return inputs, outputs


def leaves(tree: dict[str, Any]) -> Iterator[str]:
    """The names of a graph's tensors: `image_embeds`, `patch_embeds.0`, ..."""
    for name, value in tree.items():
        if isinstance(value, list | dict):
            yield from (f"{name}.{each}" for each in (value if isinstance(value, dict) else range(len(value))))
        else:
            yield name


def require_ports(graph: str, found: tuple[Sequence[str], Sequence[str] | None], inputs: list[str], outputs: list[str]):
    """Refuses a graph with other inputs or outputs than the config describes.

    Args:
        found: the names of its inputs, and of its outputs where they have names.
    """
    # which of the variation's fields enter the scores depends on the adapters: a graph takes no other ones
    needed = [name for name in inputs if name in found[0] or name not in VARIATION_INPUTS]
    if sorted(found[0]) != sorted(needed) or list(found[1] or outputs) != outputs:
        raise ValueError(f"{graph} has other inputs or outputs than config.json describes: {list(map(list, found))}")
