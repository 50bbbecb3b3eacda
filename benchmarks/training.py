"""What a training epoch costs with CLIP run again and with its features cached, and what memory a large CLIP takes.

    python benchmarks/training.py                      a CLIP of ViT-B/16's size at 512 px, epochs in turn
    python benchmarks/training.py --large              ViT-L/14@336's size at 518 px, the recipe's first steps

Random weights and procedural images; epochs alternate within one run, the ratio is of the medians.
"""

import argparse
import resource
import statistics
import tempfile
import time
from pathlib import Path

import torch
from transformers import AutoTokenizer, CLIPConfig, CLIPModel

from adaptclip_hf import DEFAULT_MODEL, AdaptCLIPModel, AdaptCLIPProcessor, AnomalyDetector
from adaptclip_hf.data import load_data_set
from adaptclip_hf.modeling.configuration_adaptclip import VIT_L_14_336
from adaptclip_hf.synthetic import write_dataset
from adaptclip_hf.training import AdaptCLIPTrainer, AdaptCLIPTrainingArguments, FeatureCache, PromptedImages
from adaptclip_hf.training.train import compute_features_once

VIT_B_16 = {
    "projection_dim": 512,
    "text_config": {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8, "projection_dim": 512},
    "vision_config": {"patch_size": 16, "image_size": 224, "projection_dim": 512},
}


def run(model, images: PromptedImages, folder: Path, **settings) -> tuple[float, list[dict]]:
    """Seconds and logged losses of some training from the adapters' first state."""
    args = AdaptCLIPTrainingArguments(
        str(folder), use_cpu=True, save_strategy="no", logging_steps=1, disable_tqdm=True, **settings
    )
    start = time.perf_counter()
    trainer = AdaptCLIPTrainer(model, args, train_dataset=images)
    trainer.train()
    return time.perf_counter() - start, [each for each in trainer.state.log_history if "loss" in each]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true", help="three steps of ViT-L/14@336's size")
    parser.add_argument("--images", type=int, default=16, help="training images, in batches of 8 (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="epochs of each kind (%(default)s)")
    args = parser.parse_args()
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(DEFAULT_MODEL)
    special = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    sizes = VIT_L_14_336 if args.large else VIT_B_16
    config = CLIPConfig(**{**sizes, "text_config": {**sizes["text_config"], **special}})
    model = AdaptCLIPModel.from_clip_pretrained(CLIPModel(config), tokenizer)
    first_state = {name: each.clone() for name, each in model.state_dict().items() if not name.startswith("clip.")}
    processor = AdaptCLIPProcessor.for_model(model.config, tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        count = 24 if args.large else args.images
        write_dataset(folder / "data", 2, size=518, train=4, good=count // 4, bad=count // 4)
        dataset = load_data_set(folder / "data")
        live = PromptedImages(dataset, processor)
        if args.large:
            seconds, losses = run(model, live, folder, max_steps=3)
            print(
                f"ViT-L/14@336 at {model.config.image_size} px, 3 steps of 8 images and their prompts: {seconds:.0f} s"
            )
            print("losses", ", ".join(f"{each['loss']:.3f}" for each in losses))
        else:
            kept = PromptedImages(dataset, processor)
            start = time.perf_counter()
            cache = FeatureCache(folder, AnomalyDetector(model, processor))
            compute_features_once([kept], cache, 10, torch.device("cpu"))
            print(f"encoding once: {time.perf_counter() - start:.1f} s")
            times, histories = {"live": [], "cached": []}, {}
            for _ in range(args.repeats):
                for name, images in (("live", live), ("cached", kept)):
                    model.load_state_dict(first_state, strict=False)
                    seconds, histories[name] = run(model, images, folder, num_train_epochs=1)
                    times[name].append(seconds)
                    print(f"{name}: {seconds:.1f} s", flush=True)
            one, two = (statistics.median(times[name]) for name in ("live", "cached"))
            print(f"epoch of {len(live)} images: {one:.1f} s with CLIP, {two:.1f} s cached, ratio {one / two:.1f}")
            pairs = zip(histories["live"], histories["cached"], strict=True)
            worst = max(abs(a["loss"] - b["loss"]) / a["loss"] for a, b in pairs)
            print(f"largest relative difference of a step's loss: {worst:.1e}")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")


if __name__ == "__main__":
    main()
