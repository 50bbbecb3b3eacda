"""A ViT-L/14@336 AdaptCLIP of random weights, to measure speed and memory with: 1.7 GB in float32.

python benchmarks/random_vitl.py --output vitl/
adaptclip benchmark --model vitl/
"""

import argparse
from pathlib import Path

import torch
from transformers import AutoTokenizer

from adaptclip_hf import DEFAULT_MODEL, AdaptCLIPConfig, AdaptCLIPModel, AdaptCLIPProcessor


@torch.no_grad()
def random_model(config: AdaptCLIPConfig) -> tuple[AdaptCLIPModel, AdaptCLIPProcessor]:
    """A model of random weights, ready to score, and its processor; the same ones for each call."""
    torch.manual_seed(0)
    model = AdaptCLIPModel(config).eval()
    model.static_text_embeds.normal_()
    # another CLIP's tokenizer: no word is ever encoded with it
    return model, AdaptCLIPProcessor.for_model(model.config, AutoTokenizer.from_pretrained(DEFAULT_MODEL))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    args = parser.parse_args()
    for part in random_model(AdaptCLIPConfig()):
        part.save_pretrained(args.output)


if __name__ == "__main__":
    main()
