"""The small CLIP's tokenizer: CLIP's rules with a vocabulary learned from the captions."""

import re
from collections import Counter
from itertools import pairwise

from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer

from adaptclip_hf import AdaptCLIPConfig
from adaptclip_hf.synthetic import CATEGORIES, DEFECTS


def make_tokenizer(config: AdaptCLIPConfig) -> CLIPTokenizer:
    """CLIP's tokenizer with a small vocabulary of its own, learned from the captions.

    The byte pairs are counted here, because the trainer of the tokenizers library breaks ties differently each time.
    """
    sentences = [
        sentence for name in (*CATEGORIES, "object") for prompts in config.text_prompts(name) for sentence in prompts
    ] + [f"{name} with {kind}" for name in CATEGORIES for kind in DEFECTS] * 4
    counts = Counter(word for sentence in sentences for word in re.findall(r"[a-z]+|[^a-z\s]+", sentence))
    words = {(*word[:-1], word[-1] + "</w>"): count for word, count in counts.items()}
    merges: list[tuple[str, str]] = []
    while True:
        pairs = Counter()
        for parts, count in words.items():
            for pair in pairwise(parts):
                pairs[pair] += count
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        words = {merge_pair(parts, best): count for parts, count in words.items()}
    # every byte can be encoded, inside a word and at its end, whatever the captions contain
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<|startoftext|>", "<|endoftext|>", *alphabet, *(byte + "</w>" for byte in alphabet)]
    tokens += [left + right for left, right in merges]
    vocab = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77)


def merge_pair(parts: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    merged: list[str] = []
    for part in parts:
        if merged and (merged[-1], part) == pair:
            merged[-1] += part
        else:
            merged.append(part)
    return tuple(merged)
