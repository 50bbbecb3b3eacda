"""The training loss: cross-entropy for the image, focal and dice for the map (reference, "Training")."""

import torch
from torch.nn import functional as F

FOCAL_SMOOTHING = 1e-5
UNKNOWN_MASK = -100


def focal_loss(probabilities: torch.Tensor, mask_labels: torch.Tensor) -> torch.Tensor:
    """Focal loss (B,) with gamma 2 of each image's two-class probabilities (B, 2, S, S) against its 0/1 mask."""
    target = torch.stack([1 - mask_labels, mask_labels], dim=1).clamp(FOCAL_SMOOTHING, 1 - FOCAL_SMOOTHING)
    true_probability = (target * probabilities).sum(1) + FOCAL_SMOOTHING
    return (-((1 - true_probability) ** 2) * true_probability.log()).mean((1, 2))


def dice_loss(probability: torch.Tensor, mask_labels: torch.Tensor) -> torch.Tensor:
    """1 - dice coefficient (B,) of each image's map (B, S, S) against its 0/1 mask, smoothed by 1."""
    overlap = (probability * mask_labels).sum((1, 2))
    total = probability.sum((1, 2)) + mask_labels.sum((1, 2))
    return 1 - (2 * overlap + 1) / (total + 1)


def adapter_loss(
    logits: torch.Tensor, probabilities: torch.Tensor, labels: torch.Tensor | None, mask_labels: torch.Tensor | None
) -> torch.Tensor:
    """Loss of one adapter's image logits (B, 2) and two-class map (B, 2, S, S), in float32.

    Args:
        labels: (B,), 0 normal or 1 anomalous; `None` leaves the image term out.
        mask_labels: (B, S, S), 0 or 1; -100 throughout leaves the map terms of an image out, and `None` those of all.
    """
    loss = logits.new_zeros(())
    if labels is not None:
        loss = loss + F.cross_entropy(logits, labels.long())
    if mask_labels is not None:
        mask_labels = mask_labels.to(probabilities.dtype)
        known = (mask_labels[:, 0, 0] != UNKNOWN_MASK).to(probabilities.dtype)
        mask_labels = mask_labels.clamp_min(0)
        map_loss = focal_loss(probabilities, mask_labels)
        map_loss = map_loss + dice_loss(probabilities[:, 1], mask_labels)
        map_loss = map_loss + dice_loss(probabilities[:, 0], 1 - mask_labels)
        loss = loss + (map_loss * known).sum() / known.sum().clamp_min(1)
    return loss
