"""Writes models as files for other runtimes: ONNX, OpenVINO, torch.export."""

from .exporting import export_model

__all__ = ["export_model"]
