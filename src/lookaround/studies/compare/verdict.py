"""What a study recommends for each need, and what would settle what it leaves open. Ours.

O objectives, S seeds. Where there are several seeds, variance is pooled over the objectives that
have left the plateau: of paired differences the residuals of an additive model of objective and
seed, (O - 1)(S - 1) degrees of freedom; of a score or a gain the deviations from each objective's
mean, O (S - 1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from scipy import stats

from lookaround.evaluation.baselines import baselines
from lookaround.evaluation.intervals import Interval, bootstrap_interval, seed_interval
from lookaround.evaluation.registry import Protocol

MOST_SEEDS = 30  # a need of more is not put down as a number of seeds
SEEDS, BUDGET = "--seeds 3", "a larger budget"

Statistic = tuple[float, np.ndarray]  # a value and its resamples (R,) over test items


@dataclass(frozen=True)
class Measured:
    """A metric of all objectives of a study; more is better, so bits per byte are negated.

    scores: by (objective, seed), at the last rung.
    gains: the same, less the network before training; empty where that is not asked.
    leader_before: who led a rung before; None: there is one rung.
    floors: {baseline: score}.
    plateau: objectives that use no context.
    title: of the metric.
    """

    protocol: Protocol[Any]
    scores: dict[tuple[str, int], Statistic]
    gains: dict[tuple[str, int], Statistic]
    leader_before: str | None
    floors: dict[str, float]
    plateau: frozenset[str]
    title: str

    @property
    def specs(self) -> list[str]:
        return list(dict.fromkeys(spec for spec, _ in self.scores))

    @property
    def seeds(self) -> list[int]:
        return list(dict.fromkeys(seed for _, seed in self.scores))

    @property
    def candidates(self) -> list[str]:
        """Objectives that have left the plateau; all of them where none has.

        One without a finite score is none.
        """
        finite = [spec for spec in self.specs if math.isfinite(self.mean(spec))]
        return [spec for spec in finite if spec not in self.plateau] or finite

    def mean(self, spec: str) -> float:
        """Over seeds."""
        return float(np.mean([self.scores[spec, seed][0] for seed in self.seeds]))

    @property
    def leader(self) -> str:
        return max(self.candidates, key=self.mean)


@dataclass
class Verdict:
    """What is said of a need; see `report.schema.comparison.Verdict`, which it is saved as."""

    green: bool
    leader: str | None = None
    candidates: list[str] = field(default_factory=list)
    metric: str | None = None
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None
    floor: str | None = None
    floor_score: float | None = None
    floor_difference_low: float | None = None
    floor_difference_high: float | None = None
    led_before: str | None = None
    seeds: int | None = None
    degrees_of_freedom: int | None = None
    reason: str = ""
    settle: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def recommendation(self) -> str:
        """The objective where that is settled, else which are still in question."""
        if self.green:
            return str(self.leader)
        if not self.candidates:
            return "not measured" if self.leader is None else f"none: {self.reason}"
        return f"inconclusive at this budget: {', '.join(self.candidates)}"


# ---------------------------------------------------------------------------- intervals


def paired_interval(measured: Measured, spec: str, reference: str) -> Interval:
    """The interval of spec - reference, pooled over the objectives that have left the plateau."""
    seeds = measured.seeds
    pairs = [(measured.scores[spec, s], measured.scores[reference, s]) for s in seeds]
    differences = [(one[0] - other[0], one[1] - other[1]) for one, other in pairs]
    if len(seeds) == 1:
        return bootstrap_interval(*differences[0])
    variance, freedom = residual_variance(_table(measured.scores, measured.candidates, seeds))
    mean = float(np.mean([value for value, _ in differences]))
    if not freedom:  # one objective
        return seed_interval([value for value, _ in differences])
    return _student(mean, 2 * variance / len(seeds), freedom, len(seeds))


def own_interval(
    values: Mapping[tuple[str, int], Statistic], measured: Measured, spec: str
) -> Interval:
    """The interval of one objective's mean score or gain, by the variance of all candidates."""
    seeds = measured.seeds
    if len(seeds) == 1:
        return bootstrap_interval(*values[spec, seeds[0]])
    table = _table(values, measured.candidates, seeds)
    deviations = table - table.mean(1, keepdims=True)
    freedom = len(table) * (len(seeds) - 1)
    mean = float(np.mean([values[spec, seed][0] for seed in seeds]))
    return _student(mean, (deviations**2).sum() / freedom / len(seeds), freedom, len(seeds))


