"""CoNLL columns and CoNLL-U: a word a line, a blank line between sentences.

Both are known by their content, whatever the name of the file ends in.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lookaround.data import columns as kinds
from lookaround.data.tagged import Tagged, TaggedPart, counted
from lookaround.support.errors import UserError
from lookaround.support.text import listed, one_line

CONLLU = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
# labels of words; the others are words, or point to other words
CONLLU_LABELS = ("upos", "xpos", "deprel", "feats")
_ID = re.compile(r"\d+(-\d+|\.\d+)?")
_GLOBAL = re.compile(r"#\s*global\.columns\s*=\s*(.+)")
_START = re.compile(r"-DOCSTART-(\s|$)")
_SAMPLE = 200_000  # characters by which the format is known
SHARE = 0.9  # of its lines that have equally many columns


@dataclass(frozen=True)
class Layout:
    """How a line is cut: at tabs or at runs of blanks, into so many columns; names of CoNLL-U."""

    tabs: bool
    columns: int
    names: tuple[str, ...] = ()

    def cut(self, line: str) -> list[str]:
        if not self.tabs:
            # not at every white space: a word may hold a no-break space
            return [part for part in line.replace("\t", " ").split(" ") if part] or [""]
        fields = [column.strip() for column in line.split("\t")]
        while len(fields) > self.columns and not fields[-1]:
            fields.pop()
        return fields

    def fits(self, text: str) -> bool:
        """Whether nine in ten lines of another file have as many columns."""
        rows = [line for line in text.split("\n") if line.strip() and line[0] not in "#-"]
        right = sum(len(self.cut(line)) == self.columns for line in rows)
        return 0 < SHARE * len(rows) <= right


def layout(text: str) -> Layout | None:
    """How the lines of CoNLL columns or CoNLL-U are cut; None for any other text.

    They are columns if nine in ten of the first lines have equally many, at least two, fields, half
    of the lines none with a blank in it, and blank lines or `-DOCSTART-` stand between some. They
    are CoNLL-U if there are ten, or as many as `# global.columns` names, and the first numbers the
    words.
    """
    lines = text[:_SAMPLE].split("\n")
    if len(text) > _SAMPLE:
        lines = lines[:-1]
    rows = [line for line in lines if line.strip() and line[0] != "#" and not _START.match(line)]
    declared = next((match[1].split() for line in lines if (match := _GLOBAL.match(line))), None)
    names = tuple(name.lower().rpartition(":")[2] for name in declared or CONLLU)
    for tabs in (True, False):
        found = Layout(tabs, 0)
        counts = Counter(len(found.cut(line)) for line in rows)
        columns, times = max(counts.items(), key=lambda item: item[1], default=(0, 0))
        if columns < 2 or times < SHARE * len(rows):
            continue
        fields = [found.cut(line) for line in rows]
        numbered = sum(_ID.fullmatch(row[0]) is not None for row in fields) >= SHARE * len(rows)
        if columns == len(names) and names[0] == "id" and numbered:
            return Layout(tabs, columns, names)
        blanks = sum(any(" " in part for part in row) for row in fields)
        between = _START.match(text.strip()) or re.search(r"\n[ \t]*\n", text.strip())
        if between and blanks <= len(rows) / 2:
            return Layout(tabs, columns)
    return None


def no_columns(text: str) -> str:
    """Why a file without a layout has none, in words for a message; "" where that is not known."""
    lines = [line for line in text.split("\n") if line.strip()]
    words = [line for line in lines if line[0] != "#"]
    if not lines:
        return "the file is empty"
    if not words:
        return "the file holds comments alone"
    if len(words) > 1 and not re.search(r"\n[ \t]*\n", text.strip()):
        sizes = {len(Layout("\t" in words[0], 0).cut(line)) for line in words}
        if len(sizes) == 1 and (size := sizes.pop()) > 1:
            return (
                f"the file holds one sentence ({len(words)} lines of {size} columns): a blank "
                "line ends a sentence, and some must be left for the test"
            )
    return ""


def read_conll(
    path: Path, text: str, found: Layout, column: str | None, like: TaggedPart | None = None
) -> TaggedPart:
    """The sentences of a file of this layout, with the labels of one column.

    column: a number from 1, or a name where the file has names; None: `upos` of CoNLL-U, else the
        last one.
    like: the training part, whose columns are taken where this file does not name them.

    Raises UserError with file and line for lines of another number of columns, words without a
    label and labels without a word, and for a column that is not there.
    """
    if found.names:
        return _read_conllu(path, text, found, column)
    return _read_columns(path, text, found, column, like)


# ---------------------------------------------------------------------------- columns


_Rows = list[tuple[int, list[str]]]  # (line, fields)


def _read_columns(
    path: Path, text: str, found: Layout, wanted: str | None, like: TaggedPart | None
) -> TaggedPart:
    blocks, names, notes = _blocks(path, text, found)
    if not blocks:
        raise UserError(f"{path}: no sentences; give a word and its label a line")
    if like is not None and like.at is not None and not names:
        word, label = like.at
    else:
        word, label, told = _word_and_label(path, [own for _, own in blocks], found, names, wanted)
        notes += told
    sentences = []
    for document, rows in blocks:
        for number, row in rows:
            if not row[word] or not row[label]:
                what = "a word without a label" if row[word] else "a label without a word"
                raise UserError(
                    f"{path}:{number}: {what} ({one_line(' '.join(row), 60)!r}); give each "
                    "word a label, and a blank line between sentences"
                )
        joined, words = _joined([row[word] for _, row in rows], [" "] * len(rows))
        tags = tuple(row[label] for _, row in rows)
        sentences.append(Tagged(joined, tuple(words), tags, f"{path}:{rows[0][0]}", document))
    shown = [names[i] if names else str(i + 1) for i in (word, label)]
    return TaggedPart(str(path), shown, sentences, notes, (word, label))


def _blocks(
    path: Path, text: str, found: Layout
) -> tuple[list[tuple[int, _Rows]], list[str], list[str]]:
    """([(document, rows)], names in a row that names the columns, notes)."""
    lines = text.split("\n")
    cut = [found.cut(line) if line.strip() else [] for line in lines]
    headers = _headers(cut, found)
    # "# # B-NP" is a word, "# id 7 domain=en" in front of a sentence is not: its last field is no
    # label of another line
    tags = {row[-1] for row, line in zip(cut, lines, strict=True) if row and line[0] != "#"}
    blocks: list[tuple[int, _Rows]] = []
    document, inside, comments = 0, False, 0
    for number, (line, fields) in enumerate(zip(lines, cut, strict=True), 1):
        if not fields or number - 1 in headers:
            inside = False
        elif _START.match(line):
            inside, document = False, document + 1
        elif line[0] == "#" and len(fields) != found.columns:
            continue
        elif not inside and fields[-1] not in tags and _is_comment(line, fields):
            comments += "=" not in line
        elif len(fields) != found.columns:
            raise UserError(
                f"{path}:{number}: {len(fields)} column{'s' * (len(fields) != 1)} found, "
                f"{found.columns} expected ({one_line(line, 60)!r}); give each word its label, and "
                "a blank line between sentences"
            )
        else:
            if not inside:
                blocks.append((document, []))
            inside = True
            blocks[-1][1].append((number, fields))
    notes = counted(comments, "line", f"of {path.name} read as no word: '# ' in front")
    if not headers:
        return blocks, [], notes
    at = min(headers)
    names = [kinds.plain_name(name) for name in cut[at]]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(
            f"{path}:{at + 1}: two columns are called {twice!r}; give each its own name"
        )
    notes += counted(
        len(headers), "line", f"of {path.name} read as the names of columns: {listed(names)}"
    )
    return blocks, names, notes


def _headers(cut: Sequence[Sequence[str]], found: Layout) -> set[int]:
    """The places of rows that name the columns and have no label of another row."""
    whole = [i for i, row in enumerate(cut) if len(row) == found.columns]
    headers = {i for i in whole if kinds.is_header(cut[i], i == whole[0])}
    headers |= {i for i in whole if whole[0] in headers and cut[i] == cut[whole[0]]}
    if not headers:
        return headers
    names = [kinds.plain_name(name) for name in cut[min(headers)]]
    label = max((i for i, name in enumerate(names) if kinds.is_label_name(name)), default=-1)
    labels = {cut[i][label] for i in whole if i not in headers}
    return {i for i in headers if cut[i][label] not in labels}


def _is_comment(line: str, fields: Sequence[str]) -> bool:
    """Whether a line with as many fields as a word can be a comment: "#happy A" can't."""
    return line[0] == "#" and (line[1:2] in (" ", "\t") or "=" in fields)


