"""Makes transformers know AdaptCLIP: `pipeline("anomaly-detection")`, `AutoModel` and their like."""

import sys
from functools import cache
from pathlib import Path

from .model_files import DEFAULT_MODEL


def is_command() -> bool:
    """Whether this process is `adaptclip` or `python -m adaptclip_hf.cli`, whose help needs none of transformers."""
    return Path(sys.argv[0]).name in ("adaptclip", "adaptclip.exe") or "adaptclip_hf.cli" in sys.orig_argv[:4]


def publish(thing, repo_id: str, **options) -> str:
    """[`adaptclip_hf.hub.publishing.publish`], imported when it is called."""
    from .hub import publishing

    return publishing.publish(thing, repo_id, **options)


def load_released(model_class, source=None, **options):
    """[`adaptclip_hf.hub.released.load_released`], imported when it is called."""
    from .hub import released

    return released.load_released(model_class, source, **options)


@cache
def register():
    """Registers configuration, model, processors and pipeline, and what the package adds to the model's own code.

    This imports transformers, which takes seconds.
    """
    from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoProcessor
    from transformers.pipelines import PIPELINE_REGISTRY

    from .modeling import AdaptCLIPConfig, AdaptCLIPModel, hooks
    from .pipeline import AnomalyDetectionPipeline
    from .processing import AdaptCLIPImageProcessor, AdaptCLIPProcessor
    from .runtimes import ExportedAdaptCLIP, ExportedAdaptCLIPConfig

    hooks.publish, hooks.load_released = publish, load_released
    image_processors = {"pil": AdaptCLIPImageProcessor}
    for config, model in ((AdaptCLIPConfig, AdaptCLIPModel), (ExportedAdaptCLIPConfig, ExportedAdaptCLIP)):
        AutoConfig.register(config.model_type, config, exist_ok=True)
        AutoModel.register(config, model, exist_ok=True)
        AutoImageProcessor.register(config, image_processor_classes=image_processors, exist_ok=True)
        AutoProcessor.register(config, AdaptCLIPProcessor, exist_ok=True)
    PIPELINE_REGISTRY.register_pipeline(
        "anomaly-detection",
        pipeline_class=AnomalyDetectionPipeline,
        pt_model=AutoModel,
        default={"model": (DEFAULT_MODEL, "main")},
        type="image",
    )
