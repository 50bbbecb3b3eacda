"""AdaptCLIP as a Hugging Face Transformers model package: universal visual anomaly detection."""

from pathlib import Path

_HERE = Path(__file__).resolve().parent
if not (_HERE / "modeling").is_dir():
    # a checkout: modeling/ and processing/ stand beside this folder and install as its subpackages
    __path__.append(str(_HERE.parent))

from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoProcessor  # noqa: E402
from transformers.pipelines import PIPELINE_REGISTRY  # noqa: E402

from .hub import prompt_banks, pushing, released  # noqa: E402
from .modeling import AdaptCLIPConfig, AdaptCLIPModel, PromptBank  # noqa: E402
from .pipeline import AnomalyDetectionPipeline  # noqa: E402
from .pretrained import DEFAULT_MODEL  # noqa: E402
from .processing import AdaptCLIPImageProcessor, AdaptCLIPProcessor  # noqa: E402

# the model's own files, which also load alone as remote code, know nothing of processors and cards
AdaptCLIPModel.push_to_hub = pushing.push_model
AdaptCLIPModel.from_released = classmethod(released.from_released)
AnomalyDetectionPipeline.push_to_hub = pushing.push_pipeline
PromptBank.push_to_hub = prompt_banks.push_prompt_bank

AutoConfig.register(AdaptCLIPConfig.model_type, AdaptCLIPConfig)
AutoModel.register(AdaptCLIPConfig, AdaptCLIPModel)
AutoImageProcessor.register(AdaptCLIPConfig, image_processor_classes={"pil": AdaptCLIPImageProcessor})
AutoProcessor.register(AdaptCLIPConfig, AdaptCLIPProcessor)
PIPELINE_REGISTRY.register_pipeline(
    "anomaly-detection",
    pipeline_class=AnomalyDetectionPipeline,
    pt_model=AutoModel,
    default={"model": (DEFAULT_MODEL, "main")},
    type="image",
)

__all__ = [
    "DEFAULT_MODEL",
    "AdaptCLIPConfig",
    "AdaptCLIPImageProcessor",
    "AdaptCLIPModel",
    "AdaptCLIPProcessor",
    "AnomalyDetectionPipeline",
    "PromptBank",
]
