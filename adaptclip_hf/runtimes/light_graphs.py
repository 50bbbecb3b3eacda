"""Opens the graphs of an exported folder in their runtime, on arrays of NumPy."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..reporting import first_line
from .external_weights import require_own_weights
from .formats import Format
from .quiet import quiet
from .whole_export import INPUTS, leaves, require_ports, structures

# arrays by their names -> the outputs, in their order
LightGraph = Callable[[dict[str, np.ndarray]], list[np.ndarray]]
Ports = tuple[Sequence[str], Sequence[str] | None]  # names of inputs, and of outputs where they have names
PREFERRED = ("CUDAExecutionProvider", "CPUExecutionProvider")


def open_light_graphs(
    folder: Path, export_format: Format, layers: int, normal_variation: bool, threads: int, device: str | None
) -> dict[str, LightGraph]:
    """The graphs by their names.

    Args:
        layers, normal_variation: of the config; they say which inputs the graphs take.
        threads: that the runtime may use.
        device: "cpu"; what the runtime prefers for `None`.

    Raises:
        ValueError: a file is missing or damaged, or is another graph.
    """
    open_graph = {"onnx": open_onnx, "openvino": open_openvino}[export_format.name]
    opened: dict[str, LightGraph] = {}
    try:
        with quiet():
            for graph in INPUTS:
                inputs, outputs = (list(leaves(each)) for each in structures(graph, layers, normal_variation))
                opened[graph], found = open_graph(folder, graph, export_format.runner_options(threads), device)
                require_ports(graph, found, inputs, outputs)
    except Exception as error:  # every runtime has errors of its own
        raise ValueError(
            f"{folder} cannot be opened, a file is missing or damaged: {first_line(error) or type(error).__name__}"
        ) from error
    return opened


def open_onnx(folder: Path, graph: str, options: dict, device: str | None) -> tuple[LightGraph, Ports]:
    import onnxruntime

    file = existing(folder / f"{graph}.onnx")
    require_own_weights(file)
    preferred = PREFERRED if device is None else PREFERRED[-1:]
    providers = [each for each in preferred if each in onnxruntime.get_available_providers()]
    session = onnxruntime.InferenceSession(file, options["session_options"], providers=providers)
    names = [port.name for port in session.get_inputs()]

    def run(inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        return session.run(None, {name: inputs[name] for name in names})

    return run, (names, [port.name for port in session.get_outputs()])


def open_openvino(folder: Path, graph: str, options: dict, device: str | None) -> tuple[LightGraph, Ports]:
    import openvino

    file = existing(folder / f"openvino_{graph}.xml")
    where, config = ("AUTO", {}) if device is None else ("CPU", {"PERFORMANCE_HINT": "LATENCY"})
    compiled = openvino.Core().compile_model(file, where, config | options["config"])
    request = compiled.create_infer_request()
    names = [port.any_name for port in compiled.inputs]

    def run(inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        results = request.infer({name: inputs[name] for name in names}, share_inputs=True)
        return [results[port] for port in compiled.outputs]

    return run, (names, None)


def existing(file: Path) -> Path:
    if not file.is_file():
        raise ValueError(f"{file.name} is missing")
    return file
