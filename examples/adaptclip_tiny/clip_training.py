"""Stage 1: trains a small CLIP, only on procedural images, for the features that AdaptCLIP uses.

It is trained through the two-path encoder that AdaptCLIP uses, with four losses: image against caption (which
material, good or defective); image and patch against the static prompts (zero-shot); the distance of a patch to its
nearest patch in normal images of the same product (few-shot); and a linear read-out of local colour and gradients from
every chosen layer, so that the features keep what a plain detector would see.
"""

import math
from functools import partial
from pathlib import Path

import numpy as np
import torch
from learning import learn
from rendering import SIZE, draw_batch
from torch import nn
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
from vocabulary import make_tokenizer

from adaptclip_hf import AdaptCLIPConfig
from adaptclip_hf.loading import choose_dtype
from adaptclip_hf.modeling.text_encoder import encode_text
from adaptclip_hf.modeling.vision_encoder import encode_image

FEATURE_LAYERS, DUAL_PATH_LAYERS = [2, 4, 6, 8], 6
WARM_UP = 100  # steps
# many grids, so that the model does not mistake a pattern of interpolated position embeddings for the image
SMALL_SIDES, LARGE_SIDES, TOKENS_PER_STEP = [112, 126, 140, 154], [182, 196, 210, 224, 280, 336], 4096
MEAN, STD = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])


def clip_config(vocab_size: int) -> CLIPConfig:
    return CLIPConfig(
        projection_dim=192,
        vision_config={
            "hidden_size": 192,
            "intermediate_size": 768,
            "num_hidden_layers": 8,
            "num_attention_heads": 6,
            "image_size": SIZE,
            "patch_size": 14,
            "projection_dim": 192,
        },
        text_config={
            "hidden_size": 128,
            "intermediate_size": 512,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "vocab_size": vocab_size,
            "projection_dim": 192,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": 1,
        },
    )


