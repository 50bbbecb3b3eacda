"""AdaptCLIP as a Hugging Face Transformers model package: universal visual anomaly detection."""

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

_HERE = Path(__file__).resolve().parent
if not (_HERE / "modeling").is_dir():
    # a checkout: modeling/ and processing/ stand beside this folder and install as its subpackages
    __path__.append(str(_HERE.parent))

from .model_files import DEFAULT_MODEL  # noqa: E402
from .registration import is_command, register  # noqa: E402
from .versions import __version__  # noqa: E402

if TYPE_CHECKING:
    from .detector import AnomalyDetector
    from .engine import DetectionResult, View
    from .inspection import InspectionProfile
    from .modeling import AdaptCLIPConfig, AdaptCLIPModel, PromptBank
    from .pipeline import AnomalyDetectionPipeline
    from .plugins import load_plugin
    from .processing import AdaptCLIPImageProcessor, AdaptCLIPProcessor

# where each name is; imported when it is asked for
_PLACES = {
    "AdaptCLIPConfig": "modeling",
    "AdaptCLIPImageProcessor": "processing",
    "AdaptCLIPModel": "modeling",
    "AdaptCLIPProcessor": "processing",
    "AnomalyDetectionPipeline": "pipeline",
    "AnomalyDetector": "detector",
    "DetectionResult": "engine",
    "InspectionProfile": "inspection",
    "PromptBank": "modeling",
    "View": "engine",
    "load_plugin": "plugins",
}


def __getattr__(name: str):
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_PLACES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES])


if is_command():
    # read when torch is imported: threads that wait leave the processor to others
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
else:
    register()

__all__ = [
    "DEFAULT_MODEL",
    "AdaptCLIPConfig",
    "AdaptCLIPImageProcessor",
    "AdaptCLIPModel",
    "AdaptCLIPProcessor",
    "AnomalyDetectionPipeline",
    "AnomalyDetector",
    "DetectionResult",
    "InspectionProfile",
    "PromptBank",
    "View",
    "__version__",
    "load_plugin",
]
