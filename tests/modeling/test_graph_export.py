"""The model as a graph: exported with a bank as its input, compiled without a break, nothing patched."""

import pytest
import torch
from torch.export import Dim, export
from torch.utils._python_dispatch import TorchDispatchMode

from adaptclip_hf import PromptBank

BATCH, COUNT = Dim("batch", min=1, max=64), Dim("count", min=1, max=4096)


def pixels(model, count: int, seed: int = 0) -> torch.Tensor:
    size = model.config.image_size
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def assert_same(found, expected):
    torch.testing.assert_close(found.anomaly_scores, expected.anomaly_scores, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.anomaly_maps, expected.anomaly_maps, atol=1e-6, rtol=0)


@pytest.mark.works("Compile and export", "`torch.export` of scoring")
@torch.no_grad()
def test_zero_shot(small_model):
    program = export(small_model, (), {"pixel_values": pixels(small_model, 2)}, dynamic_shapes=[{0: BATCH}])
    for count in (1, 5):
        assert_same(program.module()(pixel_values=pixels(small_model, count)), small_model(pixels(small_model, count)))


@torch.no_grad()
@pytest.mark.slow
def test_few_shot_with_the_banks_tensors_as_inputs(small_model):
    few, more = (small_model.encode_prompts(pixels(small_model, count, 1)) for count in (3, 7))

    class FewShot(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = small_model

        def forward(self, pixel_values, layers):
            return self.model(pixel_values, prompt_bank=PromptBank(tuple(layers), few.fingerprint, {}))

    layers = list(few.features)
    shapes = {"pixel_values": {0: BATCH}, "layers": [{0: COUNT}] * len(layers)}
    program = export(FewShot(), (pixels(small_model, 2), layers), dynamic_shapes=shapes)
    for count, bank in ((1, few), (4, more)):
        query = pixels(small_model, count)
        assert_same(program.module()(query, list(bank.features)), small_model(query, prompt_bank=bank))


@pytest.mark.works("Compile and export", "`torch.export` with a prompt bank as an input")
@torch.no_grad()
@pytest.mark.slow
def test_few_shot_with_the_bank_itself_as_input(small_model):
    few, more = (small_model.encode_prompts(pixels(small_model, count, 1)) for count in (3, 7))
    fields = [({0: COUNT},) * len(few.features), dict.fromkeys(few.fingerprint), {}]
    shapes = {"pixel_values": {0: BATCH}, "prompt_bank": fields}
    inputs = {"pixel_values": pixels(small_model, 2), "prompt_bank": few}
    program = export(small_model, (), inputs, dynamic_shapes=shapes)
    query = pixels(small_model, 4)
    assert_same(program.module()(pixel_values=query, prompt_bank=more), small_model(query, prompt_bank=more))


@torch.no_grad()
def test_text_embeddings_as_an_input(small_model, tokenizer):
    text = small_model.encode_text("leather", tokenizer)
    program = export(small_model, (), {"pixel_values": pixels(small_model, 2), "text_embeds": text})
    other = small_model.encode_text("screw", tokenizer)
    query = pixels(small_model, 2, 3)
    found = program.module()(pixel_values=query, text_embeds=other)
    assert_same(found, small_model(query, text_embeds=other))


@pytest.mark.works("Compile and export", "`torch.compile` of the encoder, as one graph")
@torch.no_grad()
@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_the_encoder_compiles_as_one_graph(make_model, backend):
    model = make_model(clip={"layers": 2})  # compiling takes as long as it has layers
    query = pixels(model, 2)
    compiled = torch.compile(model.image_features, fullgraph=True, backend=backend)(query)
    expected = model.image_features(query)
    torch.testing.assert_close(compiled.image_embeds, expected.image_embeds, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(compiled.patch_embeds[-1], expected.patch_embeds[-1], atol=1e-4, rtol=1e-4)


class Float64(TorchDispatchMode):
    """Refuses what an Apple GPU has not."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for each in result if isinstance(result, tuple | list) else (result,):
            assert not isinstance(each, torch.Tensor) or each.dtype != torch.float64, func
        return result


@torch.no_grad()
def test_no_float64_in_scoring(small_model):
    bank = small_model.encode_prompts(pixels(small_model, 2, 1))
    with Float64():
        small_model(pixels(small_model, 1), prompt_bank=bank)
        small_model(pixels(small_model, 1))
