"""ONNX graphs as files: both steps joined in one graph, a bank baked in, weights kept in float16."""

from pathlib import Path

import numpy as np
import onnx_ir as ir

from ..modeling.bank_content import VARIATION
from ..modeling.prompt_bank import PromptBank
from ..runtimes.formats import ENCODE

BANK_DATA = "bank.data"
SMALLEST_HALVED = 1024  # bytes


def write_detect(folder: Path, score: str, name: str, bank: PromptBank | None = None):
    """Joins the encoding and a scoring graph: `pixel_values` (and `bank.*`) -> `anomaly_scores`, `anomaly_maps`.

    The weights stay in the files of the two.

    Args:
        score: the scoring graph's name.
        name: of the new graph.
        bank: the normal images to bake into the graph; without it they are an input of the graph.
    """
    whole, scoring = ir.load(str(folder / f"{ENCODE}.onnx")), ir.load(str(folder / f"{score}.onnx"))
    prefix_names(scoring.graph, "score.")
    encoded = {value.name: value for value in whole.graph.outputs}
    stored = {} if bank is None else store_bank(folder, bank)
    for value in list(scoring.graph.inputs):
        given = (value.name or "").removeprefix("score.")
        scoring.graph.inputs.remove(value)
        if given in encoded:
            ir.convenience.replace_all_uses_with(value, encoded[given])
        elif given in stored:
            baked = ir.Value(name=given, shape=stored[given].shape, type=value.type, const_value=stored[given])
            whole.graph.initializers[given] = baked
            ir.convenience.replace_all_uses_with(value, baked)
        else:
            value.name = given
            whole.graph.inputs.append(value)
    for initializer_name, initializer in list(scoring.graph.initializers.items()):
        scoring.graph.initializers.pop(initializer_name)
        whole.graph.initializers[initializer_name] = initializer
    nodes, outputs = list(scoring.graph), list(scoring.graph.outputs)
    scoring.graph.outputs.clear()
    scoring.graph.remove(nodes)
    whole.graph.extend(nodes)
    whole.graph.outputs.clear()
    for value in outputs:
        value.name = (value.name or "").removeprefix("score.")
        whole.graph.outputs.append(value)
    whole.opset_imports.update(scoring.opset_imports)
    whole.functions.update(scoring.functions)
    ir.save(whole, str(folder / f"{name}.onnx"))


def prefix_names(graph: ir.Graph, prefix: str):
    """Renames all values and nodes, so that no name is also one of another graph."""
    outputs = (output for node in graph for output in node.outputs)
    for each in (*graph.initializers.values(), *graph.inputs, *outputs, *graph):
        each.name = prefix + (each.name or "")


def store_bank(folder: Path, bank: PromptBank) -> dict[str, ir.ExternalTensor]:
    """Writes what a bank holds beside the graphs; tensors that point at it, by the names of the graph's inputs."""
    contents = {f"bank.{index}": layer for index, layer in enumerate(bank.blocks())}
    if bank.variation is not None:
        contents |= {f"{VARIATION}.{name}": each for name, each in bank.variation.tensors().items()}
    tensors, offset = {}, 0
    with (folder / BANK_DATA).open("wb") as file:
        for name, content in contents.items():
            values = np.ascontiguousarray(content.float().cpu().numpy())
            file.write(values.data)
            shape = ir.Shape(values.shape)
            tensors[name] = ir.ExternalTensor(
                BANK_DATA, offset, values.nbytes, ir.DataType.FLOAT, shape=shape, name=name, base_dir=str(folder)
            )
            offset += values.nbytes
    return tensors


def strip(model: ir.Model):
    """Removes the files and lines where each node was traced."""
    for node in model.graph:
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for function in model.functions.values():
        for node in function:
            node.metadata_props.clear()


def halve_weights(model: ir.Model, exact: bool):
    """Keeps float32 weights in float16; the runtime makes them float32 when it opens the graph, once.

    Args:
        exact: only weights that lose nothing.
    """
    for name, value in list(model.graph.initializers.items()):
        tensor = value.const_value
        if tensor is None or tensor.dtype != ir.DataType.FLOAT or tensor.nbytes < SMALLEST_HALVED:
            continue
        weights = tensor.numpy()
        halved = weights.astype(np.float16)
        if exact and not np.array_equal(halved.astype(np.float32), weights):
            continue
        halves = ir.Value(
            name=f"{name}.float16",
            shape=value.shape,
            type=ir.TensorType(ir.DataType.FLOAT16),
            const_value=ir.tensor(halved),
        )
        cast = ir.node("Cast", [halves], {"to": ir.DataType.FLOAT.value})
        ir.convenience.replace_all_uses_with(value, cast.outputs[0])
        model.graph.initializers.pop(name)
        cast.outputs[0].name, cast.outputs[0].shape, cast.outputs[0].type = name, value.shape, value.type
        model.graph.register_initializer(halves)
        model.graph.insert_before(model.graph[0], cast)
