"""The results of `adaptclip detect` as one page that opens in any browser."""

from .page import write_report

__all__ = ["write_report"]
