"""The page that says what works as with any model of transformers says what tests show."""

from works_as_usual import AREAS, PAGE, page, proofs


def test_the_page_is_what_the_tests_show():
    text = PAGE.read_text()
    assert page(text) == text, "run python tests/package/works_as_usual.py"
    assert {proof.area for proof in proofs()} == set(AREAS)
