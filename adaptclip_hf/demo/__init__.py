"""`adaptclip demo`: good photos in, decisions out, on a page (Gradio)."""
