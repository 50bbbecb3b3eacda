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
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    args = parser.parse_args()
    torch.manual_seed(0)
    model = AdaptCLIPModel(AdaptCLIPConfig()).eval()
    model.static_text_embeds.normal_()
    model.save_pretrained(args.output)
    # another CLIP's tokenizer: no word is ever encoded with it
    AdaptCLIPProcessor.for_model(model.config, AutoTokenizer.from_pretrained(DEFAULT_MODEL)).save_pretrained(
        args.output
    )


if __name__ == "__main__":
    main()
