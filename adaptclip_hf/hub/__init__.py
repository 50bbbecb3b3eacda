"""To the Hub and from it: flavours of a model folder, cards, pushing, prompt banks, released checkpoints."""

from huggingface_hub.errors import HTTPError

# what huggingface_hub raises where the Hub cannot be asked or refuses
HUB_ERRORS = (HTTPError, OSError)
