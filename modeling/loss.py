"""The training loss: cross-entropy for the image, focal and dice for the map (reference, "Training")."""

import torch
from torch.nn import functional as F

FOCAL_SMOOTHING = 1e-5


def focal_loss(probabilities: torch.Tensor, mask_labels: torch.Tensor) -> torch.Tensor:
    """Focal loss with gamma 2 on two-class probabilities (B, 2, S, S) against a 0/1 mask (B, S, S)."""
    target = torch.stack([1 - mask_labels, mask_labels], dim=1).clamp(FOCAL_SMOOTHING, 1 - FOCAL_SMOOTHING)
    true_probability = (target * probabilities).sum(1) + FOCAL_SMOOTHING
    return (-((1 - true_probability) ** 2) * true_probability.log()).mean()


def dice_loss(probability: torch.Tensor, mask_labels: torch.Tensor) -> torch.Tensor:
    """1 - mean dice coefficient over the images of a map (B, S, S) against a 0/1 mask (B, S, S), smoothed by 1."""
    overlap = (probability * mask_labels).sum((1, 2))
    total = probability.sum((1, 2)) + mask_labels.sum((1, 2))
    return 1 - ((2 * overlap + 1) / (total + 1)).mean()


def adapter_loss(
    logits: torch.Tensor,
    probabilities: torch.Tensor,
    labels: torch.Tensor | None,
    mask_labels: torch.Tensor | None,
) -> torch.Tensor:
    """Loss of one adapter's image logits (B, 2) and two-class map (B, 2, S, S), in float32.

    Args:
        labels: (B,), 0 normal or 1 anomalous; `None` leaves the image term out.
        mask_labels: (B, S, S), 0 or 1; `None` leaves the map terms out.
    """
    loss = logits.new_zeros(())
    if labels is not None:
        loss = loss + F.cross_entropy(logits, labels.long())
    if mask_labels is not None:
        mask_labels = mask_labels.to(probabilities.dtype)
        loss = loss + focal_loss(probabilities, mask_labels)
        loss = loss + dice_loss(probabilities[:, 1], mask_labels)
        loss = loss + dice_loss(probabilities[:, 0], 1 - mask_labels)
    return loss
