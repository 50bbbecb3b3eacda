"""The gallery from cards, whatever they come from."""

import json
import re
import subprocess
import sys

from adaptclip_hf.report.gallery import Card, Gallery, drawn_at_random, gallery_page, groups_of, ranks_of
from adaptclip_hf.report.page import place_of

ROW = {
    "path": "line/017.png",
    "score": 0.75,
    "p_value": 0.05,
    "label": "anomalous",
    "regions": [],
    "size": [40, 60],
    "among_normals": False,
    "error": None,
}


def told(page: str) -> dict:
    """What the page gives to its script."""
    return json.loads(re.search(r'<script type="application/json" id="run">(.*?)</script>', page, re.S)[1])


def test_a_card_shows_all_that_a_row_tells():
    row = ROW | {"part": "A7", "part_label": "normal", "reason": "zone <rim>", "nearest": "good/003.png"}
    rows = [row, ROW | {"label": "not inspectable", "reason": "too dark", "score": 0.5}]
    scores = groups_of(rows)
    assert scores == {"anomalous": [0.75], "not inspectable": [0.5]}
    cards = [Card.of(each, 0.5, rank=3 - number) for number, each in enumerate(rows)]
    page = gallery_page(cards, Gallery(title="line", scores=scores, parts={"normal": 2}, threshold=0.5))
    for text in ("part A7: normal", "zone &lt;rim&gt;", "most like this good part: good/003.png", "1.50&nbsp;&times;"):
        assert text in page
    assert "3rd highest of 2" in page and "too dark" in page and "<b>2</b> parts normal" in page
    assert re.search(r"<b>1</b> not inspectable", page) and 'data-show="not inspectable"' in page
    # rows of earlier versions have none of these columns
    plain = gallery_page([Card.of(ROW, None, rank=1)], Gallery(title="line", scores={"anomalous": [0.75]}))
    assert "threshold</span>" not in plain.split("<li class=")[-1] and "most like" not in plain


def test_names_stay_names_in_the_page_and_in_its_script():
    path = "a\"'><script>alert(1)</script><!--\u2028\udcff\u202e.png"
    cards = [Card.of(ROW | {"path": path, "part": path, "nearest": path, "reason": path}, 0.5, rank=1)]
    content = gallery_page(cards, Gallery(title=path, scores={"anomalous": [0.75]}, decisions=[{"path": path}]))
    assert "<script>alert" not in content and "<!--" not in content.replace("<!doctype", "")
    assert content.count("</script>") == 2 and "\u2028" not in content and "\u202e" not in content
    assert told(content)["cards"][0]["path"] == path == told(content)["decisions"][0]["path"]


def test_the_random_review_draws_from_all_normal_photos_and_always_the_same():
    rows = [ROW | {"path": str(number), "label": "normal" if number % 3 else "anomalous"} for number in range(300)]
    rows += [ROW | {"path": "own", "label": "normal", "among_normals": True}]
    drawn = drawn_at_random(rows, 60, "run")
    assert drawn == drawn_at_random(rows, 60, "run") != drawn_at_random(rows, 60, "another run")
    assert len({row["path"] for row in drawn}) == 60 and {row["label"] for row in drawn} == {"normal"}
    assert [row["path"] for row in drawn] != sorted((row["path"] for row in drawn), key=int)
    assert len(drawn_at_random(rows, 1000, "run")) == 200  # never the profile's own


def test_equal_scores_have_one_rank():
    assert ranks_of([0.5, 0.9, 0.5, 0.1]) == [2, 1, 2, 4]
    places = [Card.of(ROW, None, rank=rank).place for rank in (1, 2, 3, 4, 11, 12, 21, 113)]
    assert places[0] == "highest" and [place.split()[0] for place in places[1:]] == (
        ["2nd", "3rd", "4th", "11th", "12th", "21st", "113th"]
    )


def test_a_report_needs_no_model(tmp_path):
    row = ROW | {"heatmap": None, "map": None, "bytes": None, "modified": None}
    (tmp_path / "results.jsonl").write_text(json.dumps(row) + "\n")
    code = """
import sys
sys.argv = ["adaptclip", "report", sys.argv[1]]
from adaptclip_hf.cli import main
assert main() == 0
assert not {"torch", "transformers", "scipy", "pandas", "pyarrow", "datasets"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert "line/017.png" in (tmp_path / "report.html").read_text()


def test_what_is_not_inspectable_comes_after_what_is_anomalous():
    rows = [ROW | {"label": label, "score": score} for label, score in (("normal", 0.9), ("not inspectable", 0.8))]
    rows += [ROW | {"label": "anomalous", "score": score} for score in (0.3, 0.5)]
    ordered = sorted(rows, key=place_of)
    assert [(row["label"], row["score"]) for row in ordered[:2]] == [("anomalous", 0.5), ("anomalous", 0.3)]
    assert [row["label"] for row in ordered[2:]] == ["not inspectable", "normal"]
