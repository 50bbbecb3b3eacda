"""AdaptCLIP as a Hugging Face Transformers model package: universal visual anomaly detection."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import lazy_loader

_HERE = Path(__file__).resolve().parent
if not (_HERE / "modeling").is_dir():
    # a checkout: modeling/ and processing/ stand beside this folder and install as its subpackages
    __path__.append(str(_HERE.parent))

from .model_files import DEFAULT_MODEL  # noqa: E402
from .registration import is_command, register  # noqa: E402
from .versions import __version__  # noqa: E402

if TYPE_CHECKING:
    from .detector import AnomalyDetector
    from .engine import DetectionResult, UnreadableImage, View
    from .inspection import InspectionProfile
    from .modeling import AdaptCLIPConfig, AdaptCLIPModel, PromptBank
    from .pipeline import AnomalyDetectionPipeline
    from .plugins import load_plugin
    from .processing import AdaptCLIPImageProcessor, AdaptCLIPProcessor

__getattr__, _, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "detector": ["AnomalyDetector"],
        "engine": ["DetectionResult", "UnreadableImage", "View"],
        "inspection": ["InspectionProfile"],
        "modeling": ["AdaptCLIPConfig", "AdaptCLIPModel", "PromptBank"],
        "pipeline": ["AnomalyDetectionPipeline"],
        "plugins": ["load_plugin"],
        "processing": ["AdaptCLIPImageProcessor", "AdaptCLIPProcessor"],
    },
)


def __dir__() -> list[str]:
    return __all__


if is_command():
    # read when torch is imported: threads that wait leave the processor to others, after half a millisecond in which
    # the next piece of work mostly comes, since to sleep and be woken for each takes a third of the time
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "passive"
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
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
    "UnreadableImage",
    "View",
    "__version__",
    "load_plugin",
]
