"""Registered variants that replace the published adapters, by name."""

from collections.abc import Callable

from torch import nn

from .configuration_adaptclip import AdaptCLIPConfig
from .prompt_query_adapter import PromptQueryAdapter
from .textual_adapter import TextualAdapter
from .visual_adapter import VisualAdapter

MakeAdapter = Callable[[AdaptCLIPConfig], nn.Module]

PUBLISHED: dict[str, MakeAdapter] = {
    "visual_adapter": VisualAdapter,
    "textual_adapter": TextualAdapter,
    "prompt_query_adapter": PromptQueryAdapter,
}
_registered: dict[tuple[str, str], MakeAdapter] = {}


def register_adapter(adapter: str, name: str, make: MakeAdapter):
    """Registers a variant of an adapter, for `AdaptCLIPConfig(adapter_variants={adapter: name})`.

    Args:
        adapter: "visual_adapter", "textual_adapter" or "prompt_query_adapter", which it replaces. It takes and returns
            the same as [`VisualAdapter`], [`TextualAdapter`] or [`PromptQueryAdapter`].
        name: of the variant; a saved model's config holds it.
        make: a class or function that makes the module from a config.

    Raises:
        ValueError: there is no such adapter, or the name belongs to another variant.
    """
    if adapter not in PUBLISHED:
        raise ValueError(f"There is no adapter {adapter!r}; there are {', '.join(PUBLISHED)}.")
    known = _registered.setdefault((adapter, name), make)
    if (known.__module__, known.__qualname__) != (make.__module__, make.__qualname__):
        raise ValueError(f"There is another variant {name!r} of the {adapter} already: {known.__qualname__}.")


def build_adapter(adapter: str, config: AdaptCLIPConfig) -> nn.Module | None:
    """An adapter of a config: the published one or a variant; `None` where it is switched off.

    Raises:
        ValueError: the variant is not registered.
    """
    if not getattr(config, adapter):
        return None
    name = (config.adapter_variants or {}).get(adapter)
    if name is None:
        return PUBLISHED[adapter](config)
    if (adapter, name) not in _registered:
        raise ValueError(
            f"The {adapter} is the variant {name!r}, which is not known here: load the plug-in that registers it "
            "(adaptclip --plugin FILE ..., or adaptclip_hf.load_plugin)."
        )
    return _registered[adapter, name](config)


__all__ = ["register_adapter"]
