"""Stage 4: the small CLIP learns from the teacher.

It starts from the CLIP that was trained on procedural images. Its patch tokens, as the method uses them, learn the
teacher's local features; its class token learns the teacher's features of the whole image. The masks and names of the
procedural images are known. On these images it keeps what a CLIP needs for zero-shot: which material, and good or
defective, for the image and for each patch.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from canvases import GRID, GROUP, PATCH, Canvases
from clip_training import MEAN, STD, balanced
from growing import grow
from learning import learn
from teacher import COARSE_SIZE, FINE_SIZE, MIDDLE_SIZE
from torch import nn
from torch.nn import functional as F
from transformers import AutoTokenizer, CLIPModel, CLIPTokenizer

from adaptclip_hf import AdaptCLIPConfig
from adaptclip_hf.loading import choose_dtype
from adaptclip_hf.modeling.text_encoder import encode_text
from adaptclip_hf.modeling.vision_encoder import encode_image

FEATURE_LAYERS, DUAL_PATH_LAYERS = [4, 8], 1
STUDENT_PATCH = 14  # pixels; the teacher's has 16: it sees the same crop at a smaller size, with as many patches
MUON_RATE, ADAM_RATE, WEIGHT_DECAY, WARM_UP = 3e-3, 1.5e-3, 0.05, 100
SIDES, SHARES = (14, 24), (0.75, 0.25)  # patches on a crop's side; how often each is drawn
TOKENS_PER_STEP = 4000
PROCEDURAL_SHARE = 0.5
FINE_WEIGHT = 0.5  # of the teacher's stride 8, relative to its stride 16
RIDGE, RIDGE_BATCHES = 100.0, 10
TAUGHT = MIDDLE_SIZE + FINE_SIZE  # coordinates of a patch token that the teacher sets; the others are free
FREE_SHARE = 0.3  # of a token's squared length: the most that the free coordinates may take
OBJECTIVES = ("cosine", "relational", "both")


class Objective(nn.Module):
    """The losses of the CLIP; holds the modules that only training needs."""

    def __init__(self, clip: CLIPModel, tokenizer: CLIPTokenizer, config: AdaptCLIPConfig, objective: str):
        super().__init__()
        self.clip, self.tokenizer, self.config, self.objective = clip, tokenizer, config, objective
        self.to_coarse = nn.Linear(clip.config.projection_dim, COARSE_SIZE)
        self.encode = torch.compile(self.encode_crops, dynamic=False)

    def encode_crops(self, pixels: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Image embeddings (B, d) and each layer's patch embeddings (B, L, d) of pixels in [0, 1]."""
        fast = choose_dtype(pixels.device) is not None
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=fast):
            pixels = F.interpolate(pixels, scale_factor=STUDENT_PATCH / PATCH, mode="bilinear", antialias=True)
            pixel_values = (pixels - MEAN.to(pixels)[:, None, None]) / STD.to(pixels)[:, None, None]
            features = encode_image(self.clip, pixel_values, FEATURE_LAYERS, DUAL_PATH_LAYERS)
        return features.image_embeds.float(), [layer[:, 1:].float() for layer in features.patch_embeds]

    @torch.no_grad()
    def start_projection(self, canvases: Canvases):
        """Sets the visual projection to the ridge regression of the teacher's features on the tower's present ones.

        With a random projection the first hundreds of steps would only undo it.
        """
        rng, seen, wanted = np.random.default_rng(5), [], []
        projection, self.clip.visual_projection = self.clip.visual_projection, nn.Identity()
        for _ in range(RIDGE_BATCHES):
            indices = rng.integers(0, len(canvases.pixels), 16)
            pixels = torch.from_numpy(canvases.pixels[indices]).to(projection.weight.device)
            patches = torch.from_numpy(canvases.patches[indices]).to(projection.weight.device)
            seen += [layer.flatten(0, 1) for layer in self.encode_crops(pixels.permute(0, 3, 1, 2).float() / 255)[1]]
            wanted += [weigh(patches.float()).flatten(0, 2)] * len(FEATURE_LAYERS)
        self.clip.visual_projection = projection
        seen, wanted = torch.cat(seen), torch.cat(wanted)
        penalty = RIDGE * torch.eye(seen.shape[1], device=seen.device)
        solved = torch.linalg.solve(seen.T @ seen + penalty, seen.T @ wanted).T
        weight = projection.weight
        weight[:TAUGHT] = solved
        weight[TAUGHT:] *= 0.5 * solved.norm(dim=1).mean() / weight[TAUGHT:].norm(dim=1).mean()

    def encode_sentences(self, sentences: list[str]) -> torch.Tensor:
        encoded = self.tokenizer(sentences, padding="max_length", max_length=24, return_tensors="pt")
        encoded = encoded.to(self.clip.device)
        embeds = self.clip.text_model.embeddings.token_embedding(encoded["input_ids"])
        return encode_text(self.clip, embeds, encoded["attention_mask"].sum(-1) - 1).float()

    def captions(self, batch: dict, defective: list[bool], rng: np.random.Generator) -> tuple[list[str], list[str]]:
        """One caption for each image, and the key of its meaning: the material and its state."""
        sentences, keys = [], []
        for image, is_defective in enumerate(defective):
            name, kind = batch["names"][image // GROUP], batch["kinds"][image // GROUP]
            if is_defective:
                states = [*self.config.anomalous_states, "{} with " + kind]
            else:
                states = self.config.normal_states
            sentence = str(rng.choice(self.config.prompt_templates)).format(str(rng.choice(states)).format(name))
            sentences.append(sentence)
            keys.append(f"{name}{is_defective}")
        return sentences, keys

    def forward(self, batch: dict, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        image_embeds, tokens = self.encode(batch["pixels"].permute(0, 3, 1, 2).float() / 255)
        losses = {}
        target = weigh(batch["patches"].float().flatten(1, 2))
        taught = [F.normalize(layer[..., :TAUGHT], dim=-1) for layer in tokens]
        if self.objective != "relational":
            losses["cosine"] = 20 * torch.stack([(1 - (each * target).sum(-1)).mean() for each in taught]).mean()
        if self.objective != "cosine":
            chosen = torch.randperm(target.shape[0] * target.shape[1], device=target.device)[:1024]
            wanted = target.flatten(0, 1)[chosen]
            wanted = wanted @ wanted.T
            errors = []
            for each in taught:
                across, within = each.flatten(0, 1)[chosen], each[::8]
                errors.append(F.mse_loss(across @ across.T, wanted))
                inside = target[::8]
                errors.append(F.mse_loss(within @ within.transpose(1, 2), inside @ inside.transpose(1, 2)))
            losses["relational"] = 50 * torch.stack(errors).mean()
        free = [layer[..., TAUGHT:].square().sum(-1) / layer.square().sum(-1) for layer in tokens]
        losses["free"] = 10 * torch.stack([F.relu(share - FREE_SHARE).mean() for share in free]).mean()
        whole = batch["coarse"].float().mean((1, 2))
        losses["whole"] = (1 - F.cosine_similarity(self.to_coarse(image_embeds), whole, dim=-1)).mean()
        count, covered = GROUP * len(batch["names"]), batch["covered"].float().flatten(1)
        losses |= self.language(F.normalize(image_embeds[:count], dim=-1), tokens[-1][:count], covered, batch, rng)
        losses["distance"] = 0.3 * self.distance([layer[:count] for layer in tokens], covered)
        return losses

    def language(self, image_embeds, tokens, covered, batch: dict, rng: np.random.Generator) -> dict:
        defective = covered.amax(1) > 0.02
        sentences, keys = self.captions(batch, defective.tolist(), rng)
        prompts = self.config.text_prompts(self.config.object_name)
        states = [str(each) for side in prompts for each in rng.choice(side, 8)]
        embeds = self.encode_sentences(sentences + states)
        text_embeds = F.normalize(embeds[: len(sentences)], dim=-1)
        state_embeds = F.normalize(embeds[len(sentences) :].unflatten(0, (2, 8)).mean(1), dim=-1)
        logits = image_embeds @ text_embeds.T * self.clip.logit_scale.exp().clamp(max=50)
        same = torch.tensor([[one == other for other in keys] for one in keys], device=logits.device).float()
        wanted = same / same.sum(1, keepdim=True)
        patch_logits = F.normalize(tokens, dim=-1) @ state_embeds.T / 0.07
        return {
            "caption": 0.2 * (F.cross_entropy(logits, wanted) + F.cross_entropy(logits.T, wanted)) / 2,
            "image_state": 0.3 * F.cross_entropy(image_embeds @ state_embeds.T / 0.07, defective.long()),
            "patch_state": 0.5 * balanced(patch_logits[..., 1] - patch_logits[..., 0], covered),
        }

    def distance(self, tokens: list[torch.Tensor], covered: torch.Tensor) -> torch.Tensor:
        """Distances of the queries' patches to the nearest ones in the two prompts: small if good, large if not."""
        losses = []
        for layer in tokens:
            groups = F.normalize(layer, dim=-1).unflatten(0, (-1, GROUP))  # (C, 4, L, d)
            pool, query = groups[:, :2].flatten(1, 2), groups[:, 2:].flatten(1, 2)
            distance = 1 - (query @ pool.transpose(1, 2)).amax(-1)
            wanted = covered.unflatten(0, (-1, GROUP))[:, 2:].flatten(1)
            losses.append(balanced(20 * (distance - 0.15), wanted))
        return torch.stack(losses).mean()


def weigh(patches: torch.Tensor) -> torch.Tensor:
    """The teacher's two unit vectors (..., 112 + 40) as one vector, in which the fine one has its weight."""
    weights = torch.ones(TAUGHT, device=patches.device)
    weights[MIDDLE_SIZE:] = FINE_WEIGHT
    return F.normalize(patches * weights, dim=-1)


@dataclass(frozen=True)
class Tower:
    """One of the two towers that learn from the teacher, the wider one after the smaller one.

    Attributes:
        name: its folder; the checkpoint is named after it.
        rate: of the highest learning rates.
    """

    name: str
    rate: float


SMALL, WIDE = Tower("small-clip", 1.0), Tower("clip", 0.5)


def distill(work: Path, canvases: Canvases, steps: int, objective: str, minutes: float, tower: Tower) -> bool:
    """Trains a CLIP as [`learn`] does; true when training is done and the CLIP is in `work / tower.name`."""
    final = work / tower.name / "model.safetensors"
    if final.exists():
        return True
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    start_from = work / ("procedural-clip" if tower is SMALL else SMALL.name)
    tokenizer = AutoTokenizer.from_pretrained(start_from)
    # backward through sdpa is slower on a CPU for sequences this short
    clip = CLIPModel.from_pretrained(start_from, attn_implementation="eager", dtype=torch.float32)
    clip = clip if tower is SMALL else grow(clip)
    learner = Objective(clip, tokenizer, AdaptCLIPConfig(), objective).train().to(device)
    optimizers = make_optimizers(learner, tower.rate)
    checkpoint = work / f"{tower.name}_checkpoint.pt"
    if not checkpoint.exists() and tower is SMALL:
        learner.start_projection(canvases)
    if not learn(learner, optimizers, partial(draw_batch, canvases), steps, WARM_UP, minutes, checkpoint):
        return False
    learner.clip.cpu().save_pretrained(work / tower.name)
    tokenizer.save_pretrained(work / tower.name)
    return True


def make_optimizers(learner: Objective, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the image tower's layers, AdamW for everything else."""
    matrices = [p for p in learner.clip.vision_model.encoder.parameters() if p.ndim == 2]
    others = set(learner.parameters()) - set(matrices)
    others = [p for p in learner.parameters() if p in others]
    groups = [
        {"params": [p for p in others if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0},
    ]
    return [
        torch.optim.Muon(matrices, lr=rate * MUON_RATE, weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(groups, lr=rate * ADAM_RATE, betas=(0.9, 0.98), fused=True),
    ]


def draw_batch(canvases: Canvases, step: int) -> dict:
    """Crops of one size: of procedural groups, each cropped at nearly the same position, and of other canvases.

    They depend only on the step's number.
    """
    rng = np.random.default_rng([step, 7])
    side = int(rng.choice(SIDES, p=SHARES))
    count = max(GROUP, TOKENS_PER_STEP // side**2)
    groups = max(1, int(count * PROCEDURAL_SHARE) // GROUP)
    chosen = rng.integers(0, len(canvases.names), groups)
    procedural = (chosen[:, None] * GROUP + np.arange(GROUP)).ravel()
    first_picture = GROUP * len(canvases.names)
    if first_picture == len(canvases.pixels):
        first_picture = 0
    others = rng.integers(first_picture, len(canvases.pixels), count - len(procedural))
    room = GRID - side
    places = np.repeat(rng.integers(0, room + 1, (groups, 2)), GROUP, axis=0) + rng.integers(
        -1, 2, (len(procedural), 2)
    )
    places = np.concatenate([places.clip(0, room), rng.integers(0, room + 1, (len(others), 2))])
    crops = {"pixels": [], "patches": [], "coarse": [], "covered": []}
    for number, (index, (top, left)) in enumerate(zip([*procedural, *others], places, strict=True)):
        rows, columns = slice(top, top + side), slice(left, left + side)
        pixel_rows, pixel_columns = (slice(each.start * PATCH, each.stop * PATCH) for each in (rows, columns))
        half_rows, half_columns = (slice(each.start // 2, each.stop // 2) for each in (rows, columns))
        crops["pixels"].append(canvases.pixels[index, pixel_rows, pixel_columns])
        crops["patches"].append(canvases.patches[index, rows, columns])
        crops["coarse"].append(canvases.coarse[index, half_rows, half_columns])
        if number < len(procedural):
            crops["covered"].append(canvases.covered[index, rows, columns])
    names, kinds = ([str(each) for each in listed[chosen]] for listed in (canvases.names, canvases.kinds))
    return {
        "names": names,
        "kinds": kinds,
        **{key: torch.from_numpy(np.stack(value)) for key, value in crops.items() if value},
    }
