"""Opens the graphs of an exported folder. Their names and the structure of their outputs are known here, not read."""

from pathlib import Path
from typing import Any

import torch
from torch.utils import _pytree

from ..modeling.configuration_adaptclip import AdaptCLIPConfig
from ..reporting import first_line
from .external_weights import require_own_weights
from .formats import Format
from .quiet import quiet
from .whole_export import INPUTS, leaves, require_ports, structures

Runners = dict[str, Any]  # transformers' runners: functions of tensors by their names, with a device


def open_graphs(folder: Path, export_format: Format, config: AdaptCLIPConfig, device=None) -> Runners:
    """The graphs by their names, each a function of tensors by their names.

    Args:
        config: says which inputs the graphs take.
        device: what the format's runtime knows; its default for `None`.

    Raises:
        ValueError: a file is missing or damaged, or is another graph.
    """
    try:
        with quiet():
            return {graph: open_graph(folder, graph, export_format, config, device) for graph in INPUTS}
    except Exception as error:  # every runtime has errors of its own
        raise ValueError(
            f"{folder} cannot be opened, a file is missing or damaged: {first_line(error) or type(error).__name__}"
        ) from error


def open_graph(folder: Path, graph: str, export_format: Format, config: AdaptCLIPConfig, device) -> Any:
    from transformers.exporters.auto import get_exporter_class, get_runner_class
    from transformers.exporters.metadata import ExportMetadata

    kind = export_format.exporter_format()
    exporter = get_exporter_class(kind)
    file = folder / f"{exporter.program_prefix}{graph}{exporter.program_suffix}"
    if not file.is_file():
        raise ValueError(f"{file.name} is missing")
    inputs, outputs = structures(graph, len(config.feature_layers), config.normal_variation)
    metadata = ExportMetadata(in_spec=structure(((), inputs)), out_spec=structure(outputs), export_dtype="float32")
    program = exporter.load_program(file)
    if export_format.name == "onnx":
        require_own_weights(file)
    runner = get_runner_class(kind).from_program(
        program, metadata, device, **export_format.runner_options(torch.get_num_threads())
    )
    if (found := ports_of(runner, len(list(leaves(outputs))))) is not None:
        require_ports(graph, found, [*leaves(inputs)], [*leaves(outputs)])
    return runner


def structure(tree: Any) -> str:
    """What transformers' runners take for the structure of some values: each `None` in it is a tensor."""
    return _pytree.treespec_dumps(_pytree.tree_structure(_pytree.tree_map(lambda _: 0, tree, is_leaf=is_none)))


def is_none(value: Any) -> bool:
    return value is None


def ports_of(runner: Any, outputs: int) -> tuple[list[str], list[str] | None] | None:
    """The names of a runner's inputs and outputs; `None` where its runtime does not tell.

    Args:
        outputs: how many there must be.
    """
    if session := getattr(runner, "session", None):
        return [port.name for port in session.get_inputs()], [port.name for port in session.get_outputs()]
    if compiled := getattr(runner, "compiled_model", None):
        named = [port.any_name for port in compiled.inputs]
        # outputs have no names, and come in their order
        return named, None if len(compiled.outputs) == outputs else [port.any_name for port in compiled.outputs]
    return None
