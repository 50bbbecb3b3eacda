#!/usr/bin/env python3
"""Scores images with this folder's ONNX graphs. Needs onnxruntime, Pillow and numpy alone.

python detect.py part.png ...                       zero-shot, or by the profile that was baked in
python detect.py part.png --normal ok1.png ok2.png  compared with normal images
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

FOLDER = Path(__file__).resolve().parent
ABOUT = json.loads((FOLDER / "adaptclip_export.json").read_text(encoding="utf-8"))


def open_graph(name: str) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(FOLDER / f"{name}.onnx", providers=["CPUExecutionProvider"])


def read_rgb(path: str) -> Image.Image:
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode.startswith("I"):  # 16-bit greys over their full range
        image = Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))
    elif image.mode == "F":
        image = Image.fromarray(np.round(np.asarray(image) * 255).astype(np.uint8))
    elif image.mode in ("P", "PA", "La", "RGBa"):
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    return image.convert("RGB")


def pixel_values(image: Image.Image) -> np.ndarray:
    """(1, 3, S, S) float32."""
    settings = ABOUT["preprocessing"]
    squared = image.resize((settings["size"], settings["size"]), Image.Resampling(settings["resample"]))
    values = (np.asarray(squared).astype(np.float64) * settings["rescale_factor"]).astype(np.float32)
    values = (values - np.float32(settings["image_mean"])) / np.float32(settings["image_std"])
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None])


def make_bank(paths: list[str]) -> dict[str, np.ndarray]:
    """The graphs' inputs bank.0, bank.1, ... (k, L, d): unit patch tokens of normal images, without class token."""
    encode = open_graph("encode")
    encoded = [encode.run(None, {"pixel_values": pixel_values(read_rgb(path))})[1:] for path in paths]
    layers = [np.concatenate(layer)[:, 1:] for layer in zip(*encoded, strict=True)]
    return {f"bank.{i}": layer / np.linalg.norm(layer, axis=-1, keepdims=True) for i, layer in enumerate(layers)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+")
    parser.add_argument("--normal", nargs="+", help="normal images to compare with")
    parser.add_argument("--maps", type=Path, help="folder for the anomaly maps, as .npy (S, S)")
    args = parser.parse_args()
    profile, bank = ABOUT["profile"] if not args.normal else None, make_bank(args.normal) if args.normal else {}
    detect = open_graph("detect_profile" if profile else "detect_few_shot" if bank else "detect_zero_shot")
    for path in args.images:
        image = read_rgb(path)
        if max(image.size) > 2 * min(image.size) and not (profile and profile["tile"] == "whole"):
            raise SystemExit(f"{path} is more than twice as long as high: adaptclip cuts it into tiles, this does not.")
        scores, maps = detect.run(["anomaly_scores", "anomaly_maps"], {"pixel_values": pixel_values(image), **bank})
        line = {"path": path, "score": float(scores[0])}
        if profile:
            line["label"] = "anomalous" if scores[0] > profile["threshold"] else "normal"
            line["p_value"] = (1 + sum(s >= scores[0] for s in profile["scores"])) / (len(profile["scores"]) + 1)
        if args.maps:
            args.maps.mkdir(parents=True, exist_ok=True)
            np.save(args.maps / f"{Path(path).stem}.npy", maps[0])
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
