#!/usr/bin/env python3
"""Scores images with this folder's ONNX graphs. Needs onnxruntime, Pillow and numpy alone.

python detect.py part.png ...                       zero-shot, or by the profile that was baked in
python detect.py part.png --normal ok1.png ok2.png  compared with normal images
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image
from PIL.PngImagePlugin import PngInfo

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))
from image_opening import read_rgb  # noqa: E402  (the file beside this one: it reads and refuses what adaptclip does)


def refuse(number: str):
    """Ends the program: a score is above no threshold that is NaN, so that each would be normal."""
    raise SystemExit(f"{FOLDER / 'adaptclip_export.json'} holds {number}, which is no number: export the model again.")


REACH = 0.7  # of the threshold: how far a region reaches, as in adaptclip
MOST_REGIONS = 200
ABOUT = json.loads((FOLDER / "adaptclip_export.json").read_text(encoding="utf-8"), parse_constant=refuse)
COMPUTES_IN = "int8" if ABOUT["precision"] == "int8" else "float32"  # in float16 weights are stored, and widened again


def require_undamaged(name: str):
    """Ends the program where a graph, its weights or the description is not what was written."""
    sums = FOLDER / "SHA256SUMS"
    lines = sums.read_text(encoding="utf-8").splitlines() if sums.is_file() else []  # older folders have none
    for digest, file in (line.split(maxsplit=1) for line in lines):
        needed = file.endswith((".data", ".json")) or file == f"{name}.onnx"
        if needed and hashlib.sha256((FOLDER / file).read_bytes()).hexdigest() != digest:
            raise SystemExit(f"{FOLDER / file} is damaged or was changed: export the model again.")


def open_graph(name: str) -> onnxruntime.InferenceSession:
    require_undamaged(name)
    return onnxruntime.InferenceSession(FOLDER / f"{name}.onnx", providers=["CPUExecutionProvider"])


def pixel_values(image: Image.Image) -> np.ndarray:
    """(1, 3, S, S) float32."""
    settings = ABOUT["preprocessing"]
    squared = image.resize((settings["size"], settings["size"]), Image.Resampling(settings["resample"]))
    values = (np.asarray(squared).astype(np.float64) * settings["rescale_factor"]).astype(np.float32)
    values = (values - np.float32(settings["image_mean"])) / np.float32(settings["image_std"])
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None])


def make_bank(paths: list[str], inputs: list[str]) -> dict[str, np.ndarray]:
    """What a graph with these inputs takes of normal images: bank.0, bank.1, ... (k, L, d), their unit patch tokens
    without class token, and the variation.* that it names."""
    encode = open_graph("encode")
    encoded = [encode.run(None, {"pixel_values": pixel_values(read_rgb(path))})[1:] for path in paths]
    tokens = [np.concatenate(layer)[:, 1:] for layer in zip(*encoded, strict=True)]
    layers = [layer / np.linalg.norm(layer, axis=-1, keepdims=True) for layer in tokens]
    bank = {f"bank.{i}": layer for i, layer in enumerate(layers)}
    known = variation(layers) if any(name.startswith("variation.") for name in inputs) else {}
    return bank | {name: known[name] for name in inputs if name in known}


def variation(layers: list[np.ndarray]) -> dict[str, np.ndarray]:
    """How normal images (k, L, d) differ from one another: what the normal_variation.py of adaptclip_hf computes."""
    whole = np.stack([layer.mean(1) for layer in layers], 1)  # (k, n, d)
    mean, scale = np.zeros((len(layers), layers[0].shape[1])), np.full(len(layers), 0.1)
    spread = mean + 0.1
    if (count := len(whole)) > 1:
        own = np.stack([leave_one_out(layer) for layer in layers])  # (n, q, L)
        variance, overall = own.var(1, ddof=1), own.mean((1, 2))[:, None]
        typical, between = variance.mean(1, keepdims=True), np.square(own.mean(1) - overall).mean(1, keepdims=True)
        reliable = np.clip(1 - typical / own.shape[1] / np.maximum(between, 1e-12), 0, 1)
        mean = overall + reliable * (own.mean(1) - overall)
        weight = reliable * own.shape[1] / (own.shape[1] + 4)
        spread = np.sqrt(weight * variance + (1 - weight) * typical)
        spread = np.maximum(spread + 0.5 * spread.mean(1, keepdims=True), 0.005)
        unit = whole / np.linalg.norm(whole, axis=-1, keepdims=True)
        similarity = np.einsum("bnd,knd->bkn", unit, unit) - 3 * np.eye(count)[:, :, None]
        scale = np.maximum(np.maximum(1 - similarity.max(1), 0).mean(0), 1e-4)
    values = {"mean": mean, "spread": spread, "whole": whole, "whole_scale": scale}
    return {f"variation.{name}": value.astype(np.float32) for name, value in values.items()}


def leave_one_out(layer: np.ndarray) -> np.ndarray:
    """(q, L) distance of each patch of at most 64 of the images (k, L, d) to the nearest one of the others."""
    asking = np.linspace(0, len(layer) - 1, min(len(layer), 64)).round().astype(int)
    nearest = [np.max([(layer[one] @ each.T).max(1) for i, each in enumerate(layer) if i != one], 0) for one in asking]
    return np.maximum(1 - np.stack(nearest), 0)


def score(detect, path: str, bank: dict[str, np.ndarray], profile: dict | None) -> tuple[dict, np.ndarray, Image.Image]:
    """The line of an image, its map (S, S) and its pixels."""
    image = read_rgb(path)
    if max(image.size) > 2 * min(image.size) and not (profile and profile["tile"] == "whole"):
        raise ValueError(f"{path} is more than twice as long as high: adaptclip cuts it into tiles, this does not.")
    scores, maps = detect.run(["anomaly_scores", "anomaly_maps"], {"pixel_values": pixel_values(image), **bank})
    if not (np.isfinite(scores).all() and np.isfinite(maps).all()):
        raise ValueError(f"{path}: the score is not finite, so that it says nothing. Are the graphs damaged?")
    line = {"path": path, "score": float(scores[0]), "dtype": COMPUTES_IN}
    if profile:
        line["label"] = "anomalous" if scores[0] > profile["threshold"] else "normal"
        line["margin"] = line["score"] / profile["threshold"] if profile["threshold"] > 0 else None
        line["p_value"] = (1 + sum(s >= scores[0] for s in profile["scores"])) / (len(profile["scores"]) + 1)
        found = line["label"] == "anomalous" and profile["pixel_threshold"] is not None
        line["regions"] = find_regions(maps[0], profile["pixel_threshold"], image.size) if found else []
    return line, maps[0], image


def find_regions(anomaly_map: np.ndarray, threshold: float, size: tuple[int, int]) -> list[dict]:
    """Connected parts of a map (S, S) with some value above the threshold, as far as 0.7 of it; the highest first.

    As adaptclip finds them, in the pixels of an image of that width and height, but looked for in the model's square
    map, and with the corners of all pixels at the edge as polygon, unsmoothed.
    """
    highest = float(anomaly_map.max())
    significant = highest > threshold
    parts = labelled(anomaly_map > REACH * (threshold if significant else highest))
    numbers = np.unique(parts[anomaly_map > threshold]) if significant else [parts.flat[anomaly_map.argmax()]]
    across, down = size[0] / anomaly_map.shape[1], size[1] / anomaly_map.shape[0]
    regions = []
    for number in numbers if highest > 0 else []:
        inside = parts == number
        (top, bottom), (left, right) = (np.flatnonzero(inside.any(axis))[[0, -1]] for axis in (1, 0))
        x, y = round(left * across), round(top * down)
        regions.append(
            {
                "box": [x, y, round((right + 1) * across) - x, round((bottom + 1) * down) - y],
                "polygon": [[round(x * across, 2), round(y * down, 2)] for x, y in outline(inside)],
                "area": round(int(inside.sum()) * across * down),
                "share": float(inside.mean()),
                "peak": float(anomaly_map[inside].max()),
                "mean": float(anomaly_map[inside].mean()),
                "significant": significant,
            }
        )
    return sorted(regions, key=lambda region: -region["peak"])[:MOST_REGIONS]


def labelled(above: np.ndarray) -> np.ndarray:
    """(H, W) with a number for each part that is connected by sides and corners, 0 outside.

    Each pixel takes the highest number around it, along whole runs at a time, until nothing changes.
    """
    parts = np.where(above, np.arange(1, above.size + 1).reshape(above.shape), 0)
    while True:
        padded = np.pad(parts, 1)
        rows = np.maximum(np.maximum(padded[:-2], padded[1:-1]), padded[2:])
        spread = np.maximum(np.maximum(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])
        spread = np.where(above, spread, 0)
        for _ in range(2):  # along rows, then along columns
            spread = along_rows(spread).T
        if (spread == parts).all():
            return parts
        parts = spread


def along_rows(parts: np.ndarray) -> np.ndarray:
    """Each run of numbers in a row with its highest one in all places."""
    begins = np.pad(parts > 0, ((0, 0), (1, 0)))
    runs = np.cumsum((begins[:, 1:] != begins[:, :-1]).ravel()) + np.repeat(np.arange(len(parts)), parts.shape[1])
    firsts = np.flatnonzero(np.diff(runs, prepend=-1))
    highest = np.maximum.reduceat(parts.ravel(), firsts)
    return np.repeat(highest, np.diff(firsts, append=parts.size)).reshape(parts.shape)


def outline(inside: np.ndarray) -> list[tuple[int, int]]:
    """The corners (x, y) of the outer outline of one connected part, with the part on the right hand."""
    padded = np.pad(inside, 1)
    y, x = (int(each) for each in np.argwhere(inside)[0])
    start, corners = (x, y, 1, 0), []
    dx, dy = 1, 0  # along the upper side of the first pixel
    while True:
        x, y = x + dx, y + dy
        if at(padded, x, y, dx, dy, -1):
            corners.append((x, y))
            dx, dy = dy, -dx
        elif not at(padded, x, y, dx, dy, 1):
            corners.append((x, y))
            dx, dy = -dy, dx
        if (x, y, dx, dy) == start:
            return corners


def at(padded: np.ndarray, x: int, y: int, dx: int, dy: int, side: int) -> bool:
    """Whether the pixel ahead of a corner on the left (-1) or right (1) hand is inside."""
    column, row = x + 0.5 * (dx - side * dy), y + 0.5 * (dy + side * dx)
    return bool(padded[int(np.floor(row)) + 1, int(np.floor(column)) + 1])


def heatmap(image: Image.Image, anomaly_map: np.ndarray, stops: list[list[float]]) -> Image.Image:
    """The map (S, S) over its image, in the colours of adaptclip: `stops` of value, red, green, blue and opacity."""
    values = np.asarray(Image.fromarray(anomaly_map).resize(image.size, Image.Resampling.BILINEAR))
    at_value = np.array(stops).T
    *colours, opacity = (np.interp(values, at_value[0], each) for each in at_value[1:])
    opacity = np.where(values > at_value[0, 0], opacity, 0)[..., None]
    return Image.fromarray((np.asarray(image) * (1 - opacity) + np.stack(colours, -1) * opacity + 0.5).astype(np.uint8))


def save_heatmap(file: Path, drawn: Image.Image):
    """Writes a PNG which says what drew it, so that adaptclip takes it for no photo."""
    fields = PngInfo()
    fields.add_text("Software", "adaptclip-hf")
    drawn.save(file, pnginfo=fields)


def name_of_map(path: str, taken: set[str]) -> str:
    """The image's name without ending, with a number where another image has it."""
    stem, name, number = Path(path).stem, Path(path).stem, 1
    while name.lower() in taken:
        number += 1
        name = f"{stem}-{number}"
    taken.add(name.lower())
    return name


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+")
    parser.add_argument("--normal", nargs="+", help="normal images to compare with")
    parser.add_argument("--maps", type=Path, help="folder for the anomaly maps, as .npy (S, S)")
    parser.add_argument("--heatmaps", type=Path, help="folder for the maps over their images, as .png")
    args = parser.parse_args()
    profile = ABOUT["profile"] if not args.normal else None
    detect = open_graph("detect_profile" if profile else "detect_few_shot" if args.normal else "detect_zero_shot")
    try:
        bank = make_bank(args.normal, [port.name for port in detect.get_inputs()]) if args.normal else {}
    except (OSError, ValueError) as error:
        raise SystemExit(f"a normal image: {error}") from None
    failed = 0
    names: set[str] = set()
    stops = (profile or ABOUT).get("colours")
    if args.heatmaps and not stops:
        raise SystemExit("This folder is of an earlier version, which knows no colours: export the model again.")
    for folder in filter(None, (args.maps, args.heatmaps)):
        folder.mkdir(parents=True, exist_ok=True)
    for path in args.images:
        try:
            line, anomaly_map, image = score(detect, path, bank, profile)
        except (OSError, ValueError) as error:
            print(json.dumps({"path": path, "score": None, "error": str(error)}), flush=True)
            failed += 1
            continue
        name = name_of_map(path, names)
        if args.maps:
            np.save(args.maps / f"{name}.npy", anomaly_map)
        if args.heatmaps:
            save_heatmap(args.heatmaps / f"{name}.png", heatmap(image, anomaly_map, stops))
        print(json.dumps(line), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
