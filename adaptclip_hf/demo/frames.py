"""Documents of their own within the page: their style and ours do not meet, and what they say comes as messages."""

from collections.abc import Callable

import gradio as gr
from markupsafe import Markup

from ..files import parse_json

# The frame's height is as it says; a threshold that is tried goes to the listener of `release`, where of many at once
# the last counts, and all else to `input`.
CARRY = """
let moving, number = 0;
window.addEventListener("message", (event) => {
  const frame = element.querySelector("iframe"), { type, height } = event.data ?? {};
  if (!frame || event.source !== frame.contentWindow) return;
  const say = (listener) => trigger(listener, { number: ++number, text: JSON.stringify(event.data) });
  clearTimeout(type === "adaptclip-threshold" && moving);
  if (type === "adaptclip-height") frame.style.height = `${height}px`;
  else if (type === "adaptclip-threshold") moving = setTimeout(say, 100, "release");
  else say("input");
});
"""


def listen(event: Callable, work: Callable[..., list], inputs: list, outputs: list):
    """Calls `work` with each message of a kind and the inputs. One that a later one overtook on its way is left out.

    Messages pass by Gradio's queue: the stream of its answers closes after each that is the last one waiting, and the
    answer to a message that came just then never arrives. They are handled in the order of their arrival, as the
    server's loop does nothing else meanwhile, so `work` is short.

    Args:
        event: `input` or `release` of a [`framed`] place.
        work: gives a value for each output.
    """
    newest = gr.State(0)

    async def on_message(event: gr.EventData, newest, *given):
        if event.number < newest:
            return [gr.skip()] * (1 + len(outputs))
        return [event.number, *work(message_of(event), *given)]

    given = [newest, *inputs]
    event(on_message, given, [newest, *outputs], trigger_mode="multiple", show_progress="hidden", queue=False)


def message_of(event: gr.EventData) -> dict:
    """What a frame says. It travels as text, because Gradio takes an object with a `path` for a file of its own."""
    return {name: value for name, value in parse_json(event.text).items() if name != "type"}


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
