"""Your own variant of an adapter: a prompt-query adapter that keeps the sign of the residual.

    adaptclip --plugin examples/plugins/signed_residual.py train --data mvtec:/data/mvtec_ad --output signed \\
        --variant prompt_query_adapter=signed-residual
    adaptclip --plugin examples/plugins/signed_residual.py detect photo.png --model signed
"""

from adaptclip_hf.modeling import register_adapter
from adaptclip_hf.modeling.alignment import cosine_distance, nearest_tokens
from adaptclip_hf.modeling.precision import full_precision
from adaptclip_hf.modeling.prompt_query_adapter import PromptQueryAdapter, PromptQueryPrediction


class SignedResidualAdapter(PromptQueryAdapter):
    """Reads query + (query - aligned) where the published one reads query + |query - aligned| (paper, equation 6)."""

    def compare(self, norm, query, pool) -> PromptQueryPrediction:
        grid = self.config.grid_size
        aligned = nearest_tokens(query, pool)
        joint = norm((query + (query - aligned)).transpose(1, 2).unflatten(2, (grid, grid)))
        return PromptQueryPrediction(
            alignment=cosine_distance(query, aligned).unflatten(1, (grid, grid)),
            probabilities=full_precision(self.segmentation_head(joint)).softmax(1),
            logits=full_precision(self.image_head(self.pool(joint))),
        )


register_adapter("prompt_query_adapter", "signed-residual", SignedResidualAdapter)
