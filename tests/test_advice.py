"""What is known of objectives: it stands on the pages that it names and applies where it should."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lookaround.studies.advice import NEEDS, Advice, known, page, quoted

ROOT = Path(__file__).resolve().parents[1]


def test_the_page_is_made_of_the_sentences() -> None:
    made = ROOT / "docs" / "which-objective.md"
    assert made.read_text() == page(), "run: python -m lookaround.studies.advice > docs/.."
    assert {advice.need for advice in known()} == {*NEEDS}, "every need has a sentence"


@pytest.mark.parametrize("advice", known(), ids=lambda advice: advice.sentence[:40])
def test_numbers_stand_on_the_page_that_is_named(advice: Advice) -> None:
    text = (ROOT / "results" / advice.page.partition("#")[0]).read_text()
    numbers = re.findall(r"(?<![\w.])[+-]?\d+\.\d+|(?<![\w.])\d+e\d+|\d,\d{3}", advice.sentence)
    spoken = {number for number in numbers if number.strip("+-") not in text}
    assert not spoken - {"0.4"}, "of `mlm(rate=0.4)`"


def test_what_is_quoted_is_for_the_need_and_the_budget() -> None:
    small, large = quoted(["write"], 4e12, 1), quoted(["write"], 2e13, 1)
    assert "2.210 ± 0.047" in " ".join(small)
    assert "1.832" in " ".join(large)
    assert not set(small) & set(large)
    assert quoted(["write"], 1e15, 1) == [], "nothing is said where nothing was measured"
    assert quoted([], 4e12, 1) == []
    often = " ".join(quoted(["write"], 4e12, 30))
    assert "2.210" not in often, "where text is read often, another holds"
    assert "ar + vmlm" in often
    assert all("results/" in line for line in quoted(["label_tokens", "label_texts"], 4e12, 1))
