"""Inputs drawn at random, a few of each target of benchmarks/fuzz.py: each is read or is refused in
one line.
"""

from __future__ import annotations

import pytest
from hypothesis import Phase

from benchmarks.fuzz import MEGABYTES, SECONDS, TARGETS

EXAMPLES = {"specs": 150, "config": 100}


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_what_is_drawn_is_read_or_refused(name: str) -> None:
    assert SECONDS < 60 <= MEGABYTES, "an input that takes longer, or more memory, is a crash"
    phases = (Phase.generate,)
    TARGETS[name].under(
        deadline=1000 * SECONDS,
        max_examples=EXAMPLES.get(name, 40),
        derandomize=True,
        phases=phases,
    )()
