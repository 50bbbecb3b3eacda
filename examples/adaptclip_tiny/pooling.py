"""Stage 7: chooses how a map becomes a score, on categories that no stage was trained on."""

from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from adaptclip_hf import AnomalyDetector
from adaptclip_hf.evaluation.metrics import score_figures
from adaptclip_hf.processing.image_loading import load_image

SHARES = (0.0, 0.001, 0.003, 0.01, 0.03)


def choose_peak_share(folder: Path, held_out: Path) -> float:
    """The `peak_share` with the highest mean 4-shot image AUROC over the held-out categories; all are printed."""
    detector = AnomalyDetector.from_pretrained(str(folder))
    figures = {share: [] for share in SHARES}
    for category in tqdm(sorted(path for path in held_out.iterdir() if path.is_dir()), "held-out"):
        bank = detector.remember(sorted(category.glob("train/good/*.png")))
        images = sorted(category.glob("test/*/*.png"))
        labels = np.array([image.parent.name != "good" for image in images])
        pixel_values = detector.processor([load_image(image) for image in images])["pixel_values"]
        features = detector.encode(torch.as_tensor(pixel_values))
        for share in SHARES:
            detector.model.config.peak_share = share
            scores, _ = detector.score(features, bank)
            figures[share].append(score_figures("image", scores.numpy(), labels)["image_auroc"])
    for share, found in figures.items():
        print(f"peak_share {share}: 4-shot image AUROC {np.mean(found):.4f} over {len(found)} held-out categories")
    return max(SHARES, key=lambda share: np.mean(figures[share]))