@torch.no_grad()
def start_from_cosines(patch_embedding: nn.Conv2d):
    """Sets the patch embedding to the low frequencies of a patch's brightness and colours, so that the model sees edges
    and tints before it has learned anything. Finer frequencies are amplified, because images have less of them."""
    width, _, side, _ = patch_embedding.weight.shape
    positions = torch.arange(side) + 0.5
    basis = torch.stack([torch.cos(math.pi * frequency * positions / side) for frequency in range(side)])
    basis = basis / basis.norm(dim=1, keepdim=True)
    order = sorted((u * u + v * v, u, v) for u in range(side) for v in range(side))
    opponents = torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, 0.0], [0.5, 0.5, -1.0]])
    opponents = opponents / opponents.norm(dim=1, keepdim=True)
    counts = (width - 2 * (width // 5), width // 5, width // 5)
    filters = [
        colour[:, None, None] * torch.outer(basis[u], basis[v]) * (1 + radius**0.5) / side * gain
        for colour, count, gain in zip(opponents, counts, (1.0, 2.0, 2.0), strict=True)
        for radius, u, v in order[:count]
    ]
    patch_embedding.weight.copy_(torch.stack(filters))


def describe_patches(pixels: torch.Tensor, patch: int) -> torch.Tensor:
    """Plain local statistics (B, L, 13) of images (B, 3, H, W) in [0, 1]: colour, contrast, gradients, quarters."""
    grey = pixels.mean(1, keepdim=True)
    right = F.pad((grey[..., :, 1:] - grey[..., :, :-1]).abs(), (0, 1))
    down = F.pad((grey[..., 1:, :] - grey[..., :-1, :]).abs(), (0, 0, 0, 1))
    falling = F.pad((grey[..., 1:, 1:] - grey[..., :-1, :-1]).abs(), (0, 1, 0, 1))
    rising = F.pad((grey[..., 1:, :-1] - grey[..., :-1, 1:]).abs(), (0, 1, 0, 1))
    mean = F.avg_pool2d(pixels, patch)
    contrast = (F.avg_pool2d(grey**2, patch) - F.avg_pool2d(grey, patch) ** 2).clamp_min(0).sqrt()
    edges = F.avg_pool2d(torch.cat([right, down, falling, rising], 1), patch)
    quarters = F.avg_pool2d(grey, patch // 2) - F.interpolate(F.avg_pool2d(grey, patch), scale_factor=2)
    extremes = torch.cat([F.max_pool2d(grey, patch), F.max_pool2d(-grey, patch)], 1) - F.avg_pool2d(grey, patch)
    features = torch.cat([mean, 3 * contrast, 8 * edges, 3 * extremes[:, :1], F.pixel_unshuffle(3 * quarters, 2)], 1)
    return features.flatten(2).transpose(1, 2)


class Objective(nn.Module):
    """The losses of the CLIP; holds the modules that only training needs."""

    def __init__(self, clip: CLIPModel, tokenizer: CLIPTokenizer, config: AdaptCLIPConfig):
        super().__init__()
        self.clip, self.tokenizer, self.config = clip, tokenizer, config
        layers = len(FEATURE_LAYERS)
        self.read_outs = nn.ModuleList(nn.Linear(192, 13) for _ in range(layers))
        self.distance_scale = nn.Parameter(torch.full((layers,), 3.0))
        self.distance_offset = nn.Parameter(torch.full((layers,), 0.25))

    def encode(self, sentences: list[str]) -> torch.Tensor:
        encoded = self.tokenizer(sentences, padding=True, return_tensors="pt").to(self.clip.device)
        embeds = self.clip.text_model.embeddings.token_embedding(encoded["input_ids"])
        return encode_text(self.clip, embeds, encoded["attention_mask"].sum(-1) - 1)

    def captions(self, batch: dict, rng: np.random.Generator, defective: list[bool]) -> tuple[list[str], list[str]]:
        """One caption for each image, and the key of its meaning: the material and its state."""
        templates, sentences, keys = self.config.prompt_templates, [], []
        for image in range(len(defective)):
            name, kind = batch["names"][image // 4], batch["kinds"][image // 4][image % 4]
            if defective[image]:
                states = [*self.config.anomalous_states, "{} with " + kind]
            else:
                states = self.config.normal_states
            sentences.append(str(rng.choice(templates)).format(str(rng.choice(states)).format(name)))
            keys.append(f"{name}{defective[image]}")
        return sentences, keys

    def state_embeds(self, rng: np.random.Generator, count: int = 8) -> torch.Tensor:
        """Unit embeddings (2, d) of some of the static prompts."""
        prompts = self.config.text_prompts(self.config.object_name)
        sentences = [str(each) for side in prompts for each in rng.choice(side, count)]
        return F.normalize(self.encode(sentences).view(2, count, -1).mean(1).float(), dim=-1)

    def forward(self, batch: dict, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        pixels, masks = batch["pixels"], batch["masks"]
        noisy = pixels + 0.01 * torch.randn_like(pixels)
        pixel_values = (noisy - MEAN.to(noisy)[:, None, None]) / STD.to(noisy)[:, None, None]
        fast = choose_dtype(pixels.device) is not None
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=fast):
            features = encode_image(self.clip, pixel_values, FEATURE_LAYERS, DUAL_PATH_LAYERS)
        patch_embeds = [layer.float() for layer in features.patch_embeds]
        image_embeds = F.normalize(features.image_embeds.float(), dim=-1)
        covered = F.avg_pool2d(masks[:, None], 14).flatten(1)  # (B, L), share of the patch that is defective
        defective = covered.amax(1) > 0.02
        losses = {}

        sentences, keys = self.captions(batch, rng, defective.tolist())
        text_embeds = F.normalize(self.encode(sentences).float(), dim=-1)
        logits = image_embeds @ text_embeds.T * self.clip.logit_scale.exp().clamp(max=50)
        same = torch.tensor([[one == other for other in keys] for one in keys], device=pixels.device).float()
        target = same / same.sum(1, keepdim=True)
        losses["caption"] = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2

        states = self.state_embeds(rng)  # (2, d)
        losses["image_state"] = F.cross_entropy(image_embeds @ states.T / 0.07, defective.long())
        patches = F.normalize(patch_embeds[-1][:, 1:], dim=-1)
        patch_logits = patches @ states.T / 0.07
        losses["patch_state"] = balanced(patch_logits[..., 1] - patch_logits[..., 0], covered)

        distance_losses = []
        queries = torch.arange(len(pixels), device=pixels.device) % 4 >= 2
        for index, layer in enumerate(patch_embeds):
            tokens = F.normalize(layer[:, 1:], dim=-1).unflatten(0, (-1, 4))  # (C, 4, L, d)
            pool, query = tokens[:, :2].flatten(1, 2), tokens[:, 2:].flatten(1, 2)
            distance = 1 - (query @ pool.transpose(1, 2)).amax(-1)
            logit = self.distance_scale[index].exp() * (distance - self.distance_offset[index])
            wanted = covered[queries].view_as(distance)
            distance_losses.append(balanced(logit, wanted))
        losses["distance"] = torch.stack(distance_losses).mean()

        with torch.no_grad():
            wanted = describe_patches(pixels, 14)
            wanted = (wanted - wanted.mean((0, 1))) / (wanted.std((0, 1)) + 1e-4)
        losses["read_out"] = torch.stack(
            [
                F.mse_loss(read_out(F.normalize(layer[:, 1:], dim=-1) * 14), wanted)
                for read_out, layer in zip(self.read_outs, patch_embeds, strict=True)
            ]
        ).mean()
        return losses


def balanced(logits: torch.Tensor, covered: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy with equal weights of defective and good patches; hardly defective ones are left out."""
    loss = F.binary_cross_entropy_with_logits(logits, (covered > 0.06).float(), reduction="none")
    sides = [loss[covered > 0.06], loss[covered == 0]]
    return torch.stack([side.mean() for side in sides if len(side)]).mean()


def train_clip(work: Path, data: dict, steps: int, minutes: float) -> bool:
    """Trains as [`learn`] does; true when training is done and the CLIP is in `work / "procedural-clip"`."""
    final = work / "procedural-clip" / "model.safetensors"
    if final.exists():
        return True
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    prompts = AdaptCLIPConfig()
    tokenizer = make_tokenizer(prompts)
    # backward through sdpa is slow on a CPU for sequences this short
    clip = CLIPModel._from_config(clip_config(len(tokenizer)), attn_implementation="eager")
    start_from_cosines(clip.vision_model.embeddings.patch_embedding)
    objective = Objective(clip, tokenizer, prompts).train().to(device)
    decayed = [p for p in objective.parameters() if p.ndim > 1]
    plain = [p for p in objective.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0}], lr=1.5e-3, betas=(0.9, 0.98)
    )
    draw = partial(draw_step, data, steps)
    checkpoint = work / "procedural_clip_checkpoint.pt"
    if not learn(objective, [optimizer], draw, steps, WARM_UP, minutes, checkpoint):
        return False
    clip.cpu().save_pretrained(final.parent)
    tokenizer.save_pretrained(final.parent)
    return True


def draw_step(data: dict, steps: int, step: int) -> dict:
    """The batch of a step: crops of one size out of many, with large sizes more often towards the end."""
    rng = np.random.default_rng([step, 7])
    large = rng.random() < (0.15 if step < 0.7 * steps else 0.5)
    side = int(rng.choice(LARGE_SIDES if large else SMALL_SIDES))
    return draw_batch(data, rng, max(2, TOKENS_PER_STEP // (4 * (side // 14) ** 2)), side)
