"""Reads the corpus and tasks that settings name, or the embedded default and its tasks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lookaround.data.corpora import read_corpus
from lookaround.data.corpus import Corpus, cache_folder
from lookaround.data.files import Reading
from lookaround.data.labelled import AnyTask
from lookaround.data.picture_files import read_pictures
from lookaround.data.pictures import Pictures
from lookaround.data.roles import stdlib_roles
from lookaround.data.shards import TokenStore, prepare_pictures
from lookaround.data.stdlib import stdlib_corpus, stdlib_task
from lookaround.data.tasks import read_tasks
from lookaround.data.text import TextTokenizer
from lookaround.objectives import in_plane
from lookaround.objectives.objective import Objective
from lookaround.settings import DataSettings, Settings
from lookaround.support.errors import UserError
from lookaround.support.storage import write_folder

# in place of the name of a corpus that was given as an object
GIVEN = "<given in Python>"


def corpus_of(
    data: DataSettings,
    given: Any = None,
    *,
    heard: Callable[[int], None] = lambda _: None,
    required: bool = True,
) -> Corpus | Pictures:
    """The corpus that settings name, or the embedded one; raises UserError for bad input.

    given: what is read in place of a name: a dataset, texts or pictures; or a corpus that is read
        already.
    heard: called with the bytes that were read, again and again.
    required: whether the text column that is named must be there.
    """
    if isinstance(given, Corpus | Pictures):
        return given
    if data.images is not None:
        return _pictures_of(data, given, heard)
    source = given if given is not None else data.corpus
    if source is None:
        return stdlib_corpus()
    if isinstance(source, str) and source == GIVEN:
        raise UserError(
            "the text of this run was given as an object in Python and is not at hand; give a "
            "corpus (--corpus TEXT)"
        )
    if given is None and isinstance(source, list):
        source = [Path(name) for name in source]  # texts are given in Python alone
    return read_corpus(
        source,
        text_column=data.text_column,
        separator=data.separator,
        reading=Reading(data.encoding, heard),
        required=required,
    )


def _pictures_of(data: DataSettings, given: Any, heard: Callable[[int], None]) -> Pictures:
    """The pictures that settings name, or that were given in place of a name."""
    if data.corpus is not None or data.tasks:
        other = "data.corpus" if data.corpus is not None else "data.tasks"
        raise UserError(
            f"data.images: pictures stand in place of a text and bring their classes; give them "
            f"without {other}"
        )
    if data.tokenizer is not None:
        raise UserError(
            "data.tokenizer: is of a text; pictures have data.patch and data.vocabulary"
        )
    for name in ("text_column", "separator", "metrics", "no_label", "encoding"):
        if getattr(data, name) != DataSettings.model_fields[name].get_default(
            call_default_factory=True
        ):
            raise UserError(f"data.{name}: is of a text; leave it out beside pictures")
    if given is None and data.images == GIVEN:
        raise UserError(
            "the pictures of this run were given as an object in Python and are not at hand; give "
            "them (--images FOLDER)"
        )
    source = data.images if given is None else given
    return read_pictures(source, label_column=data.label_column, heard=heard)


def kept_task(data: Any) -> str:
    """The folder in the cache where a `Dataset` or `DatasetDict` is kept, to be read as a task.

    Raises UserError for anything else, and where the disk is full.
    """
    parts = dict(data) if isinstance(data, Mapping) else {"": data}
    if not parts or not all(hasattr(part, "save_to_disk") for part in parts.values()):
        raise UserError(
            f"tasks: a {type(data).__name__} is no task; give a path, a Dataset or a DatasetDict"
        )
    prints = "".join(f"{name}{part._fingerprint}" for name, part in parts.items())
    named = next(iter(parts.values())).info.dataset_name or "dataset"
    folder = cache_folder() / f"task-{hashlib.sha256(prints.encode()).hexdigest()[:16]}" / named
    if not folder.is_dir():
        write_folder(folder, lambda into: data.save_to_disk(str(into)))
    return str(folder)


def tasks_of(data: DataSettings, *, required: bool = True) -> list[AnyTask]:
    """The tasks that settings name; raises UserError for bad input.

    required: whether a task must have the text column that is named.
    """
    if data.images is not None:
        return []  # they bring their classes
    if data.metrics and not data.tasks:
        raise UserError(
            f"data.metrics: no task is called '{next(iter(data.metrics))}', since none is given"
        )
    if data.label_column and not data.tasks:
        raise UserError(
            f"data.label_column: {data.label_column!r} is of a task, and none is given (--task)"
        )
    if not data.tasks:
        return []
    return read_tasks(
        data.tasks,
        metrics={**data.metrics},
        text_column=data.text_column,
        text_required=required,
        label_column=data.label_column,
        no_label=data.no_label,
        reading=Reading(data.encoding),
    )


def picture_parts(pictures: Pictures, data: DataSettings) -> dict[str, np.ndarray]:
    """The split of pictures under these settings."""
    return pictures.split(seed=data.split_seed, validation=data.validation, test=data.test)


def pictures_store(pictures: Pictures, data: DataSettings) -> TokenStore:
    """The token store of pictures under these settings."""
    return prepare_pictures(
        pictures,
        picture_parts(pictures, data),
        patch=data.patch,
        codes=data.vocabulary,
        seed=data.split_seed,
    )


def fitted_to(
    store: TokenStore, settings: Settings, objectives: tuple[Objective, ...]
) -> tuple[Settings, tuple[Objective, ...]]:
    """Settings with the training length of pictures, a row for each, and objectives in the plane.

    The settings of a text are returned as they are. Raises UserError for another training length,
    for packing, and for objectives whose parameters do not fit.
    """
    codec, model = store.codec, settings.model
    if isinstance(codec, TextTokenizer):
        return settings, in_plane(objectives, 0)
    if "context" in model.model_fields_set and model.context != codec.length:
        raise UserError(
            f"model.context: a picture has {codec.length} tokens with its BOS, got "
            f"{model.context}; leave it out"
        )
    if settings.data.pack:
        raise UserError("data.pack: every picture is a row of its own; leave it out")
    settings = settings.model_copy(deep=True)
    settings.model.context = codec.length
    return settings, in_plane(objectives, codec.grid[1])


def read_source(
    data: DataSettings, given: Any = None, *, heard: Callable[[int], None] = lambda _: None
) -> tuple[Corpus | Pictures, list[AnyTask]]:
    """The corpus and the tasks of a study or a forecast; raises UserError for bad input.

    Arguments are those of `corpus_of`. A text column that is named must be in the corpus or in a
    task.
    """
    if data.images is not None:
        pictures = corpus_of(data, given, heard=heard)
        assert isinstance(pictures, Pictures)
        task = pictures.task(picture_parts(pictures, data))
        return pictures, [] if task is None else [task]
    if data.corpus is None and given is None and not data.tasks:
        tasks_of(data)  # refuses what is of a task
        return stdlib_corpus(), [stdlib_task(), stdlib_roles()]
    corpus = corpus_of(data, given, heard=heard, required=not data.tasks)
    assert isinstance(corpus, Corpus)
    return corpus, tasks_of(data, required=not corpus.asked)
