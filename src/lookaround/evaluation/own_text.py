"""The text that belongs to a run: what it was trained on, split as it was for training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lookaround.data.corpus import Corpus, split_documents
from lookaround.data.documents import Documents
from lookaround.data.rows import Rows
from lookaround.data.shards import Split, in_memory
from lookaround.data.source import GIVEN, corpus_of
from lookaround.evaluation.registry import TextData
from lookaround.model.foreign import say_once
from lookaround.model.readable import RUN_FILE, Readable
from lookaround.settings import DataSettings
from lookaround.support.errors import UserError

# of training text that is encoded for the n-gram rows: some seconds
COUNTED_BYTES = 20_000_000
# of test text of a model of others, all of which is held as tokens
TESTED_BYTES = 500_000_000


@dataclass(frozen=True)
class OwnText:
    """A corpus by name, the documents of its parts, and what was chosen to read it.

    train: None where all of the text is tested on.
    """

    name: str
    train: Documents | None
    validation: Documents
    test: Documents
    notes: tuple[str, ...] = ()


def trained_with(readable: Readable) -> tuple[DataSettings | None, str | None]:
    """(settings of the data of a run, fingerprint of its corpus); None of a model of others."""
    if readable.info is None:
        return None, None
    own = DataSettings.model_validate(readable.info["settings"].get("data", {}))
    return own, readable.info["data"].get("corpus_fingerprint")


def own_text(
    readable: Readable,
    data: DataSettings,
    text: Any = None,
    heard: Callable[[int], None] = lambda _: None,
    *,
    whole: bool = False,
) -> OwnText | None:
    """The corpus of these settings, else the run's own; None where there is neither.

    text: what is read in place of a name in the settings: a dataset, or texts.
    heard: called with the bytes that were read, again and again.
    whole: whether a model of others is tested on all of the text, which it was not trained on.

    The run's own text is split as it was for training. Raises UserError where it has changed since.
    """
    _ = readable.tokenizer  # refuses a model of pictures
    if data.images is not None:
        raise UserError("data.images: a model of text reads no pictures; give --corpus TEXT")
    own, trained_on = trained_with(readable)
    named = data.corpus is not None or text is not None
    if not named and own is None:
        return None
    given = data if named or own is None else own
    try:
        corpus = corpus_of(given, text, heard=heard, required=not data.tasks)
    except UserError as error:
        if given is not own or given.corpus == GIVEN:
            raise
        raise UserError(
            f"{error}; this is the corpus that {RUN_FILE} of {readable.folder} names: give its "
            "place now by --corpus, or start in the folder where the model was trained"
        ) from None
    if given is own and trained_on not in (None, corpus.fingerprint):
        raise UserError(
            f"{given.corpus or 'the standard library'}: has changed since this model was trained, "
            "so its test part may have been trained on; give --corpus TEXT to evaluate on other "
            "text"
        )
    if own is not None and trained_on == corpus.fingerprint:
        given = own
    assert isinstance(corpus, Corpus)
    documents = corpus.documents
    if whole and own is None and len(documents) < 3:
        return OwnText(corpus.name, None, documents, documents, corpus.notes)
    parts = split_documents(
        documents, seed=given.split_seed, validation=given.validation, test=given.test
    )
    texts = {name: documents[part] for name, part in parts.items()}
    if whole and own is None:
        test, notes = documents, corpus.notes
        if (every := -(-documents.bytes // TESTED_BYTES)) > 1:
            test = documents[::every]
            notes = (*notes, f"of {len(documents):,} documents every {every}th is read")
        return OwnText(corpus.name, None, texts["validation"], test, notes)
    return OwnText(corpus.name, **texts, notes=corpus.notes)


def text_rows(readable: Readable, documents: Sequence[str]) -> Rows:
    """Rows of documents, in a window that the model is read through.

    Their codec counts bytes, or tokens where its tokenizer loses too much of these documents.
    """
    split = in_memory(documents, readable.tokenizer)
    width = readable.window(int(split.length.max(initial=2)))
    return Rows(split, width, readable.tokenizer.measured(documents))


def counted(readable: Readable, documents: Documents) -> Split:
    """Training documents that n-grams are counted in: all, or every k-th of a large corpus."""
    size = documents.bytes
    every = -(-size // COUNTED_BYTES) or 1
    if every > 1:
        say_once(
            f"unigram, bigram and trigram models: of every {every}th training document (the text "
            f"has {size / 1e6:,.0f} MB)"
        )
    return in_memory(documents[::every], readable.tokenizer)


def text_data(readable: Readable, own: OwnText) -> TextData:
    """What a run is evaluated on as text."""
    test, validation = text_rows(readable, own.test), text_rows(readable, own.validation)
    if own.train is None:
        return TextData(test, validation)
    train = counted(readable, own.train)
    return TextData(
        test,
        validation,
        np.bincount(np.concatenate(train.files), minlength=readable.tokenizer.size),
        train,
    )
