"""To the Hub and from it: model folders, cards, what is published, the authors' released checkpoints."""

from huggingface_hub.errors import HTTPError

# what huggingface_hub raises where the Hub cannot be asked or refuses
HUB_ERRORS = (HTTPError, OSError)
