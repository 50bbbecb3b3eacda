"""What `PipelineTesterMixin` looks up by name: the small models, and for each task a pipeline of one and its examples.

transformers' own of these are on the Hub and not distributed.
"""

from pathlib import Path

import numpy as np
import transformers
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer, pipeline
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from adaptclip_hf import DEFAULT_MODEL, AdaptCLIPImageProcessor, AdaptCLIPModel, AdaptCLIPProcessor

SUMMARY = {
    "AdaptCLIPModel": {"tokenizer_classes": ["CLIPTokenizer"], "processor_classes": ["AdaptCLIPImageProcessor"]},
    "CLIPModel": {"tokenizer_classes": ["CLIPTokenizer"], "processor_classes": ["CLIPImageProcessorPil"]},
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


class ZeroShotImageClassificationPipelineTests:
    def get_test_pipeline(self, model, tokenizer, image_processor, dtype, **others):
        task, labels = "zero-shot-image-classification", ["good", "bad"]
        classify = pipeline(task, model=model, tokenizer=tokenizer, image_processor=image_processor, dtype=dtype)
        classify._preprocess_params["candidate_labels"] = labels
        return classify, images()

    def run_pipeline_test(self, classify, examples):
        assert [len(found) for found in classify(examples)] == [2, 2]


TASKS = {
    "anomaly-detection": f"{__name__}.AnomalyDetectionPipelineTests",
    "zero-shot-image-classification": f"{__name__}.ZeroShotImageClassificationPipelineTests",
}


def save_small_models(folder: Path, clip_config):
    """Saves those of [`SUMMARY`] where the mixin looks for them, with a tokenizer and an image processor."""
    transformers.AdaptCLIPImageProcessor = AdaptCLIPImageProcessor  # the mixin finds classes by their names there
    tokenizer = CLIPTokenizer.from_pretrained(DEFAULT_MODEL)
    clip_config.text_config.vocab_size = len(tokenizer)
    size = clip_config.vision_config.image_size
    square = {"height": size, "width": size}
    clip = CLIPModel(clip_config)
    ours = AdaptCLIPModel.from_clip_pretrained(clip, tokenizer, image_size=size, prompt_query_hidden_size=8)
    for model, processor in (
        (ours, AdaptCLIPImageProcessor(size=square)),
        (clip, CLIPImageProcessorPil(size=square, crop_size=square)),
    ):
        for part in (model, tokenizer, processor):
            part.save_pretrained(folder / model.config.model_type / type(model).__name__)
