"""The frozen CLIP text tower, read with token ids (static prompts) or with embeddings (learned prompts)."""

from dataclasses import dataclass

import torch
from torch.nn import functional as F
from transformers import CLIPModel
from transformers.masking_utils import create_causal_mask
from transformers.utils import ModelOutput

from .precision import full_precision, without_autocast

FEWEST_WORDS = 26  # the letters: a vocabulary with fewer entries cannot spell words


@dataclass
class TextEmbeds(ModelOutput):
    """The text embeddings that images are compared with: unit vectors, float32, normal first.

    Args:
        static (`torch.FloatTensor` of shape `(2, d)`, *optional*): of the static prompts with an object's name; `None`
            where they are constants of an exported model's graphs.
        learned (`torch.FloatTensor` of shape `(2, d)`, *optional*): of the textual adapter's prompts, if the model has
            one.
    """

    static: torch.FloatTensor | None = None
    learned: torch.FloatTensor | None = None


def unit(embeds: torch.Tensor) -> torch.Tensor:
    return F.normalize(full_precision(embeds), dim=-1)


def encode_text(clip: CLIPModel, inputs_embeds: torch.Tensor, end_positions: torch.Tensor) -> torch.Tensor:
    """Text embeddings (N, d), not normalised, of token embeddings (N, T, width).

    Args:
        clip: the frozen CLIP.
        inputs_embeds: (N, T, width), position table not yet added.
        end_positions: (N,), of each sentence's end token; tokens after it have no effect.
    """
    text_model = clip.text_model
    hidden_states = text_model.embeddings(inputs_embeds=inputs_embeds)
    # by position, because the name of the fourth argument, the cache, differs between versions
    attention_mask = create_causal_mask(text_model.config, hidden_states, None, None)
    hidden_states = text_model.encoder(
        inputs_embeds=hidden_states, attention_mask=attention_mask, is_causal=True
    ).last_hidden_state
    sentences = torch.arange(hidden_states.shape[0], device=hidden_states.device)
    return clip.text_projection(text_model.final_layer_norm(hidden_states[sentences, end_positions]))


@torch.no_grad()
def encode_sentences(clip: CLIPModel, tokenizer, sentences: list[str]) -> torch.Tensor:
    """Mean text embedding (d,) of some sentences, none normalised first (reference, "Text"), in the model's dtype.

    Raises:
        ValueError: a sentence is longer than the text tower can read.
    """
    device = clip.text_projection.weight.device
    encoded = tokenizer(sentences, padding=True, return_tensors="pt")
    length, longest = encoded["input_ids"].shape[1], clip.config.text_config.max_position_embeddings
    if length > longest:
        raise ValueError(f"A prompt has {length} tokens, the text tower reads {longest}: shorten the object name.")
    inputs_embeds = clip.text_model.embeddings.token_embedding(encoded["input_ids"].to(device))
    end_positions = encoded["attention_mask"].sum(-1).to(device) - 1
    with without_autocast(device):  # they become part of the model
        text_embeds = encode_text(clip, inputs_embeds, end_positions)
    return full_precision(text_embeds).mean(0).to(inputs_embeds.dtype)


def frame_token_ids(tokenizer) -> list[int]:
    """Ids of start of text, full stop and end of text, which surround the learned prompts.

    Raises:
        ValueError: the tokenizer does not encode "." as one token between start and end.
    """
    token_ids = tokenizer(".")["input_ids"]
    if len(token_ids) != 3:
        raise ValueError(f"The tokenizer reads '.' as {token_ids}; expected [start of text, full stop, end of text].")
    return token_ids


def check_tokenizer(tokenizer, clip_config, source: str):
    """Refuses a tokenizer with more entries than the CLIP reads, or with no words.

    transformers makes one without words for a folder that holds no tokenizer.

    Raises:
        ValueError: names both sizes.
    """
    entries, expected = len(tokenizer), clip_config.text_config.vocab_size
    if entries > expected or entries - len(set(tokenizer.all_special_ids)) < FEWEST_WORDS:
        raise ValueError(
            f"The tokenizer at {source} has {entries} entries, the CLIP's text tower reads {expected}: expected the "
            "tokenizer.json that belongs to this CLIP."
        )
