"""Tokens in NumPy, as `modeling/` computes them in torch."""

from collections.abc import Mapping, Sequence

import numpy as np

# sums that torch adds in turn before it adds them up: so the lengths of tokens, and all that is computed of them, are
# the same to the bit on x86
LANES = 8
SHORTEST = np.float32(1e-12)  # of a token's length


def unit(tokens: np.ndarray) -> np.ndarray:
    """Tokens (..., d) L2-normalised, float32."""
    tokens = tokens.astype(np.float32, copy=False)
    whole = tokens.shape[-1] // LANES * LANES
    sums = np.zeros((*tokens.shape[:-1], LANES), np.float32)
    for first in range(0, whole, LANES):
        sums += np.square(tokens[..., first : first + LANES])
    squares = [*np.moveaxis(sums, -1, 0), *np.square(np.moveaxis(tokens[..., whole:], -1, 0))]
    total = squares[0].copy()
    for each in squares[1:]:
        total += each
    return tokens / np.maximum(np.sqrt(total), SHORTEST)[..., None]


def unit_patch_tokens(patch_embeds: np.ndarray) -> np.ndarray:
    """(B, 1 + L, d) -> L2-normalised (B, L, d), class token dropped, in the dtype that they have."""
    return unit(patch_embeds[:, 1:]).astype(patch_embeds.dtype, copy=False)


def unpack(name: str, arrays: Mapping[str, np.ndarray], scale: str) -> np.ndarray:
    """Features as they were before they were packed; those of int8 come back as float32."""
    features = arrays[name]
    return features.astype(np.float32) * arrays[f"{name}{scale}"] if features.dtype == np.int8 else features


def mean_tokens(layers: Sequence[np.ndarray]) -> np.ndarray:
    """(B, n, d) float32 mean patch token of each image in each layer, of the layers' (B, L, d)."""
    return np.stack([layer.astype(np.float32, copy=False).mean(1) for layer in layers], 1)


def whole_distances(queries: np.ndarray, normals: np.ndarray, itself: bool = False) -> np.ndarray:
    """(B, n, d), (k, n, d) mean tokens -> (B, n) cosine distance to the nearest normal image, layer by layer."""
    similarity = np.einsum("bnd,knd->bkn", unit(queries), unit(normals))
    if itself:
        similarity = similarity - np.float32(3) * np.eye(len(queries), dtype=np.float32)[:, :, None]
    return np.maximum(1 - similarity.max(1), 0)


def bfloat16_bytes(values: np.ndarray) -> bytes:
    """The values rounded to bfloat16, as they lie in memory: 2 bytes each."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = bits >> np.uint32(16)  # in place from here: memory that is new costs more than to compute
    rounded &= np.uint32(1)
    rounded += np.uint32(0x7FFF)
    rounded += bits
    rounded >>= np.uint32(16)
    return rounded.astype(np.uint16).tobytes()


def of_bfloat16(stored: np.ndarray) -> np.ndarray:
    """float32 of the bits (uint16) of bfloat16."""
    return (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)