def residual_variance(values_os: np.ndarray) -> tuple[float, int]:
    """(variance of what objective and seed leave of values (O, S), degrees of freedom)."""
    objectives, seeds = values_os.shape
    rest = values_os - values_os.mean(1, keepdims=True) - values_os.mean(0) + values_os.mean()
    freedom = (objectives - 1) * (seeds - 1)
    return float((rest**2).sum() / max(freedom, 1)), freedom


def _table(
    values: Mapping[tuple[str, int], Statistic], specs: Sequence[str], seeds: Sequence[int]
) -> np.ndarray:
    return np.array([[values[spec, seed][0] for seed in seeds] for spec in specs])


def _student(mean: float, variance: float, freedom: int, seeds: int) -> Interval:
    """The interval of a mean; none where seeds show no spread, which is chance and no certainty."""
    if variance <= 1e-16:
        return Interval(mean, math.nan, math.nan, seeds, "no spread over seeds, no interval")
    half = float(stats.t.ppf(0.975, freedom)) * math.sqrt(variance)
    method = f"95% t-interval, {freedom} degrees of freedom pooled over objectives and seeds"
    return Interval(mean, mean - half, mean + half, seeds, method)


def excludes_zero(interval: Interval) -> bool:
    return interval.low > 0 or interval.high < 0


# ---------------------------------------------------------------------------- verdicts


def judge(measured: Measured) -> Verdict:
    """The verdict of a need from its metric.

    Green where the leader is told apart from all others, is above the untrained network and the
    best baseline by intervals that exclude 0, led at the rung before too, and rests on two seeds.
    """
    if not measured.candidates:
        return Verdict(green=False, reason="No objective has a finite score.", settle=BUDGET)
    leader, seeds, sign = measured.leader, measured.seeds, 1 if measured.protocol.higher else -1
    others = [spec for spec in measured.candidates if spec != leader]
    left_out = [spec for spec in measured.specs if spec not in measured.candidates]
    apart = {spec: paired_interval(measured, leader, spec) for spec in others}
    close = [spec for spec in others if not apart[spec].low > 0]
    verdict = Verdict(
        green=False,
        leader=leader,
        candidates=[leader, *close],
        metric=measured.protocol.key,
        led_before=measured.leader_before,
        seeds=len(seeds),
    )
    if len(seeds) > 1:
        count = len(measured.candidates)
        verdict.degrees_of_freedom = max(count - 1, 1) * (len(seeds) - 1)
    amiss, remedies = [], set()  # why it is open, and what would settle it
    if close:
        amiss.append(f"it is not told from {' or '.join(close)}")
        remedies.add(_telling_apart(measured, close, apart))
    if measured.gains:
        gain = own_interval(measured.gains, measured, leader)
        verdict.gain, verdict.gain_low, verdict.gain_high = _numbers(gain)
        if not gain.low > 0:
            amiss.append(
                f"it is not told from the network before training ({gain.mean:+.3f}, {_span(gain)})"
            )
            remedies.add(BUDGET)
    floors = {name: floor for name, floor in measured.floors.items() if math.isfinite(floor)}
    if not floors:
        amiss.append("no baseline was measured beside it")
        remedies.add("its baselines, which the same command measures")
    else:
        name, floor = max(floors.items(), key=lambda pair: pair[1])
        score = own_interval(measured.scores, measured, leader)
        verdict.floor, verdict.floor_score = name, sign * floor
        low, high = score.low - floor, score.high - floor
        verdict.floor_difference_low, verdict.floor_difference_high = (
            None if math.isnan(value) else value for value in (low, high)
        )
        if not low > 0:
            side = "worse than" if score.mean < floor else "not told from"
            amiss.append(f"it is {side} {_title(measured.protocol, name)} ({sign * floor:.3f})")
            remedies.add(BUDGET)
    if measured.leader_before is None:
        amiss.append("there is no smaller rung that it could have led at")
        remedies.add("a ladder of two rungs or more")
    elif measured.leader_before != leader:
        amiss.append(f"{measured.leader_before} led a rung before")
        remedies.add(BUDGET)
    if len(seeds) == 1:
        amiss.append("it rests on one seed")
        remedies.add(SEEDS)
    figure = f"{leader} leads with {sign * measured.mean(leader):.3f} {measured.title}"
    if left_out:
        figure += f" among what uses context ({', '.join(left_out)} does not yet)"
    verdict.green = not amiss
    if amiss:
        verdict.reason = f"{figure}, but {'; '.join(amiss)}."
        verdict.settle = f"What would settle it: {'; '.join(sorted(remedies))}."
    else:
        above = (
            ""
            if verdict.gain is None
            else f", {verdict.gain:+.3f} over the network before training"
        )
        others_too = "it is told apart from" + " all others and from" * bool(others)
        verdict.reason = (
            f"{figure}{above}; {others_too} the best baseline over {len(seeds)} seeds, and led "
            "a rung before."
        )
    return verdict


