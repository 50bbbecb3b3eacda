"""Opens the graphs of an exported folder. Their names and the structure of their outputs are known here, not read."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree

from ..model_files import EXPORT_FILE, NEEDED_FILES
from ..modeling.checksums import CHECKSUMS_FILE, read_checksums, require_sha256
from ..modeling.configuration_adaptclip import AdaptCLIPConfig
from ..modeling.normal_variation import FIELDS
from ..modeling.prompt_bank import VARIATION
from ..reporting import first_line
from .formats import ENCODE, FEW_SHOT, FLOAT32, ZERO_SHOT, Format
from .quiet import quiet

if TYPE_CHECKING:
    import onnx_ir

Runners = dict[str, Any]  # transformers' runners: functions of tensors by their names, with a device

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


def open_graphs(
    folder: Path, export_format: Format, config: AdaptCLIPConfig, device=None, precision: str = FLOAT32
) -> Runners:
    """The graphs by their names, each a function of tensors by their names.

    Args:
        config: says which inputs the graphs take.
        device: what the format's runtime knows; its default for `None`.
        precision: of the image encoder's products; scores are computed in float32.

    Raises:
        ValueError: a file is missing or damaged, or is another graph.
    """
    try:
        with quiet():
            products = {graph: precision if graph == ENCODE else FLOAT32 for graph in INPUTS}
            return {
                graph: open_graph(folder, graph, export_format, config, device, products[graph]) for graph in INPUTS
            }
    except Exception as error:  # every runtime has errors of its own
        raise ValueError(
            f"{folder} cannot be opened, a file is missing or damaged: {first_line(error) or type(error).__name__}"
        ) from error


def open_graph(folder: Path, graph: str, export_format: Format, config: AdaptCLIPConfig, device, precision: str) -> Any:
    from transformers.exporters.auto import get_exporter_class, get_runner_class
    from transformers.exporters.metadata import ExportMetadata

    kind = export_format.exporter_format()
    exporter = get_exporter_class(kind)
    file = folder / f"{exporter.program_prefix}{graph}{exporter.program_suffix}"
    if not file.is_file():
        raise ValueError(f"{file.name} is missing")
    layers = len(config.feature_layers)
    inputs: dict[str, Any] = dict.fromkeys(INPUTS[graph])
    inputs |= {name: [None] * layers for name in A_LIST if name in inputs}
    if graph == FEW_SHOT and config.normal_variation:
        inputs[VARIATION] = dict.fromkeys(FIELDS)
    outputs: dict[str, Any] = {"image_embeds": None, "patch_embeds": [None] * layers}
    if graph != ENCODE:
        outputs = {"anomaly_scores": None, "anomaly_maps": None}
    metadata = ExportMetadata(in_spec=structure(((), inputs)), out_spec=structure(outputs), export_dtype="float32")
    program = exporter.load_program(file)
    if export_format.name == "onnx":
        require_own_weights(program, file)
    options = export_format.runner_options(torch.get_num_threads(), precision)
    runner = get_runner_class(kind).from_program(program, metadata, device, **options)
    require_ports(runner, graph, [*leaves(inputs)], [*leaves(outputs)])
    return runner


def structure(tree: Any) -> str:
    """What transformers' runners take for the structure of some values: each `None` in it is a tensor."""
    return _pytree.treespec_dumps(_pytree.tree_structure(_pytree.tree_map(lambda _: 0, tree, is_leaf=is_none)))


def is_none(value: Any) -> bool:
    return value is None


def leaves(tree: dict[str, Any]) -> Iterator[str]:
    """The names of a graph's tensors: `image_embeds`, `patch_embeds.0`, ..."""
    for name, value in tree.items():
        if isinstance(value, list | dict):
            yield from (f"{name}.{each}" for each in (value if isinstance(value, dict) else range(len(value))))
        else:
            yield name


def require_own_weights(program: "onnx_ir.Model", file: Path):
    """Refuses a graph whose weights lie in another file than the one beside it."""
    import onnx_ir

    found = [value.const_value for graph in program.graphs() for value in graph.initializers.values()]
    nodes = (node for graph in program.graphs() for node in graph)
    found += [each.value for node in nodes for each in node.attributes.values() if each.type.name == "TENSOR"]
    for tensor in found:
        if isinstance(tensor, onnx_ir.ExternalTensor) and Path(tensor.path) != file.with_name(f"{file.name}.data"):
            raise ValueError(f"{file.name} reads weights of {tensor.location!r}, expected {file.name}.data")


def require_ports(runner: Any, graph: str, inputs: list[str], outputs: list[str]):
    """Refuses a graph with other inputs or outputs than the config describes."""
    if session := getattr(runner, "session", None):
        found = [[port.name for port in ports] for ports in (session.get_inputs(), session.get_outputs())]
    elif compiled := getattr(runner, "compiled_model", None):
        found = [[port.any_name for port in ports] for ports in (compiled.inputs, compiled.outputs)]
        outputs = outputs if len(found[1]) == len(outputs) else []  # they have no names, and come in their order
        found[1] = outputs or found[1]
    else:
        return
    # which of the variation's fields enter the scores depends on the adapters: a graph takes no other ones
    needed = [name for name in inputs if name in found[0] or name not in VARIATION_INPUTS]
    if sorted(found[0]) != sorted(needed) or found[1] != outputs:
        raise ValueError(f"{graph} has other inputs or outputs than config.json describes: {found}")
