"""Documents of their own within the page: their style and ours do not meet, and what they say comes as messages."""

import gradio as gr
from markupsafe import Markup

# the frame's height is as it says, and all else that it says goes to the listener of `input`
CARRY = """
window.addEventListener("message", (event) => {
  const frame = element.querySelector("iframe");
  if (!frame || event.source !== frame.contentWindow || !event.data) return;
  if (event.data.what === "height") frame.style.height = `${event.data.height}px`;
  else trigger("input", event.data);
});
"""


def framed() -> gr.HTML:
    """A place for a [`frame`]; its messages are events of `input`."""
    return gr.HTML(js_on_load=CARRY)


def frame(document: str, title: str, height: str) -> str:
    """An HTML document as a frame.

    Args:
        document: what it shows; its messages are objects, of which `what` says the kind.
        title: for those who do not see it.
        height: in CSS; `{what: "height", height: PIXELS}` changes it.
    """
    made = Markup('<iframe title="{}" srcdoc="{}" style="width: 100%; height: {}; border: 0"></iframe>')
    return str(made.format(title, document, height))
