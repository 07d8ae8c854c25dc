"""What a study reports while it works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lookaround.data.files import corpus_size
from lookaround.settings.sections import DataSettings

if TYPE_CHECKING:
    from lookaround.train.loop import Progress


@dataclass(frozen=True)
class Running:
    """A job that is under way: its name, its phase, and how far that phase is.

    work: done of the job, in the unit of its study's events.
    note: what it has found so far, such as the scores of a smaller budget.
    """

    job: str
    phase: str
    step: int
    total: int
    tokens_per_second: float
    work: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class Event:
    """How far a study is, or one line about what has ended.

    stage: what is under way; empty for the study as a whole.
    done, total: of the stage in its own unit, of the study in work; a total of 0 is not known.
    note: a remark beside it, such as a rate.
    running: the jobs at work.
    finished: a line about a job that has ended; the other fields are empty then.
    """

    stage: str = ""
    done: float = 0
    total: float = 0
    note: str = ""
    running: tuple[Running, ...] = ()
    finished: str = ""


Report = Callable[[Event], None]


def report_step(report: Report, stage: str, progress: Progress) -> None:
    """Reports a step of a Trainer."""
    note = f"loss {progress.loss:.3f}, {progress.tokens_per_second:,.0f} tokens/s"
    report(Event(stage, progress.step, progress.total, note))


def reading(report: Report, data: DataSettings) -> Callable[[int], None]:
    """What hears of bytes that are read of a corpus, and reports how far that is."""
    done, total = 0, corpus_size(data)

    def heard(count: int) -> None:
        nonlocal done
        done += count
        report(Event("reading the corpus", min(done, total), total))

    return heard


def silent(event: Event) -> None:
    """Reports nothing."""
