"""How numbers and names are written in every report: counts, durations, scores with intervals."""

import math
from collections.abc import Sequence
from fractions import Fraction

from lookaround.report.lookup import MISSING, Interval


def _scaled(value: float, suffixes: Sequence[str]) -> str:
    """Two or three significant digits and a suffix per factor of 1000: 5.2M, 131M, 980."""
    if math.isnan(value):
        return MISSING
    power = 0
    while abs(value) >= 999.5 and power < len(suffixes) - 1:
        value, power = value / 1000, power + 1
    digits = 0 if abs(value) >= 99.95 or (power == 0 and value == round(value)) else 1
    return f"{value:.{digits}f}{suffixes[power]}"


def format_count(value: float) -> str:
    """Tokens, targets, documents or bytes: 980, 5.2k, 5.2M, 1.3B, 2.0T."""
    return _scaled(value, ["", "k", "M", "B", "T"])


def format_flops(value: float) -> str:
    """Floating point operations: 950 GFLOP, 2.0 PFLOP (a multiplication and an addition count as
    two).
    """
    scaled = _scaled(value, ["", "k", "M", "G", "T", "P", "E", "Z", "Y"])
    if scaled == MISSING:
        return scaled
    split = len(scaled.rstrip("kMGTPEZY"))
    return f"{scaled[:split]} {scaled[split:]}FLOP"


def format_seconds(value: float) -> str:
    """A duration: 9.5 s, 92 s, 14 min, 2.1 h, 3.5 days."""
    if math.isnan(value):
        return MISSING
    if value < 120:
        return f"{value:.1f} s" if value < 9.95 else f"{value:.0f} s"
    if value < 7200:
        return f"{value / 60:.0f} min"
    return f"{value / 3600:.1f} h" if value < 172_800 else f"{value / 86400:.1f} days"


def format_rung(rung: float) -> str:
    """A share of the budget as a fraction: 1/8, 1/2, 1."""
    fraction = Fraction(rung).limit_denominator(1000)
    return str(fraction) if fraction else f"{rung:g}"


def format_score(value: float) -> str:
    return MISSING if math.isnan(value) else f"{value:.3f}"


def format_interval(score: Interval) -> str:
    """`1.984 ±0.031`, or `1.984 [1.960, 2.030]` where the mean is not in the middle."""
    if not score.known or not score.bounded:
        return format_score(score.mean)
    below, above = score.mean - score.low, score.high - score.mean
    if abs(above - below) <= 0.05 * (above + below) + 5e-4:
        return f"{score.mean:.3f} ±{(above + below) / 2:.3f}"
    return f"{score.mean:.3f} [{score.low:.3f}, {score.high:.3f}]"


def format_gain(gain: Interval, *, points: bool, ends: bool = True) -> str:
    """`+1.2 ±0.3`, or `+1.2 [+0.1, +2.9]`: a difference in points (of a share) or in its unit.

    ends: whether its interval is told.
    """
    scale, digits = (100, 1) if points else (1, 3)
    mean, low, high = (f"{scale * value:+.{digits}f}" for value in gain[:3])
    if not gain.known:
        return MISSING
    if not ends or not gain.bounded:
        return mean
    below, above = gain.mean - gain.low, gain.high - gain.mean
    if abs(above - below) <= 0.05 * (above + below) + 0.5 * 10**-digits / scale:
        return f"{mean} ±{scale * (above + below) / 2:.{digits}f}"
    return f"{mean} [{low}, {high}]"


def format_percent(value: float) -> str:
    """A share from 0 to 1 in percent: 97.5%."""
    return f"{100 * value:.1f}%" if math.isfinite(value) else MISSING


def format_share(value: float, whole: float) -> str:
    """A percentage of the unigram model's bits per byte."""
    share = value / whole if whole else math.nan
    return MISSING if math.isnan(share) else f"{100 * share:.0f}%"


def single_line(text: object) -> str:
    """Text on one line: whatever cannot be printed (control characters, line ends) becomes a
    space.
    """
    return "".join(character if character.isprintable() else " " for character in str(text)).strip()