def _word_and_label(
    path: Path, blocks: Sequence[_Rows], found: Layout, names: list[str], wanted: str | None
) -> tuple[int, int, list[str]]:
    """The indices of the columns of words and of labels, and notes on what was decided."""
    name, numbers = path.name, 0
    while numbers < found.columns:
        counts = kinds.are_numbers(blocks, numbers)
        # the name of a document, in front of a word and a label at least
        spare = numbers < found.columns - 2 and not kinds.are_span_tags(blocks, numbers)
        if not counts and not (spare and kinds.is_constant(blocks, numbers)):
            break
        if counts and (bad := kinds.not_a_number(blocks, numbers)):
            raise UserError(
                f"{path}:{bad[0]}: {one_line(bad[1][numbers], 60)!r} in column {numbers + 1}, "
                "which numbers the words; give each line a whole number, or none"
            )
        numbers += 1
    if numbers and found.columns - numbers < 2:
        raise UserError(
            f"{path}:{blocks[0][0][0]}: column {numbers} holds running numbers, so there is no "
            "column for words and another for labels; give a word and its label a line"
        )
    notes = []
    named = next((i for i, title in enumerate(names) if title in kinds.WORD_NAMES), None)
    word = numbers if named is None or named < numbers else named
    while names and word < found.columns - 2 and names[word] in kinds.NUMBER_NAMES:
        word += 1
    if numbers and not names:
        notes.append(
            (f"column 1 of {name} holds" if numbers == 1 else f"columns 1-{numbers} of {name} hold")
            + f" numbers of words, or one value a sentence: words are read from column {word + 1}"
        )
    first = found.columns - numbers == 2 and wanted == str(numbers + 1)
    if not names:
        tagged = [kinds.are_span_tags(blocks, numbers + i) for i in (0, 1)] == [True, False]
        if tagged or first:
            what = "BIO tags" if tagged else "the labels"
            note = f"column {numbers + 1} of {name} holds {what}: words are read from column "
            wanted, word = wanted or str(numbers + 1), numbers + 1
            notes = [f"{note}{word + 1}"]
    label = _column(path, found, names, wanted, word)
    if wanted is None and label > word + 1 and kinds.are_numbers(blocks, label, grow=True):
        notes.append(
            f"column {label + 1} of {name} holds running numbers: labels are read from column "
            f"{label}"
        )
        label -= 1
    few, many = kinds.different(blocks, word), kinds.different(blocks, label)
    if wanted is None and not names and few * kinds.FEWER < many:
        raise UserError(
            f"{path}:{blocks[0][0][0]}: column {word + 1} has {few} different values and column "
            f"{label + 1} has {many}, so it is not clear which holds the words; name the column "
            f"of labels: ':{word + 1}' or ':{label + 1}' behind the path"
        )
    return word, label, notes


