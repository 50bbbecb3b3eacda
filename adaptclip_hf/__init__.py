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
    # Read when torch is imported: a thread that waits looks for work for half a millisecond, in which the next piece
    # mostly comes, and then leaves the processor to others: to sleep and be woken for each piece takes a third of the
    # time. By "passive" GCC's library lets threads of a service, which are more than cores, sleep at once. The two
    # bounds, of GCC's library and of LLVM's, are what makes it polite.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "active"
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
        os.environ.setdefault("KMP_BLOCKTIME", "1")  # milliseconds
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
