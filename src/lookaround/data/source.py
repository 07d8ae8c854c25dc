"""Reads the corpus and tasks that settings name, or the embedded default and its tasks."""

from __future__ import annotations

from lookaround.data.corpora import read_corpus
from lookaround.data.corpus import Corpus
from lookaround.data.labelled import AnyTask
from lookaround.data.roles import stdlib_roles
from lookaround.data.stdlib import stdlib_corpus, stdlib_task
from lookaround.data.tasks import read_tasks
from lookaround.settings import Settings
from lookaround.support.errors import UserError


def read_source(settings: Settings) -> tuple[Corpus, list[AnyTask]]:
    """The corpus and the tasks of a study or a forecast; raises UserError for bad input."""
    paths, metrics = settings.data.tasks, {**settings.data.metrics}
    if metrics and not paths:
        raise UserError(
            f"data.metrics: no task is called '{next(iter(metrics))}', since none is given"
        )
    if settings.data.corpus is None:
        if paths:
            return stdlib_corpus(), read_tasks(paths, metrics=metrics)
        return stdlib_corpus(), [stdlib_task(), stdlib_roles()]
    corpus = read_corpus(settings.data.corpus, text_column=settings.data.text_column)
    return corpus, read_tasks(paths, metrics=metrics) if paths else []