def _column(path: Path, found: Layout, names: list[str], wanted: str | None, word: int) -> int:
    """The index of the label's column."""
    last = found.columns - 1
    if wanted is None:
        return last if last != word else last - 1
    there = (
        f"it has {listed(names)}"
        if names
        else f"its columns have no names; give a number from 1 to {found.columns}, such as "
        f"{found.columns} for the last"
    )
    if wanted.lower() in names:
        label = names.index(wanted.lower())
    elif re.fullmatch(r"[0-9]{1,9}", wanted) and 1 <= int(wanted) <= found.columns:
        label = int(wanted) - 1
    else:
        raise UserError(f"{path}: no column {wanted!r}; {there}")
    if label == word:
        raise UserError(f"{path}: column {wanted!r} holds the words; {there}")
    return label


def _joined(surfaces: Sequence[str], gaps: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """The text of words and what stands behind each but the last, and the words' places in it."""
    places, at, parts = [], 0, []
    for surface, gap in zip(surfaces, gaps, strict=True):
        places.append((at, at + len(surface)))
        at += len(surface) + len(gap)
        parts += [surface, gap]
    return "".join(parts[:-1]), places


# ---------------------------------------------------------------------------- CoNLL-U


@dataclass
class _Unit:
    """A token of the text: a word, or several that share a surface (`4-5 I'm`)."""

    surface: str
    gap: str
    last: int
    words: list[int] = field(default_factory=list)


@dataclass
class _Block:
    """A sentence of CoNLL-U: its words' rows and the tokens of its text."""

    line: int
    document: int
    text: str | None
    rows: list[dict[str, str]]
    units: list[_Unit]


def _read_conllu(path: Path, text: str, found: Layout, wanted: str | None) -> TaggedPart:
    blocks = [block for block in _conllu_blocks(path, text, found) if block.rows]
    rows = [row for block in blocks for row in block.rows]
    if not rows:
        raise UserError(f"{path}: no sentences; give a word and its label a line")
    if sum(row["form"] == "_" for row in rows) > len(rows) / 2:
        raise UserError(f"{path}: its words are left out ('_'); give a file with them")
    label = _conllu_label(path, found, rows, wanted)
    sentences = []
    shared = rebuilt = unlabelled = 0
    for block in blocks:
        tags = tuple(label(row) for row in block.rows)
        if "" in tags:
            unlabelled += 1
            continue
        whole, places = _placed(block)
        rebuilt += block.text is not None and whole != block.text
        words: list[tuple[int, int]] = []
        kept: list[str] = []
        for unit, (start, _) in zip(block.units, places, strict=True):
            cuts, exact = _shares(unit.surface, [block.rows[i]["form"] for i in unit.words])
            shared += len(unit.words) * (not exact)
            for i, (begin, end) in zip(unit.words, cuts, strict=False):
                words.append((start + begin, start + end))
                kept.append(tags[i])
        where = f"{path}:{block.line}"
        sentences.append(Tagged(whole, tuple(words), tuple(kept), where, block.document))
    column = wanted or "upos"
    if not sentences:
        raise UserError(f"{path}: column {column!r} is empty in every sentence; name another")
    name = path.name
    headers = sum(_names_columns(line, found) for line in text.split("\n"))
    notes = counted(headers, "line", f"of {name} read as the names of columns")
    notes += counted(unlabelled, "sentence", f"of {name} left out: words without {column!r}")
    notes += counted(rebuilt, "sentence", f"of {name} read by words: '# text' has others")
    notes += counted(
        shared, "word", f"of {name} in contractions share a surface that is not theirs"
    )
    return TaggedPart(str(path), ["form", column], sentences, notes)


def _conllu_blocks(path: Path, text: str, found: Layout) -> Iterator[_Block]:
    document = 0
    block = _Block(1, 0, None, [], [])
    for number, line in enumerate([*text.split("\n"), ""], 1):
        if not line.strip():
            yield block
            block = _Block(number + 1, document, None, [], [])
        elif line[0] == "#":
            if re.match(r"#\s*newdoc\b", line):
                document += 1
                block.document = document
            elif match := re.match(r"#\s*text\s*=\s?(.*)", line):
                block.text = match[1].strip()
        elif not _names_columns(line, found):
            _add_row(block, path, number, line, found)


def _names_columns(line: str, found: Layout) -> bool:
    return line[:1] not in ("", "#") and not _ID.match(line) and kinds.is_header(found.cut(line))


def _add_row(block: _Block, path: Path, number: int, line: str, found: Layout) -> None:
    fields = found.cut(line)
    if len(fields) != found.columns or not _ID.fullmatch(fields[0]):
        raise UserError(
            f"{path}:{number}: {len(fields)} columns found ({one_line(line, 60)!r}); a line of "
            f"CoNLL-U has {found.columns} columns and begins with the number of the word"
        )
    row = dict(zip(found.names, fields, strict=True))
    if "." in row["id"]:  # a word that is understood but not in the text
        return
    if not row["form"]:
        raise UserError(f"{path}:{number}: a label without a word; give a form in column 2")
    gap = "" if "SpaceAfter=No" in row.get("misc", "").split("|") else " "
    first, _, last = row["id"].partition("-")
    if last:
        block.units.append(_Unit(row["form"], gap, int(last)))
        return
    # a word of the token in front of it, whose number covers this one
    if not block.units or int(first) > block.units[-1].last:
        block.units.append(_Unit(row["form"], gap, int(first)))
    block.units[-1].words.append(len(block.rows))
    block.rows.append(row)


def _placed(block: _Block) -> tuple[str, list[tuple[int, int]]]:
    """`# text` and the tokens' places in it, or the text that the tokens make if it has others."""
    surfaces = [unit.surface for unit in block.units]
    if block.text is not None:
        places, at = [], 0
        for surface in surfaces:
            while block.text[at : at + 1].isspace():
                at += 1
            if not block.text.startswith(surface, at):
                break
            places.append((at, at + len(surface)))
            at += len(surface)
        if len(places) == len(surfaces) and not block.text[at:].strip():
            return block.text, places
    return _joined(surfaces, [unit.gap for unit in block.units])


def _shares(surface: str, forms: Sequence[str]) -> tuple[list[tuple[int, int]], bool]:
    """What each word has of the surface of its token, and whether that is its form.

    Words whose forms make up the surface have their own part ("I" + "'m"). Else it is cut in
    proportion to the lengths of the forms ("du" of "de" + "le"), each part at least a character;
    words beyond the number of characters get none. Ours.
    """
    if len(forms) == 1:
        return [(0, len(surface))], True
    if "".join(forms).lower() == surface.lower():
        lengths = [len(form) for form in forms]
    else:
        total, count = sum(map(len, forms)), min(len(forms), len(surface))
        ends = [round(len(surface) * sum(map(len, forms[: i + 1])) / total) for i in range(count)]
        for i in range(count):
            ends[i] = max(i + 1, min(ends[i], len(surface) - (count - 1 - i)))
        ends[-1] = len(surface)
        lengths = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    starts = [sum(lengths[:i]) for i in range(len(lengths))]
    cuts = [(start, start + length) for start, length in zip(starts, lengths, strict=True)]
    return cuts, "".join(forms).lower() == surface.lower()


def _conllu_label(
    path: Path, found: Layout, rows: list[dict[str, str]], wanted: str | None
) -> Callable[[dict[str, str]], str]:
    """A function from a row to its label, "" where it has none."""
    columns = [name for name in found.names if name in CONLLU_LABELS or name not in CONLLU]
    name = (wanted or "upos").lower()
    if name in columns:
        if name == "feats":
            return lambda row: row["feats"]
        return lambda row: "" if row[name] == "_" else row[name]
    features = sorted({key for row in rows for key, _ in _features(row.get("feats", "_"))})
    for feature in features:
        if name.removeprefix("feats.") == feature.lower():
            return lambda row: dict(_features(row["feats"])).get(feature, "_")
    there = [*columns, *(f"feats.{feature}" for feature in features)]
    raise UserError(f"{path}: no column {wanted!r} with labels; it has {listed(there, 40)}")


def _features(text: str) -> list[tuple[str, str]]:
    pairs = (part.partition("=") for part in text.split("|") if "=" in part)
    return [(key, value) for key, _, value in pairs]
