"""transformers' common tests, applied to AdaptCLIP's classes and, as controls, to those of CLIP and CLIPSeg.

It is imported after `stand_ins.install`.
"""

import sys
import unittest
from types import ModuleType
from typing import ClassVar

import torch
from suite_pipelines import TASKS
from tests.test_configuration_common import ConfigTester
from tests.test_image_processing_common import ImageProcessingTester, ImageProcessingTestMixin
from tests.test_modeling_common import ModelTesterMixin
from tests.test_pipeline_mixin import PipelineTesterMixin, pipeline_test_mapping
from tests.test_processing_common import ProcessorTesterMixin
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPProcessor,
    CLIPSegConfig,
    CLIPSegForImageSegmentation,
    CLIPTokenizer,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from adaptclip_hf import (
    DEFAULT_MODEL,
    AdaptCLIPConfig,
    AdaptCLIPImageProcessor,
    AdaptCLIPModel,
    AdaptCLIPProcessor,
)

VISION = {
    "hidden_size": 32,
    "intermediate_size": 37,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 7,
}
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 37,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 99,
    "max_position_embeddings": 20,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}
CLIP = {"text_config": TEXT, "vision_config": VISION, "projection_dim": 16}


pipeline_test_mapping |= {task: {"test": tests} for task, tests in TASKS.items()}


class SmallModel:
    """What the common tests ask of a model tester."""

    batch_size = 2
    is_training = True
    image_size, patch_size, num_channels = VISION["image_size"], VISION["patch_size"], 3
    hidden_size, num_attention_heads = VISION["hidden_size"], VISION["num_attention_heads"]
    num_hidden_layers = VISION["num_hidden_layers"]
    seq_length = (image_size // patch_size) ** 2 + 1

    def __init__(self, parent):
        self.parent = parent

    def pixel_values(self) -> torch.Tensor:
        return torch.rand(self.batch_size, self.num_channels, self.image_size, self.image_size)

    def sentences(self) -> dict[str, torch.Tensor]:
        input_ids = torch.randint(3, TEXT["vocab_size"], (self.batch_size, 7))
        input_ids[:, -1] = TEXT["eos_token_id"]
        return {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}


class SmallAdaptCLIP(SmallModel):
    normal_images = 2

    def get_config(self) -> AdaptCLIPConfig:
        return AdaptCLIPConfig(
            clip_config=CLIPConfig(**CLIP),
            image_size=self.image_size,
            prompt_length=4,
            prompt_query_hidden_size=8,
            prompt_token_ids=[0, 5, 1],
        )

    def prepare_config_and_inputs_for_common(self):
        normal = torch.stack([self.pixel_values() for _ in range(self.normal_images)], dim=1)
        return self.get_config(), {"pixel_values": self.pixel_values(), "prompt_pixel_values": normal}


class SmallCLIP(SmallModel):
    def get_config(self) -> CLIPConfig:
        return CLIPConfig(**CLIP)

    def prepare_config_and_inputs_for_common(self):
        inputs = {**self.sentences(), "pixel_values": self.pixel_values(), "return_loss": True}
        return self.get_config(), inputs


class SmallCLIPSeg(SmallModel):
    def get_config(self) -> CLIPSegConfig:
        return CLIPSegConfig(
            **CLIP, extract_layers=[0, 1], reduce_dim=16, decoder_num_attention_heads=4, decoder_intermediate_size=37
        )

    def prepare_config_and_inputs_for_common(self):
        return self.get_config(), {**self.sentences(), "pixel_values": self.pixel_values()}


class AModel(ModelTesterMixin, PipelineTesterMixin):
    small: ClassVar[type[SmallModel]]
    test_resize_embeddings = False
    has_attentions = True
    _is_composite = True
    pipeline_model_mapping: ClassVar[dict] = {}

    def setUp(self):
        torch.manual_seed(0)
        self.model_tester = self.small(self)
        self.config_tester = ConfigTester(
            self, config_class=type(self.model_tester.get_config()), has_text_modality=False, **self.config_inputs()
        )

    def config_inputs(self) -> dict:
        return {"projection_dim": 16}

    def test_pipeline_anomaly_detection(self):
        self.run_task_tests("anomaly-detection")

    def test_config(self):
        self.config_tester.run_common_tests()


class AdaptCLIPModelTest(AModel, unittest.TestCase):
    small = SmallAdaptCLIP
    all_model_classes = (AdaptCLIPModel,)
    pipeline_model_mapping: ClassVar[dict] = {"anomaly-detection": AdaptCLIPModel}

    def config_inputs(self) -> dict:
        return {"prompt_length": 4}

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels=return_labels)
        if return_labels:
            size = self.model_tester.image_size
            inputs["labels"] = torch.tensor([0, 1])
            inputs["mask_labels"] = torch.stack([torch.zeros(size, size), torch.ones(size, size)])
        return inputs


class CLIPModelTest(AModel, unittest.TestCase):
    small = SmallCLIP
    all_model_classes = (CLIPModel,)


class CLIPSegModelTest(AModel, unittest.TestCase):
    small = SmallCLIPSeg
    all_model_classes = (CLIPSegForImageSegmentation,)


def as_in_folder(name: str):
    """Puts a class where transformers' tests of a model stand: some tests read the model's name from the path."""

    def put(test_class):
        module = sys.modules[name] = ModuleType(name)
        module.__file__ = f"/tests/models/{name}/test_{name}.py"
        test_class.__module__ = name
        return test_class

    return put


class SmallImages(ImageProcessingTester):
    classes: ClassVar[dict] = {}

    def __init__(self, parent):
        super().__init__(
            parent,
            batch_size=3,
            max_resolution=80,
            size={"height": 20, "width": 20},
            do_resize=True,
            do_normalize=True,
            image_mean=[0.48, 0.46, 0.41],
            image_std=[0.27, 0.26, 0.28],
            do_convert_rgb=True,
        )

    def _get_image_processing_classes(self):
        return self.classes


class OurImages(SmallImages):
    classes = {"pil": AdaptCLIPImageProcessor}


class CLIPImages(SmallImages):
    classes = {"pil": CLIPImageProcessorPil}

    def __init__(self, parent):
        super().__init__(parent)
        self.size, self.crop_size, self.do_center_crop = {"shortest_edge": 20}, {"height": 18, "width": 18}, True


@as_in_folder("adaptclip")
class AdaptCLIPImageProcessorTest(ImageProcessingTestMixin, unittest.TestCase):
    image_processor_tester_class = OurImages


@as_in_folder("clip")
class CLIPImageProcessorTest(ImageProcessingTestMixin, unittest.TestCase):
    image_processor_tester_class = CLIPImages


class AProcessor(ProcessorTesterMixin):
    of_images: type

    @classmethod
    def _setup_tokenizer(cls):
        return CLIPTokenizer.from_pretrained(DEFAULT_MODEL)

    @classmethod
    def _setup_image_processor(cls):
        return cls.of_images()


@as_in_folder("adaptclip")
class AdaptCLIPProcessorTest(AProcessor, unittest.TestCase):
    processor_class, of_images = AdaptCLIPProcessor, AdaptCLIPImageProcessor


@as_in_folder("clip")
class CLIPProcessorTest(AProcessor, unittest.TestCase):
    processor_class, of_images = CLIPProcessor, CLIPImageProcessorPil


# of each suite: our class, and the controls
SUITES = {
    "model": (AdaptCLIPModelTest, CLIPSegModelTest, CLIPModelTest),
    "image processor": (AdaptCLIPImageProcessorTest, CLIPImageProcessorTest),
    "processor": (AdaptCLIPProcessorTest, CLIPProcessorTest),
}
