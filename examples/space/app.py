"""The page of `adaptclip demo` as a Hugging Face Space."""

from adaptclip_hf import DEFAULT_MODEL, AnomalyDetector
from adaptclip_hf.demo.page import launch

launch(AnomalyDetector.from_pretrained(DEFAULT_MODEL), host="0.0.0.0", port=7860, open_browser=False)
