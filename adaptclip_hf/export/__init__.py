"""Models as files for other runtimes: ONNX, OpenVINO, torch.export."""

_HOMES = {
    "EXPORT_FORMATS": "formats",
    "ExportedAdaptCLIP": "exported_model",
    "ExportedAdaptCLIPConfig": "exported_model",
    "export_model": "exporting",
}


def __getattr__(name: str):
    from importlib import import_module

    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = sorted(_HOMES)
