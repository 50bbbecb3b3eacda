"""Stage 3: the small CLIP, distilled.

Its patch tokens, as the method reads them, learn the teacher's local features, its class token the teacher's view of
the whole; and on the procedural images, whose masks and names are known, it learns what a CLIP must know for zero-shot:
which material, good or defective, for the image and for each patch.
"""

import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from canvases import GRID as CANVAS_GRID
from canvases import GROUP, PATCH, Canvases
from student import DUAL_PATH_LAYERS, FEATURE_LAYERS, GRID, PROJECTION, make_student
from teacher import COARSE_SIZE, FINE_SIZE, MIDDLE_SIZE
from torch import nn
from torch.nn import functional as F
from transformers import CLIPModel, CLIPTokenizer
from vocabulary import make_tokenizer

from adaptclip_hf import AdaptCLIPConfig
from adaptclip_hf.modeling.text_encoder import encode_text
from adaptclip_hf.modeling.vision_encoder import encode_image

LEARNING_RATE, WARM_UP = 1.5e-3, 150
CHECKPOINT_EVERY = 200  # steps
SIDES, TOKENS_PER_STEP = (14, 20), 8000  # patches of a crop's side
LARGE_SHARE = 0.25  # of the steps that see whole images
PROCEDURAL_SHARE = 0.5
FINE_WEIGHT = 0.5  # of the teacher's stride 8 beside its stride 16
TAUGHT = MIDDLE_SIZE + FINE_SIZE  # coordinates of a patch token that the teacher sets; the others are free
FREE_SHARE = 0.15  # of a token's squared length that the free ones may take
OBJECTIVES = ("cosine", "relational", "both")
MEAN, STD = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])


class Encoder(nn.Module):
    """The image encoder as the method runs it, with the position table given."""

    def __init__(self, clip: CLIPModel):
        super().__init__()
        self.clip = clip

    def forward(self, pixel_values: torch.Tensor):
        features = encode_image(self.clip, pixel_values, FEATURE_LAYERS, DUAL_PATH_LAYERS)
        return features.image_embeds, features.patch_embeds


class Objective(nn.Module):
    """What the CLIP learns; holds what only learning needs."""

    def __init__(self, clip: CLIPModel, tokenizer: CLIPTokenizer, config: AdaptCLIPConfig, objective: str):
        super().__init__()
        self.encoder, self.tokenizer, self.config, self.objective = Encoder(clip), tokenizer, config, objective
        self.to_coarse = nn.Linear(PROJECTION, COARSE_SIZE)

    @property
    def clip(self) -> CLIPModel:
        return self.encoder.clip

    def encode_crops(self, pixel_values: torch.Tensor, table: torch.Tensor):
        # a small crop stands somewhere in the full-size grid
        override = {"clip.vision_model.embeddings.position_embedding.weight": table}
        return torch.func.functional_call(self.encoder, override, (pixel_values,))

    def window(self, top: int, left: int, side: int) -> torch.Tensor:
        """The position table's rows (1 + side * side, D) of a window of the grid."""
        table = self.clip.vision_model.embeddings.position_embedding.weight
        grid = table[1:].unflatten(0, (GRID, GRID))[top : top + side, left : left + side]
        return torch.cat([table[:1], grid.flatten(0, 1)])

    def encode_sentences(self, sentences: list[str]) -> torch.Tensor:
        encoded = self.tokenizer(sentences, padding="max_length", max_length=24, return_tensors="pt")
        encoded = encoded.to(self.clip.device)
        embeds = self.clip.text_model.embeddings.token_embedding(encoded["input_ids"])
        return encode_text(self.clip, embeds, encoded["attention_mask"].sum(-1) - 1).float()

    def captions(self, batch: dict, defective: list[bool], rng: np.random.Generator) -> tuple[list[str], list[str]]:
        """One caption an image, and the key of what it says: the material and its state."""
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
        pixels = batch["pixels"].permute(0, 3, 1, 2).float() / 255
        pixels = pixels + 0.01 * torch.randn_like(pixels)
        pixel_values = (pixels - MEAN.to(pixels)[:, None, None]) / STD.to(pixels)[:, None, None]
        table = self.window(*batch["window"])
        with torch.autocast(pixels.device.type, torch.bfloat16):
            image_embeds, patch_embeds = self.encode_crops(pixel_values, table)
        image_embeds, tokens = image_embeds.float(), [layer[:, 1:].float() for layer in patch_embeds]
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
        count = GROUP * len(batch["names"])
        if count:
            covered = batch["covered"].float().flatten(1)
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
        """Patches of the queries against their nearest ones in the two prompts: near where good, far where not."""
        losses = []
        for layer in tokens:
            groups = F.normalize(layer, dim=-1).unflatten(0, (-1, GROUP))  # (C, 4, L, d)
            pool, query = groups[:, :2].flatten(1, 2), groups[:, 2:].flatten(1, 2)
            distance = 1 - (query @ pool.transpose(1, 2)).amax(-1)
            wanted = covered.unflatten(0, (-1, GROUP))[:, 2:].flatten(1)
            losses.append(balanced(20 * (distance - 0.15), wanted))
        return torch.stack(losses).mean()


def weigh(patches: torch.Tensor) -> torch.Tensor:
    """The teacher's two unit vectors (..., 112 + 40) as one, the fine one with its weight."""
    weights = torch.ones(TAUGHT, device=patches.device)
    weights[MIDDLE_SIZE:] = FINE_WEIGHT
    return F.normalize(patches * weights, dim=-1)


