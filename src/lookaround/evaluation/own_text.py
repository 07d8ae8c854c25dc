"""The text that belongs to a run: what it was trained on, split as it was for training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lookaround.data.corpus import read_corpus, split_documents
from lookaround.data.rows import Rows
from lookaround.data.shards import Split, in_memory
from lookaround.data.stdlib import stdlib_corpus
from lookaround.evaluation.registry import TextData
from lookaround.model.foreign import say_once
from lookaround.model.readable import RUN_FILE, Readable
from lookaround.settings import DataSettings
from lookaround.support.errors import UserError

# of training text that is encoded for the n-gram rows: some seconds
COUNTED_BYTES = 20_000_000


@dataclass(frozen=True)
class OwnText:
    """A corpus by name, and the documents of its parts."""

    name: str
    train: list[str]
    validation: list[str]
    test: list[str]


def own_text(readable: Readable, data: DataSettings) -> OwnText | None:
    """The corpus of these settings, else the run's own; None where there is neither.

    The run's own text is split as it was for training. Raises UserError where it has changed since.
    """
    own, trained_on = None, None
    if readable.info is not None:
        own = DataSettings.model_validate(readable.info["settings"].get("data", {}))
        trained_on = readable.info["data"].get("corpus_fingerprint")
    if data.corpus is None and own is None:
        return None
    given = data if data.corpus is not None or own is None else own
    try:
        corpus = (
            stdlib_corpus()
            if given.corpus is None
            else read_corpus(given.corpus, text_column=given.text_column)
        )
    except UserError as error:
        if given is not own:
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
    parts = split_documents(
        corpus.documents, seed=given.split_seed, validation=given.validation, test=given.test
    )
    texts = {name: [corpus.documents[i] for i in part] for name, part in parts.items()}
    return OwnText(corpus.name, **texts)


def text_rows(readable: Readable, documents: Sequence[str]) -> Rows:
    """Rows of documents, in a window that the model is read through.

    Their codec counts bytes, or tokens where its tokenizer loses too much of these documents.
    """
    split = in_memory(list(documents), readable.tokenizer)
    width = readable.window(int(split.length.max(initial=2)))
    return Rows(split, width, readable.tokenizer.measured(documents))


def counted(readable: Readable, documents: Sequence[str]) -> Split:
    """Training documents that n-grams are counted in: all, or every k-th of a large corpus."""
    size = sum(len(document.encode()) for document in documents)
    every = -(-size // COUNTED_BYTES) or 1
    if every > 1:
        say_once(
            f"unigram, bigram and trigram models: of every {every}th training document (the text "
            f"has {size / 1e6:,.0f} MB)"
        )
    return in_memory(list(documents[::every]), readable.tokenizer)


def text_data(readable: Readable, data: DataSettings) -> TextData | None:
    """What a run is evaluated on as text; None where neither it nor the settings name a corpus."""
    own = own_text(readable, data)
    if own is None:
        return None
    train = counted(readable, own.train)
    return TextData(
        text_rows(readable, own.test),
        text_rows(readable, own.validation),
        np.bincount(np.concatenate(train.files), minlength=readable.tokenizer.size),
        train,
    )
