"""Hidden states and attentions of the image encoder, where a call or the config asks for them."""

from collections.abc import Sequence

import torch


class EncoderRecord:
    """Keeps them while the encoder runs.

    Attributes:
        hidden_states: of the embeddings and of each layer (B, 1 + L, D), `None` where a layer was not chosen.
        attentions: of each layer (B, heads, 1 + L, 1 + L); `None` if they are not wanted.
    """

    def __init__(self, hidden_states: bool | int | Sequence[int], attentions: bool, num_layers: int):
        """
        Args:
            hidden_states: whether to keep them, or the numbers of those to keep; 0 are the embeddings, -1 is the last.
            attentions: whether to keep them.
            num_layers: of the encoder.
        """
        every = range(num_layers + 1)
        if isinstance(hidden_states, bool):
            chosen: Sequence[int] = every if hidden_states else ()
        else:
            chosen = [hidden_states] if isinstance(hidden_states, int) else hidden_states
        self.chosen = {every[number] for number in chosen if -len(every) <= number < len(every)}
        self.hidden_states: list[torch.Tensor | None] = []
        self.attentions: list[torch.Tensor] | None = [] if attentions else None

    def add(self, hidden_states: torch.Tensor):
        number = len(self.hidden_states)
        self.hidden_states.append(hidden_states if number in self.chosen else None)

    def add_attention(self, weights: torch.Tensor):
        # a layer whose activations are checkpointed runs again for its gradients
        if self.attentions is not None and len(self.attentions) < len(self.hidden_states):
            self.attentions.append(weights)

    def outputs(self) -> dict[str, tuple]:
        """What was asked for, by the names of outputs."""
        kept = {"hidden_states": tuple(self.hidden_states)} if self.chosen else {}
        return kept if self.attentions is None else kept | {"attentions": tuple(self.attentions)}


def asked_for(config, hidden_states, attentions, num_layers: int) -> EncoderRecord | None:
    """A record if something is asked for: by the arguments of a call, or, where they are `None`, by the config."""
    hidden_states = config.output_hidden_states if hidden_states is None else hidden_states
    attentions = config.output_attentions if attentions is None else attentions
    if hidden_states is False and not attentions:
        return None
    return EncoderRecord(hidden_states, attentions, num_layers)
