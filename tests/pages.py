"""The pages whose lines are run: README and the documentation."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FOLLOWED = ROOT / "docs" / "tutorials"  # line by line in package/test_tutorials.py
# run against a stand-in for the Hub, in hub/test_hub.py
NEED_THE_HUB = ("push_to_hub(", "from_released(")