def balanced(logits: torch.Tensor, covered: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy in which defective and good patches weigh the same; those hardly touched are left out."""
    loss = F.binary_cross_entropy_with_logits(logits, (covered > 0.06).float(), reduction="none")
    sides = [loss[covered > 0.06], loss[covered == 0]]
    return torch.stack([side.mean() for side in sides if len(side)]).mean()


def distill(work: Path, canvases: Canvases, steps: int, objective: str, minutes: float) -> bool:
    """Learns for so many steps in all, and for so many minutes in this call; true when it is done.

    A checkpoint is left now and then, from which the next call goes on as if it had not stopped.
    """
    final = work / "clip" / "model.safetensors"
    if final.exists():
        return True
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    config = AdaptCLIPConfig()
    tokenizer = make_tokenizer(config)
    learner = Objective(make_student(len(tokenizer)), tokenizer, config, objective).train().to(device)
    learner.encode_crops = torch.compile(learner.encode_crops, dynamic=False)
    decayed = [p for p in learner.parameters() if p.ndim > 1]
    plain = [p for p in learner.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)
    checkpoint, first = work / "clip_checkpoint.pt", 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True, map_location=device)
        learner.load_state_dict(saved["learner"])
        optimizer.load_state_dict(saved["optimizer"])
        first = saved["step"]
    start, running = time.time(), {}
    for step, batch in prefetch_batches(canvases, first, steps):
        torch.manual_seed(step)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        batch = {key: value.to(device) if torch.is_tensor(value) else value for key, value in batch.items()}
        losses = learner(batch, np.random.default_rng([step, 8]))
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimizer.step()
        for name, loss in losses.items():
            running[name] = 0.95 * running.get(name, loss.item()) + 0.05 * loss.item()
        done, spent = step + 1, (time.time() - start) / 60
        if done % 50 == 0:
            shown = ", ".join(f"{name} {value:.3f}" for name, value in running.items())
            print(f"clip step {done}/{steps}, {spent:.1f} min: {shown}", flush=True)
        stopping = spent > minutes
        if done % CHECKPOINT_EVERY == 0 or stopping:
            state = {"learner": learner.state_dict(), "optimizer": optimizer.state_dict(), "step": done}
            torch.save(state, checkpoint.with_suffix(".tmp"))
            checkpoint.with_suffix(".tmp").replace(checkpoint)
        if stopping and done < steps:
            return False
    learner.clip.cpu().save_pretrained(work / "clip")
    tokenizer.save_pretrained(work / "clip")
    return True


def learning_rate(step: int, steps: int) -> float:
    fall = (1 + math.cos(math.pi * step / steps)) / 2
    return LEARNING_RATE * min(1, (step + 1) / WARM_UP) * (0.01 + 0.99 * fall)


def draw_batch(canvases: Canvases, step: int) -> dict:
    """Crops of procedural groups, each group cut at nearly one place, and of other canvases; all of one size, at one
    window of the position table. Depends on the step's number alone."""
    rng = np.random.default_rng([step, 7])
    side = SIDES[1] if rng.random() < LARGE_SHARE else SIDES[0]
    count = max(GROUP, TOKENS_PER_STEP // side**2)
    groups = int(count * PROCEDURAL_SHARE) // GROUP if len(canvases.names) else 0
    chosen = rng.integers(0, len(canvases.names), groups)
    procedural = (chosen[:, None] * GROUP + np.arange(GROUP)).ravel()
    others = rng.integers(GROUP * len(canvases.names), len(canvases.pixels), count - len(procedural))
    room = CANVAS_GRID - side
    places = np.repeat(rng.integers(0, room + 1, (groups, 2)), GROUP, axis=0) + rng.integers(
        -1, 2, (len(procedural), 2)
    )
    places = np.concatenate([places.clip(0, room), rng.integers(0, room + 1, (len(others), 2))])
    crops = {"pixels": [], "patches": [], "coarse": [], "covered": []}
    for index, (top, left) in zip([*procedural, *others], places, strict=True):
        rows, columns = slice(top, top + side), slice(left, left + side)
        pixel_rows, pixel_columns = (slice(each.start * PATCH, each.stop * PATCH) for each in (rows, columns))
        half_rows, half_columns = (slice(each.start // 2, each.stop // 2) for each in (rows, columns))
        crops["pixels"].append(canvases.pixels[index, pixel_rows, pixel_columns])
        crops["patches"].append(canvases.patches[index, rows, columns])
        crops["coarse"].append(canvases.coarse[index, half_rows, half_columns])
        if index < GROUP * len(canvases.names):
            crops["covered"].append(canvases.covered[index, rows, columns])
    window = (*(int(each) for each in rng.integers(0, GRID - side + 1, 2)), side)
    names, kinds = ([str(each) for each in listed[chosen]] for listed in (canvases.names, canvases.kinds))
    return {
        "window": window,
        "names": names,
        "kinds": kinds,
        **{key: torch.from_numpy(np.stack(value)) for key, value in crops.items() if value},
    }


def prefetch_batches(canvases: Canvases, first: int, steps: int) -> Iterator[tuple[int, dict]]:
    """(step, batch), the next batch drawn while this one is used."""
    with ThreadPoolExecutor(1) as pool:
        upcoming = pool.submit(draw_batch, canvases, first)
        for step in range(first, steps):
            batch = upcoming.result()
            if step + 1 < steps:
                upcoming = pool.submit(draw_batch, canvases, step + 1)
            yield step, batch
