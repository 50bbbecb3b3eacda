"""What `PipelineTesterMixin` looks up by name: the small models, and for each task a pipeline of one and its examples.

transformers' own of these are on the Hub and not distributed.
"""

from pathlib import Path

import numpy as np
import transformers
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer, pipeline

from adaptclip_hf import DEFAULT_MODEL, AdaptCLIPImageProcessor, AdaptCLIPModel, AdaptCLIPProcessor

SUMMARY = {
    "AdaptCLIPModel": {"tokenizer_classes": ["CLIPTokenizer"], "processor_classes": ["AdaptCLIPImageProcessor"]},
}


def images() -> list[Image.Image]:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 60, 50, 3), dtype=np.uint8)
    return [Image.fromarray(each) for each in pixels]


class AnomalyDetectionPipelineTests:
    def get_test_pipeline(self, model, tokenizer, image_processor, dtype, **others):
        processor = AdaptCLIPProcessor(image_processor, tokenizer)
        return pipeline("anomaly-detection", model=model, processor=processor, dtype=dtype), images()

    def run_pipeline_test(self, detect, examples):
        for found, image in zip(detect(examples), examples, strict=True):
            assert 0 <= found["score"] <= 1 and found["anomaly_map"].shape == image.size[::-1]


TASKS = {"anomaly-detection": f"{__name__}.AnomalyDetectionPipelineTests"}


def save_small_models(folder: Path, clip_config):
    """Saves that of [`SUMMARY`] where the mixin looks for it, with a tokenizer and an image processor."""
    transformers.AdaptCLIPImageProcessor = AdaptCLIPImageProcessor  # the mixin finds classes by their names there
    tokenizer = CLIPTokenizer.from_pretrained(DEFAULT_MODEL)
    clip_config.text_config.vocab_size = len(tokenizer)
    size = clip_config.vision_config.image_size
    settings = {"image_size": size, "prompt_query_hidden_size": 8}
    model = AdaptCLIPModel.from_clip_pretrained(CLIPModel(clip_config), tokenizer, **settings)
    for part in (model, tokenizer, AdaptCLIPImageProcessor(size={"height": size, "width": size})):
        part.save_pretrained(folder / model.config.model_type / type(model).__name__)
