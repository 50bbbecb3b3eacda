"""A CLIP that is made in a moment."""

from transformers import CLIPConfig


def small_clip_config(vocab_size: int, patch_size: int = 14, layers: int = 4, width: int = 64, grid: int = 4):
    return CLIPConfig(
        projection_dim=32,
        vision_config={
            "hidden_size": width,
            "intermediate_size": 2 * width,
            "num_hidden_layers": layers,
            "num_attention_heads": 4,
            "image_size": grid * patch_size,
            "patch_size": patch_size,
            "projection_dim": 32,
        },
        text_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "vocab_size": vocab_size,
            "projection_dim": 32,
            "bos_token_id": 0,
            "eos_token_id": 1,
        },
    )
