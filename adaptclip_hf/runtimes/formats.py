"""The formats of exports, and the options by which each runtime computes as torch does."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec

FLOAT32, FLOAT16, INT8 = PRECISIONS = ("float32", "float16", "int8")
BFLOAT16 = "bfloat16"  # of the processor's products, not of the files: OpenVINO alone
# the graphs of an exported model
ENCODE, ZERO_SHOT, FEW_SHOT = "encode", "score_zero_shot", "score_few_shot"
logger = logging.getLogger(__name__)
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

    @property
    def runtime(self) -> str | None:
        """The library that computes its graphs; `None` for torch, which is there."""
        return self.to_run[0] if self.to_run else None

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

    def runner_options(self, graph: str, precision: str, threads: int) -> dict:
        """How a runtime opens a graph: with so many threads, and in float32 where it would choose another precision.

        Args:
            precision: of the export. In bfloat16 the image encoder is computed, and scores in float32.
        """
        if self.name == "onnx":
            from onnxruntime import SessionOptions

            options = SessionOptions()
            options.intra_op_num_threads = threads
            options.log_severity_level = 4  # what is wrong comes as an error
            # threads that spin would take the processor from torch between two graphs
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            return {"session_options": options}
        if self.name == "openvino":
            hint = "bf16" if precision == BFLOAT16 and graph == ENCODE else "f32"
            return {"config": {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads}}
        return {}

    def multiplies(self, precision: str) -> bool:
        """Whether this processor has products in a precision; without them a runtime computes in float32."""
        if precision != BFLOAT16:
            return True
        from openvino import Core

        return "BF16" in Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")

    def tell_missing_products(self, precision: str):
        """Warns where an export is no faster here than one in float32."""
        if not self.multiplies(precision):
            logger.warning(
                "This processor has no products in %s: the export is computed in float32, and is no faster than one in "
                "float32, which scores as the model does.",
                precision,
            )


EXPORT_FORMATS = {
    each.name: each
    for each in (
        Format("onnx", ("onnx", "onnxscript", "onnxruntime"), ("onnxruntime", "onnx_ir"), PRECISIONS, "Onnx"),
        Format("openvino", ("openvino",), ("openvino",), (*PRECISIONS, BFLOAT16), "OpenVINO"),
        Format("torch", (), (), (FLOAT32,), "Dynamo"),
    )
}
