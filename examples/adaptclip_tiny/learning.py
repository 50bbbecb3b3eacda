"""How both CLIPs are trained: one loop, in pieces, each of which continues the one before."""

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import nn

CHECKPOINT_EVERY = 200  # steps
DRIFT = 0.05  # of the shown means, each step


def learn(
    learner: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    draw: Callable[[int], dict],
    steps: int,
    warm_up: int,
    minutes: float,
    checkpoint: Path,
) -> bool:
    """Trains for the given number of steps in all, and of minutes in this call; true when all steps are done.

    It writes checkpoints. The next call continues from the last one as if the loop had not stopped.

    Args:
        learner: (batch, generator) -> losses by name, which are summed.
        optimizers: with their highest learning rates.
        draw: the batch of a step, which depends only on the step's number.
    """
    device = next(learner.parameters()).device
    highest = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    first = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True, map_location=device)
        learner.load_state_dict(saved["learner"])
        for optimizer, state in zip(optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        first = saved["step"]
    start, running = time.time(), {}
    for step, batch in prefetch(draw, first, steps):
        torch.manual_seed(step)
        for optimizer, rates in zip(optimizers, highest, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * schedule(step, steps, warm_up)
        batch = {key: value.to(device) if torch.is_tensor(value) else value for key, value in batch.items()}
        losses = learner(batch, np.random.default_rng([step, 8]))
        learner.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        for name, loss in losses.items():
            running[name] = (1 - DRIFT) * running.get(name, loss.item()) + DRIFT * loss.item()
        done, spent = step + 1, (time.time() - start) / 60
        if done % 50 == 0:
            shown = ", ".join(f"{name} {value:.3f}" for name, value in running.items())
            print(f"{checkpoint.stem} step {done}/{steps}, {spent:.1f} min: {shown}", flush=True)
        stopping = spent > minutes
        if done % CHECKPOINT_EVERY == 0 or stopping:
            states = [optimizer.state_dict() for optimizer in optimizers]
            state = {"learner": learner.state_dict(), "optimizers": states, "step": done}
            torch.save(state, checkpoint.with_suffix(".tmp"))
            checkpoint.with_suffix(".tmp").replace(checkpoint)
        if stopping and done < steps:
            return False
    return True


def schedule(step: int, steps: int, warm_up: int) -> float:
    """Share of the highest learning rate: a warm-up, then half a cosine."""
    return min(1, (step + 1) / warm_up) * (0.01 + 0.99 * (1 + math.cos(math.pi * step / steps)) / 2)


def prefetch(draw: Callable[[int], dict], first: int, steps: int) -> Iterator[tuple[int, dict]]:
    """(step, batch), the next batch drawn while this one is used."""
    with ThreadPoolExecutor(1) as pool:
        upcoming = pool.submit(draw, first)
        for step in range(first, steps):
            batch = upcoming.result()
            if step + 1 < steps:
                upcoming = pool.submit(draw, step + 1)
            yield step, batch
