"""To the Hub and from it: flavours of a model folder, cards, pushing, prompt banks, released checkpoints."""
