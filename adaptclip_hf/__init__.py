"""AdaptCLIP as a Hugging Face Transformers model package: universal visual anomaly detection."""

from pathlib import Path

_HERE = Path(__file__).resolve().parent
if not (_HERE / "modeling").is_dir():
    # a checkout: modeling/ and processing/ stand beside this folder and install as its subpackages
    __path__.append(str(_HERE.parent))

