"""Tags of spans: which sets of tags are BIO, and other schemes written as BIO.

A tag is "O", or a kind and a type: "B-PER". Chunks begin by the rule of conlleval: at B, and at any
tag inside a chunk that follows another type, O, or a tag that ends a chunk.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from lookaround.support.errors import UserError

_TAG = re.compile(r"([BIESLUWM])[-_](.+)")
_BEGIN, _END = "BSUW", "ESLUW"
# kinds of tags that stand beside O
_SCHEMES = {"IOE": "IE", "BIOES": "BIES", "BILOU": "BILU", "BMES": "BMES", "BMEW": "BMEW"}


def is_bio(tags: Iterable[str]) -> bool:
    """Whether all tags are "O", "B-TYPE" or "I-TYPE", and not all are "O"."""
    kinds = {tag if tag == "O" else tag[:2] * (len(tag) > 2) for tag in tags}
    return kinds <= {"O", "B-", "I-"} and kinds != {"O"} and bool(kinds)


def begins(tag: str, before: str) -> bool:
    """Whether a chunk begins at this BIO tag, `before` being the one in front of it or "O".

    By conlleval's rule: at B-X, and at I-X behind anything but B-X or I-X. So IOB1 is read too.
    Source: Tjong Kim Sang and Buchholz, "Introduction to the CoNLL-2000 shared task", 2000.
    """
    return tag != "O" and (tag[0] == "B" or before[2:] != tag[2:])


def as_bio(
    sentences: Sequence[Sequence[str]], where: Sequence[str]
) -> tuple[list[tuple[str, ...]], str] | None:
    """Tags of spans as BIO, and what was changed (""); None where they are no tags of spans.

    sentences: the tags of each. where: "file:line" of each, for messages.

    `B_PER`, IOE, BIOES, BILOU, BMES and plain `B`, `I` are rewritten; BIO and IOB1 stay as they
    are. Raises UserError where most tags are of spans and others are not.
    """
    known = {tag for tags in sentences for tag in tags} - {"O"}
    if known == {"B", "I"}:
        return [
            tuple(tag if tag == "O" else f"{tag}-span" for tag in tags) for tags in sentences
        ], "plain tags B, I are read as B-span, I-span"
    parsed = {tag: match.groups() for tag in known if (match := _TAG.fullmatch(tag))}
    kinds = {kind for kind, _ in parsed.values()}
    plain = kinds <= {"B", "I"}
    scheme = next((name for name, letters in _SCHEMES.items() if kinds <= set(letters)), None)
    if not parsed or not (plain or scheme):
        return None
    if len(parsed) < len(known):
        if len(parsed) < 0.9 * len(known):
            return None
        other = sorted(known - set(parsed))[0]
        place = next(at for at, tags in zip(where, sentences, strict=True) if other in tags)
        raise UserError(
            f"{place}: tag {other!r} among BIO tags such as {min(parsed)!r}; give 'O', 'B-TYPE' or "
            "'I-TYPE', or the metric 'accuracy' for this task"
        )
    if plain:
        changed = any(tag[1] == "_" for tag in parsed)
        rewritten = [
            tuple(tag if tag == "O" else "-".join(parsed[tag]) for tag in tags)
            for tags in sentences
        ]
        return rewritten, "tags such as 'B_X' are read as 'B-X'" * changed
    rewritten = [_rewritten(tags, parsed) for tags in sentences]
    return rewritten, f"{scheme} tags are read as BIO"


def _rewritten(tags: Sequence[str], parsed: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    out, before = [], ("O", "")
    for tag in tags:
        kind, name = parsed.get(tag, ("O", ""))
        if kind == "O":
            out.append("O")
        else:
            new = kind in _BEGIN or before[0] in "O" + _END or before[1] != name
            out.append(f"{'B' if new else 'I'}-{name}")
        before = (kind, name)
    return tuple(out)
