"""Makes compact.safetensors and compact.json beside this file of one of the reference cases.

    python tests/reference/make.py ../shared/reference

The authors' program printed the numbers; this keeps as many of them as fit into two and a half megabytes: all of the
adapters and of the text tower, the image encoder up to its first layer of two paths, the embeddings from which the
heads start, maps at every fourth pixel, losses, the draws of prompts, and a set of scores with its figures.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from adaptclip_hf.cli import main as adaptclip
from adaptclip_hf.modeling import AdaptCLIPModel

HERE, STRIDE = Path(__file__).parent, 4


def main(reference: Path, work: Path):
    case = reference / "case_b"
    settings = json.loads((case / "case.json").read_text())
    inputs, expected = load_file(case / "inputs.safetensors"), load_file(case / "expected.safetensors")
    training, clip = load_file(case / "training.safetensors"), load_file(case / "clip" / "model.safetensors")
    tensors = {"pixel_values": inputs["pixel_values"][:1], "labels": inputs["labels"]}
    tensors["mask_labels"] = inputs["mask_labels"].to(torch.uint8)

    # the encoder up to the patch path of layer 2: all of layer 1, of layer 2 what its values pass through
    kept = ("vision_model.embeddings", "vision_model.pre_", "vision_model.post_", "visual_projection", "text_", "logit")
    layer_2 = ("layer_norm1", "self_attn.v_proj", "self_attn.out_proj")
    table = clip["text_model.embeddings.token_embedding.weight"]
    used = table.abs().sum(1).nonzero().flatten()
    for name, tensor in clip.items():
        if "token_embedding" in name:
            tensors |= {"token_rows": used, "token_embeddings": table[used]}
        elif name.startswith((*kept, "vision_model.encoder.layers.0")) or (
            name.startswith("vision_model.encoder.layers.1") and any(part in name for part in layer_2)
        ):
            tensors[f"clip.{name}"] = tensor

    adapters = torch.load(case / "adapters.pth", weights_only=True)
    for learner, state in adapters.items():
        for name, tensor in state.items():
            shared = "pq_learner" in learner and name.split(".")[0] != "sharebn" and name.split(".")[1] != "0"
            if not shared:  # a head that all layers share stands in the checkpoint once a layer
                tensors[f"adapters.{learner}.{name}"] = tensor

    folder = convert(case, settings, work)
    model = AdaptCLIPModel.from_pretrained(folder)
    prompts = model.image_features(inputs["prompt_pixel_values"].flatten(0, 1))
    for layer, embeds in enumerate(prompts.patch_embeds):
        tensors[f"prompt_patch_embeds.{layer}"] = embeds
    for name, tensor in expected.items():
        tensors[f"expected.{name}"] = tensor[..., ::STRIDE, ::STRIDE] if "map" in name else tensor
    tensors |= {f"expected.{name}": tensor for name, tensor in training.items() if name.startswith("loss")}

    scores = load_file(reference / "metrics" / "with_ties.safetensors")
    levels, places = scores.pop("anomaly_maps").unique(return_inverse=True)  # a few values, many ties
    tensors |= {"metrics.map_levels": levels, "metrics.map_places": places.to(torch.uint8)}
    tensors |= {f"metrics.{name}": tensor for name, tensor in scores.items()}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, HERE / "compact.safetensors")
    content = {
        "case": settings,
        "vocabulary": len(table),
        "map_stride": STRIDE,
        "metrics": json.loads((reference / "metrics" / "with_ties.json").read_text()),
        "draws": json.loads((reference / "prompt_sampling.json").read_text())["draws"],
    }
    (HERE / "compact.json").write_text(json.dumps(content) + "\n")


def convert(case: Path, settings: dict, folder: Path) -> Path:
    words = ["convert", "--checkpoint", case / "adapters.pth", "--clip", case / "clip", "--output", folder]
    words += ["--image-size", settings["img"], "--feature-layers", *settings["features"]]
    words += ["--num-dual-path-layers", settings["dpam_layer"] - 1, "--no-prompt-query-context"]
    if adaptclip([str(word) for word in words]) != 0:
        raise SystemExit("the case could not be converted")
    return folder


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else "recipe-output/compact"))
