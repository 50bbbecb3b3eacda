"""The formats of exports, and the options by which each runtime computes as torch does."""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec

FLOAT32, FLOAT16, INT8 = PRECISIONS = ("float32", "float16", "int8")
# the graphs of an exported model
ENCODE, ZERO_SHOT, FEW_SHOT = "encode", "score_zero_shot", "score_few_shot"
INSTALL = "pip install 'adaptclip-hf[export]'"


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        to_write, to_run: the libraries that are needed to write and to run it.
        precisions: those that it can be written in.
        exporter: the name of transformers' exporter, without its ending.
    """

    name: str
    to_write: tuple[str, ...]
    to_run: tuple[str, ...]
    precisions: tuple[str, ...]
    exporter: str

    def require(self, *libraries: str):
        """Raises an ImportError that says what to install."""
        if missing := [name for name in libraries if find_spec(name) is None]:
            raise ImportError(f"The format {self.name} needs {', '.join(missing)}: {INSTALL}")

    def make_exporter(self):
        """transformers' exporter, and the class of its options."""
        from importlib import import_module

        module = import_module(f"transformers.exporters.exporter_{self.exporter.lower()}")
        return getattr(module, f"{self.exporter}Exporter")(), getattr(module, f"{self.exporter}Config")

    def exporter_format(self):
        """What transformers calls the format."""
        from transformers.exporters.configs import ExportFormat

        return ExportFormat.DYNAMO if self.name == "torch" else ExportFormat(self.name)

    def quantizer(self, samples: Iterable[dict]):
        """int8 weights and activations, calibrated on inputs of the graph.

        Args:
            samples: such as `{"pixel_values": (1, 3, S, S)}`.
        """
        from transformers import exporters

        if self.name == "onnx":
            settings = exporters.quantizers.OnnxRuntimeStaticConfig(per_channel=True, op_types_to_quantize=["MatMul"])
            return exporters.quantizers.OnnxRuntimeQuantizer(settings, samples)
        self.require("nncf")
        return exporters.quantizers.NNCFOpenVINOQuantizer(calibration_dataset=samples)

    def runner_options(self, threads: int) -> dict:
        """So many threads, and float32 products where a runtime would choose other ones."""
        if self.name == "onnx":
            from onnxruntime import SessionOptions

            options = SessionOptions()
            options.intra_op_num_threads = threads
            options.log_severity_level = 4  # what is wrong comes as an error
            # threads that spin would take the processor from torch between two graphs
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            return {"session_options": options}
        if self.name == "openvino":
            return {"config": {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}}
        return {}


EXPORT_FORMATS = {
    each.name: each
    for each in (
        Format("onnx", ("onnx", "onnxscript", "onnxruntime"), ("onnxruntime", "onnx_ir"), PRECISIONS, "Onnx"),
        Format("openvino", ("openvino",), ("openvino",), PRECISIONS, "OpenVINO"),
        Format("torch", (), (), (FLOAT32,), "Dynamo"),
    )
}
