"""Documents of their own within the page: their style and ours do not meet, and what they say comes as messages."""

import gradio as gr
from markupsafe import Markup

from ..files import parse_json

# The frame's height is as it says; a threshold that is tried goes to the listener of `release`, where of many at once
# the last counts, and all else to `input`.
CARRY = """
let moving;
window.addEventListener("message", (event) => {
  const frame = element.querySelector("iframe"), { type, height } = event.data ?? {};
  if (!frame || event.source !== frame.contentWindow) return;
  const say = (listener) => trigger(listener, { text: JSON.stringify(event.data) });
  clearTimeout(type === "adaptclip-threshold" && moving);
  if (type === "adaptclip-height") frame.style.height = `${height}px`;
  else if (type === "adaptclip-threshold") moving = setTimeout(say, 100, "release");
  else say("input");
});
"""
EACH = {"trigger_mode": "multiple", "show_progress": "hidden"}  # for listeners to messages: none is lost


def message_of(event: gr.EventData) -> dict:
    """What a frame says. It travels as text, because Gradio takes an object with a `path` for a file of its own."""
    message = parse_json(event.text)
    return {name: value for name, value in message.items() if name != "type"}


def framed(min_height: int | None = None) -> gr.HTML:
    """A place for a [`frame`]; its messages are events of `input` and `release`."""
    return gr.HTML(js_on_load=CARRY, min_height=min_height)


def frame(document: str, title: str, height: str) -> str:
    """An HTML document as a frame.

    Args:
        document: what it shows; its messages to the page around are objects, of which `type` says the kind.
        title: for those who do not see it.
        height: in CSS; the message `{type: "adaptclip-height", height: PIXELS}` changes it.
    """
    made = Markup('<iframe title="{}" srcdoc="{}" style="width: 100%; height: {}; border: 0"></iframe>')
    return str(made.format(title, document, height))
