"""Minimal pairs: tables of texts of which one of each two should be more probable."""

from __future__ import annotations

from lookaround.data.labelled import PairTask
from lookaround.data.tables import Table
from lookaround.data.tagged import counted
from lookaround.data.text_columns import column_texts
from lookaround.data.text_tasks import has_texts
from lookaround.support.errors import UserError
from lookaround.support.text import listed, one_line

SIDES = (("sentence_good", "sentence_bad"), ("good", "bad"), ("grammatical", "ungrammatical"))
PHENOMENA = ("UID", "phenomenon", "linguistics_term", "field", "category", "type")


def is_pairs(table: Table) -> bool:
    """Whether a table holds minimal pairs: BLiMP's columns, or good and bad beside no label."""
    sides = _sides(table)
    return sides is not None and (sides[0].lower() == "sentence_good" or not has_texts(table))


def _sides(table: Table) -> tuple[str, str] | None:
    for names in SIDES:
        good, bad = (table.find(name) for name in names)
        if good is not None and bad is not None:
            return good, bad
    return None


def read_pairs(name: str, table: Table, wanted: str | None) -> PairTask:
    """The pairs of a table.

    wanted: the column that says what a pair tests; None: the first of a usual name, if any.

    Pairs of equal texts are dropped and counted. Raises UserError with file and line for a pair
    without one of its texts, and where all are equal.
    """
    sides = _sides(table)
    assert sides is not None
    if not table.rows:
        raise UserError(f"{table.source}: empty, no rows; give pairs of a good and a bad text")
    named = (wanted,) if wanted is not None else PHENOMENA
    phenomenon = next((found for column in named if (found := table.find(column))), None)
    if wanted is not None and phenomenon in (None, *sides):
        raise UserError(
            f"{table.source}: column {wanted!r} names no phenomenon; it has "
            f"{listed(list(table.columns))}"
        )
    texts = [[text.strip() for text in column_texts(table, side)] for side in sides]
    kept: list[int] = []
    equal: list[int] = []
    for row, pair in enumerate(zip(*texts, strict=True)):
        missing = [side for side, text in zip(sides, pair, strict=True) if not text]
        if missing:
            raise UserError(
                f"{table.where(row)}: no text in column {missing[0]!r}; give both of a pair"
            )
        (kept if pair[0] != pair[1] else equal).append(row)
    if not kept:
        raise UserError(
            f"{table.source}: both texts are equal in every pair, such as "
            f"{one_line(texts[0][0], 60)!r}; give texts that differ"
        )
    # a note stands in public results, so without folders
    first = f" (the first: {table.where(equal[0]).rpartition('/')[2]})" if equal else ""
    values = table.values(phenomenon) if phenomenon else [""] * table.rows
    return PairTask(
        name=name,
        good=[texts[0][row] for row in kept],
        bad=[texts[1][row] for row in kept],
        phenomena=["" if values[row] is None else str(values[row]).strip() for row in kept],
        notes=counted(len(equal), "pair", f"dropped: both texts are equal{first}"),
        columns=[*sides, *([phenomenon] if phenomenon else [])],
    )