def _telling_apart(measured: Measured, close: Sequence[str], apart: Mapping[str, Interval]) -> str:
    """What would tell the leader from some: so many seeds, or a larger budget."""
    seeds = len(measured.seeds)
    if seeds == 1:
        return SEEDS
    nearest = min((apart[spec] for spec in close), key=lambda interval: interval.mean)
    if not nearest.mean > 0:
        return BUDGET
    if math.isnan(nearest.low):
        return "more seeds"
    # the interval narrows with the root of the number of seeds
    needed = math.ceil(seeds * ((nearest.mean - nearest.low) / nearest.mean) ** 2) + 1
    return BUDGET if needed > MOST_SEEDS else f"about {needed} seeds, if the difference stays"


def _title(protocol: Protocol[Any], key: str) -> str:
    """What a baseline beside a protocol is called."""
    lines = (line for line in baselines().values() if protocol.name in line.beside)
    return next((line.title for line in lines if line.key == key), key)


def _span(interval: Interval) -> str:
    if math.isnan(interval.low):
        return "no interval"
    return f"95% interval {interval.low:+.3f} to {interval.high:+.3f}"


def _numbers(interval: Interval) -> tuple[float | None, ...]:
    values = (interval.mean, interval.low, interval.high)
    return tuple(None if math.isnan(value) else value for value in values)


def judge_all(verdicts: Mapping[str, Verdict], names: Mapping[str, str]) -> Verdict:
    """The verdict of all needs that were measured.

    names: {need: what a reader calls it}.
    """
    measured = {need: verdict for need, verdict in verdicts.items() if verdict.leader}
    if len(measured) < 2:
        return Verdict(
            green=False,
            reason="Fewer than two needs were measured.",
            settle="Labels, which make a task of classification beside that of generation.",
        )
    first, *others = measured.values()
    shared = [spec for spec in first.candidates if all(spec in v.candidates for v in others)]
    needs = ", ".join(names[need] for need in measured)
    if not shared:
        leaders = ", ".join(f"{v.leader} for {names[n]}" for n, v in measured.items())
        return Verdict(
            green=False,
            leader=first.leader,
            reason=leaders,
            settle="Choose by the need that matters most.",
        )
    open_needs = [names[need] for need, verdict in measured.items() if not verdict.green]
    green = not open_needs and len(shared) == 1
    reason = f"{', '.join(shared)} lead{'s' * (len(shared) == 1)}"
    reason += f", or {'is' if len(shared) == 1 else 'are'} not told from the leader, in {needs}"
    return Verdict(
        green=green,
        leader=shared[0],
        candidates=shared,
        reason=reason + (f"; open: {', '.join(open_needs)}." if open_needs else "."),
        settle="" if green else "See what would settle each of them.",
    )
