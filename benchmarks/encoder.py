"""What two paths cost: the AdaptCLIP image encoder against HF's CLIPVisionModel, and a few-shot score against both.

    python benchmarks/encoder.py            a random ViT-L/14@336 at 518 px
    python benchmarks/encoder.py --small    a ViT-B/16 at 224 px, in seconds

All on the same input with the same attention (sdpa), alternating within one run; the medians' ratios are what to
read, since machines are shared. Targets: image encoder at most 1.25 x CLIPVisionModel, few-shot score with a ready bank
at most 1.1 x image encoder.
"""

import argparse
import resource
import statistics

import torch
from transformers import CLIPConfig
from turns import in_turn

from adaptclip_hf import AdaptCLIPConfig, AdaptCLIPModel

VIT_B_16 = {
    "vision_config": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "patch_size": 16},
    "text_config": {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 1, "num_attention_heads": 2},
}


@torch.inference_mode()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a ViT-B/16 at 224 px")
    parser.add_argument("--rounds", type=int, default=5, help="rounds after one to warm up (%(default)s)")
    parser.add_argument("--shots", type=int, default=1, help="normal images in the bank (%(default)s)")
    args = parser.parse_args()
    torch.manual_seed(0)
    config = AdaptCLIPConfig(clip_config=CLIPConfig(**VIT_B_16), image_size=224) if args.small else AdaptCLIPConfig()
    model = AdaptCLIPModel(config).eval()
    model.static_text_embeds.normal_()
    size = config.image_size
    pixel_values = torch.randn(1, 3, size, size)
    bank = model.encode_prompts(torch.randn(args.shots, 3, size, size))
    jobs = {
        "CLIPVisionModel": lambda: model.clip.vision_model(pixel_values, interpolate_pos_encoding=True),
        "image encoder": lambda: model.image_features(pixel_values),
        f"{args.shots}-shot score": lambda: model(pixel_values, prompt_bank=bank),
    }
    seconds = in_turn(jobs, args.rounds)
    vision = config.clip_config.vision_config
    print(
        f"{vision.num_hidden_layers} layers of width {vision.hidden_size}, patch {vision.patch_size}, {size} px, "
        f"{torch.get_num_threads()} threads, medians of {args.rounds}"
    )
    median = {name: statistics.median(values) for name, values in seconds.items()}
    for name, value in median.items():
        print(f"{name:16} {value:7.3f} s   ({min(seconds[name]):.3f} to {max(seconds[name]):.3f})")
    base, encoder, score = median.values()
    print(f"image encoder / CLIPVisionModel: {encoder / base:.3f}  (target 1.25)")
    print(f"{args.shots}-shot score / image encoder:     {score / encoder:.3f}  (target 1.1)")
    print(f"peak memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
