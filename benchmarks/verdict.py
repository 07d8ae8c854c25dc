"""What the track record of the forecast says: whether it may recommend, in one sentence."""

from __future__ import annotations

from typing import Any

from benchmarks.tables import interval

FORECAST, SAME_ORDER, FAR = "forecast", "same order for all", "targets 64 tokens away"


def verdict(record: dict[str, Any]) -> dict[str, Any]:
    """{"earned": bool, "sentence": text} of a record of benchmarks/track_record.py.

    Earned: on the reported half of the tasks at the largest budget the forecast beats the same
    order for every task and itself 64 tokens away, both with 95 % intervals above 0.

    record: with `corpora`, `objectives`, `tasks` by half, `seeds` and the rows `agreement`.
    """
    rows = [row for row in record["rows"]["agreement"] if row["half"] == "reported"]
    largest = max(float(row["budget"]) for row in rows)
    last = {row["predictor"]: row for row in rows if float(row["budget"]) == largest}
    tau = {predictor: interval(2, sign="+")(row["tau"]) for predictor, row in last.items()}
    earned = all(last[name]["forecast_less_this"]["low"] > 0 for name in (SAME_ORDER, FAR))
    ending = (
        "The forecast beats that order, and itself with every target moved 64 tokens away."
        if earned
        else "The forecast has not earned a recommendation and gives none: read its scores as "
        "properties of the corpus."
    )
    sentence = (
        f"over {len(record['corpora'])} corpora x {len(record['tasks']['reported'])} held-out "
        f"tasks, {len(record['objectives'])} objectives and {record['seeds']} seeds, Kendall's tau "
        f"between the forecast's order and that of trained models is {tau[FORECAST]}; one and the "
        f"same order for every task reaches {tau[SAME_ORDER]}. {ending}"
    )
    return {"earned": earned, "sentence": sentence}
