"""Tasks of words: sentences whose words have a label each, of a training and a test part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from lookaround.data.bio import as_bio, is_bio
from lookaround.data.corpus import hash_key
from lookaround.data.labelled import Sentence, TokenTask
from lookaround.data.tagged import Tagged, TaggedPart, counted
from lookaround.support.errors import UserError
from lookaround.support.text import listed, one_line

HELD_OUT = 0.2
DOCUMENTS = 10  # fewer are not held out as wholes


def token_task(
    name: str, metric: str | None, train: TaggedPart, test: TaggedPart | None, seed: int
) -> TokenTask:
    """The task of two parts, or of one of which a fifth of the sentences is held out.

    metric: "accuracy" or "span_f1"; None: span F1 where tags are BIO.

    Raises UserError where fewer than two labels or no test sentence are left, where labels are no
    classes, and for span F1 of tags that are not BIO.
    """
    notes = [*train.notes, *(test.notes if test else [])]
    if test is None:
        if len(train.sentences) < 3:
            raise UserError(
                f"{train.source}: {len(train.sentences)} sentence"
                f"{'s' * (len(train.sentences) != 1)} found, too few to hold some out; give 3 or "
                "more, or a test part beside it" + "".join(f"; {note}" for note in notes)
            )
        fit, held = _hold_out(train.sentences, seed)
        source = train.source
    else:
        fit, held, source = train.sentences, test.sentences, test.source
    held = _without_overlap(fit, held, source, notes)
    if metric != "accuracy":
        fit, held, change = _spans_as_bio(fit, held)
        notes += [change] if change else []
    labels = Counter(tag for sentence in fit for tag in sentence.tags)
    classes = sorted(labels)
    column = train.columns[-1]
    if len(classes) < 2:
        raise UserError(
            f"{train.source}: {len(classes)} label{'s' * (len(classes) != 1)} found in column "
            f"{column!r} ({listed(classes) or 'none'}); a task needs at least 2"
        )
    if len(classes) > labels.total() / 2:
        raise UserError(
            f"{train.source}: {len(classes)} different labels for {labels.total()} words in column "
            f"{column!r}, such as {one_line(classes[-1], 60)!r}; give classes that words share"
        )
    if metric == "span_f1" and not is_bio(classes):
        other = next(label for label in classes if not is_bio([label]) and label != "O")
        raise UserError(
            f"{train.source}: span F1 needs BIO tags ('O', 'B-X', 'I-X'), but column {column!r} "
            f"has {other!r}; give the metric 'accuracy'"
        )
    unknown = Counter(tag for sentence in held for tag in {*sentence.tags} - {*classes})
    if unknown:
        before = len(held)
        held = [sentence for sentence in held if not unknown.keys() & {*sentence.tags}]
        notes += counted(
            before - len(held),
            "test sentence",
            f"dropped: labels not in the training part {listed(sorted(unknown))}",
        )
    if not held:
        raise UserError(
            f"{source}: no test sentence is left; the test part needs sentences with labels of the "
            "training part alone" + "".join(f"; {note}" for note in notes)
        )
    index = {label: position for position, label in enumerate(classes)}
    return TokenTask(
        name=name,
        metric=metric or ("span_f1" if is_bio(classes) else "accuracy"),
        classes=classes,
        train=_sentences(fit, index),
        test=_sentences(held, index),
        notes=notes,
        columns=train.columns,
    )


def _sentences(tagged: Sequence[Tagged], index: dict[str, int]) -> list[Sentence]:
    return [
        Sentence(item.text, item.words, tuple(index[tag] for tag in item.tags)) for item in tagged
    ]


def _spans_as_bio(fit: list[Tagged], held: list[Tagged]) -> tuple[list[Tagged], list[Tagged], str]:
    """Both parts with their tags as BIO, if they are tags of spans, and what was changed."""
    both = [*fit, *held]
    found = as_bio([item.tags for item in both], [item.where for item in both])
    if found is None:
        return fit, held, ""
    tags, change = found
    both = [replace(item, tags=own) for item, own in zip(both, tags, strict=True)]
    return both[: len(fit)], both[len(fit) :], change


def _without_overlap(
    fit: Sequence[Tagged], held: Sequence[Tagged], source: str, notes: list[str]
) -> list[Tagged]:
    known = {sentence.text for sentence in fit}
    kept = [sentence for sentence in held if sentence.text not in known]
    shared = len(held) - len(kept)
    if shared > len(held) / 2:
        text = next(sentence.text for sentence in held if sentence.text in known)
        raise UserError(
            f"{source}: the test split overlaps the training part: {shared} of {len(held)} "
            f"sentences are in both, such as {one_line(text, 60)!r}; remove them from one side"
        )
    notes += counted(shared, "test sentence", "dropped: also in the training part")
    return kept


def _hold_out(sentences: list[Tagged], seed: int) -> tuple[list[Tagged], list[Tagged]]:
    """Holds out a fifth: whole documents where there are ten or more, else equal texts as one."""
    documents = {sentence.document for sentence in sentences}
    by_document = len(documents) >= DOCUMENTS
    keys = [f"{item.document}" if by_document else item.text for item in sentences]
    size = Counter(keys)
    held: set[str] = set()
    taken = 0
    for key in sorted(size, key=lambda key: hash_key(seed, key)):
        if taken >= HELD_OUT * len(sentences):
            break
        # a document that is most of a file is trained on
        if len(size) > len(held) + 1 and taken + size[key] <= 0.4 * len(sentences):
            held.add(key)
            taken += size[key]
    return (
        [item for item, key in zip(sentences, keys, strict=True) if key not in held],
        [item for item, key in zip(sentences, keys, strict=True) if key in held],
    )
