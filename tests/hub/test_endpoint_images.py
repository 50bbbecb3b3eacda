"""What an endpoint's request may hold as an image: never a file of the server, never a program."""

import base64

import pytest

from adaptclip_hf.hub.endpoint_handler import EndpointHandler, as_images


def test_texts_are_base64_or_data_urls(photos, small_folder):
    content = open(photos["bad"][0], "rb").read()  # noqa: PTH123, SIM115
    text = base64.b64encode(content).decode()
    broken = "\n".join(text[first : first + 76] for first in range(0, len(text), 76))
    assert as_images([text, broken, f"data:image/png;base64,{broken}", content]) == [content] * 4
    for wrong in (photos["bad"][0], "../x", 3, None):
        with pytest.raises(ValueError, match="inputs: "):
            as_images(wrong)
    handler = EndpointHandler(str(small_folder))
    [answer] = handler({"inputs": broken})
    assert 0 <= answer["score"] <= 1
    with pytest.raises(ValueError, match="not an image format that is read here"):
        handler({"inputs": base64.b64encode(b"%!PS-Adobe-3.0 EPSF-3.0\n" * 5).decode()})
