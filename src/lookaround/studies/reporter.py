"""What is shown of a study at work: one view for all, with a terminal and without."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from lookaround.report.text import format_seconds
from lookaround.support.text import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

    from lookaround.studies.events import Event, Running


QUIET_SECONDS = 30  # between lines where there is no terminal


def say(console: Console, text: str, *, end: str = "\n", style: str | None = None) -> None:
    """Prints text without control characters; no markup is read in it, no line of it is broken."""
    console.print(
        printable(text), end=end, style=style, markup=False, highlight=False, soft_wrap=True
    )


def quiet_libraries() -> None:
    """Keeps progress bars and load reports of transformers and datasets off the screen."""
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


class Reporter:
    """A bar per stage and per running job, with the time left; without a terminal, lines.

    A line says every half minute how far the work is, and one is printed for each stage and job
    that has ended.
    """

    def __init__(self, console: Console, passing: bool = False) -> None:
        """passing: whether bars go away when they are done."""
        from rich.progress import BarColumn, Progress, TextColumn

        self.console = console
        self.bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(24),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[note]}", markup=False),
            console=console,
            disable=not console.is_terminal,
            transient=passing,
        )
        self.tasks: dict[str, TaskID] = {}
        self.began = self.last = time.monotonic()
        # of each stage: when it was first heard of, and how much of it was done then
        self.first: dict[str, tuple[float, float]] = {}

    def __enter__(self) -> Reporter:
        self.bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.stop()

    def report(self, event: Event) -> None:
        """Shows an event."""
        now = time.monotonic()
        if event.finished:
            self._line(now, event.finished)
            return
        name = event.stage or "study"
        notes = [self._left(name, event, now), event.note]
        jobs = {f"  {job.job}": _about(job) for job in event.running}
        if self.console.is_terminal:
            self._show(name, event.done, event.total, ", ".join(filter(None, notes)))
            for job in event.running:
                self._show(f"  {job.job}", job.step, job.total, jobs[f"  {job.job}"])
            gone = [key for key in self.tasks if key.startswith("  ") and key not in jobs]
            for key in gone:
                self.bar.remove_task(self.tasks.pop(key))
        elif now - self.last > QUIET_SECONDS:
            self.last = now
            what = event.stage or "the work"
            share = f"{event.done / event.total:.0%} of {what}" if event.total else what
            under_way = [f"{key.strip()}: {about}" for key, about in jobs.items()]
            self._line(now, "; ".join(filter(None, [share, *notes, *under_way])))

    def _show(self, name: str, done: float, total: float, note: str) -> None:
        if name not in self.tasks:
            self.tasks[name] = self.bar.add_task(printable(name), total=total or None, note="")
        self.bar.update(self.tasks[name], completed=done, total=total or None, note=printable(note))

    def _left(self, name: str, event: Event, now: float) -> str:
        """The time left, by what was done since this process began or the stage got a length."""
        if not event.total:
            return ""
        since, before = self.first.setdefault(name, (now, event.done))
        done = event.done - before
        if done <= 0 or now - since < 2 or event.done >= event.total:
            return ""
        return f"about {format_seconds((now - since) * (event.total - event.done) / done)} left"

    def _line(self, now: float, text: str) -> None:
        say(self.console, f"  {now - self.began:5.0f} s  {text}")


def _about(job: Running) -> str:
    rate = f"{job.tokens_per_second:,.0f} tokens/s" if job.tokens_per_second else ""
    steps = f"step {job.step:,} of {job.total:,}" if job.total > 1 else ""
    return ", ".join(filter(None, [job.phase, steps, rate, job.note]))
