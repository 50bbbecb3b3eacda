"""The student: a small CLIP that begins as something like a convolutional network."""

import math

import torch
from torch import nn
from transformers import CLIPConfig, CLIPModel

PATCH, IMAGE_SIZE = 16, 320
GRID = IMAGE_SIZE // PATCH
WIDTH, DEPTH, HEADS, PROJECTION = 256, 8, 8, 192
FEATURE_LAYERS, DUAL_PATH_LAYERS = [4, 8], 1
FREQUENCIES = 8  # of each axis; with their sines and cosines one head's width
POSITION_WIDTH = 4 * FREQUENCIES
NEIGHBOURS = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]
FAR_LAYERS = range(3, 6)  # 0-based; these begin by looking two patches away, the others one
SHARPNESS = 4.0  # of the first attention to a neighbour
POSITION_SCALE = 0.2  # beside the patch embedding, whose coordinates are of about this size


def make_student(vocab_size: int) -> CLIPModel:
    """A CLIP of 6.7 million parameters in its image tower, seeded by torch's generator."""
    config = CLIPConfig(
        projection_dim=PROJECTION,
        vision_config={
            "hidden_size": WIDTH,
            "intermediate_size": 4 * WIDTH,
            "num_hidden_layers": DEPTH,
            "num_attention_heads": HEADS,
            "image_size": IMAGE_SIZE,
            "patch_size": PATCH,
            "projection_dim": PROJECTION,
        },
        text_config={
            "hidden_size": 128,
            "intermediate_size": 512,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "vocab_size": vocab_size,
            "projection_dim": PROJECTION,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": 1,
        },
    )
    # backward through sdpa is slower on a CPU for sequences this short
    clip = CLIPModel._from_config(config, attn_implementation="eager")
    start_from_cosines(clip.vision_model.embeddings.patch_embedding, WIDTH - POSITION_WIDTH)
    start_as_convolution(clip.vision_model)
    return clip


@torch.no_grad()
def start_from_cosines(patch_embedding: nn.Conv2d, count: int):
    """Sets `count` filters of the patch embedding to the low frequencies of a patch's brightness and colours, the rest
    to zero: nothing has to be learned before an edge or a tint can be seen. Finer frequencies are amplified, as images
    have less of them."""
    side = patch_embedding.weight.shape[-1]
    positions = torch.arange(side) + 0.5
    basis = torch.stack([torch.cos(math.pi * frequency * positions / side) for frequency in range(side)])
    basis = basis / basis.norm(dim=1, keepdim=True)
    order = sorted((u * u + v * v, u, v) for u in range(side) for v in range(side))
    opponents = torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, 0.0], [0.5, 0.5, -1.0]])
    opponents = opponents / opponents.norm(dim=1, keepdim=True)
    counts = (count - 2 * (count // 6), count // 6, count // 6)
    filters = [
        colour[:, None, None] * torch.outer(basis[u], basis[v]) * (0.15 + radius) ** 0.5 / side * gain
        for colour, number, gain in zip(opponents, counts, (1.0, 2.0, 2.0), strict=True)
        for radius, u, v in order[:number]
    ]
    patch_embedding.weight.zero_()
    patch_embedding.weight[:count] = torch.stack(filters)


@torch.no_grad()
def start_as_convolution(vision_model: nn.Module):
    """Position embeddings of sines and cosines, and queries and keys that read them so that each head looks at one
    neighbour of its patch: with what is learned of values and MLPs, a layer is a 3 x 3 convolution to begin with."""
    frequencies = torch.linspace(0.2, 2.4, FREQUENCIES)
    rows, columns = torch.meshgrid(torch.arange(GRID), torch.arange(GRID), indexing="ij")
    table = vision_model.embeddings.position_embedding.weight
    table.zero_()
    positions = torch.cat([waves(rows, frequencies), waves(columns, frequencies)], dim=-1)
    table[1:, -POSITION_WIDTH:] = POSITION_SCALE * positions.flatten(0, 1)
    for number, layer in enumerate(vision_model.encoder.layers):
        attention, reach = layer.self_attn, 2 if number in FAR_LAYERS else 1
        for head, (down, right) in enumerate(NEIGHBOURS):
            own = slice(head * POSITION_WIDTH, (head + 1) * POSITION_WIDTH)
            shift = torch.block_diag(*[rotation(reach * step * each) for step in (down, right) for each in frequencies])
            attention.q_proj.weight[own, -POSITION_WIDTH:] = SHARPNESS**0.5 * shift
            attention.k_proj.weight[own, -POSITION_WIDTH:] = SHARPNESS**0.5 * torch.eye(POSITION_WIDTH)


def waves(positions: torch.Tensor, frequencies: torch.Tensor) -> torch.Tensor:
    """(g, g) -> (g, g, 2n): cosine and sine of each frequency, one after the other."""
    angles = positions[..., None] * frequencies
    return torch.stack([angles.cos(), angles.sin()], dim=-1).flatten(-2)


def rotation(angle: torch.Tensor) -> torch.Tensor:
    """(2, 2), turns the waves of a position into those of a position further by `angle` / frequency."""
    cosine, sine = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cosine, -sine]), torch.stack([sine, cosine])])
