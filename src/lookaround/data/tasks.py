"""Labelled texts: a table, a pair of tables or a folder of classes becomes a `Task`.

A test part beside the training part is used unchanged; otherwise a fifth of each class is held
out. The same text is never on both sides.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lookaround.data import files, tables
from lookaround.data.corpus import hash_key
from lookaround.data.labelled import Task
from lookaround.support.errors import UserError

METRICS = ("accuracy", "matthews")
PAIRS = (
    ("text", "text_b"),
    ("text_a", "text_b"),
    ("text1", "text2"),
    ("sentence", "sentence_b"),
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("question", "passage"),
)
SINGLES = tuple(
    dict.fromkeys(
        ("text", "sentence", "sentence1", "premise", "question", *tables.TEXT_NAMES, "title")
    )
)
LABELS = (
    "label",
    "labels",
    "class",
    "category",
    "intent",
    "target",
    "gold_label",
    "sentiment",
    "topic",
    "rating",
    "score",
)
TEST_STEMS = ("test", "valid", "dev", "validation", "val")
GENERIC_STEMS = ("all", "train", "training", "data", "dataset", "main", *TEST_STEMS)
HELD_OUT = 0.2
OVERLAP = 0.05


@dataclass(frozen=True)
class _Part:
    source: str
    texts: list[str]
    labels: list[str]
    notes: list[str]


def read_tasks(
    paths: Sequence[str | Path], *, metrics: Mapping[str, str] | None = None, seed: int = 0
) -> list[Task]:
    """Reads one task from each path: a table, train and test tables, or a folder of classes.

    `metrics` maps a task's name to "accuracy" or "matthews"; without it "matthews" serves names
    with "cola" and accuracy the others. `seed` chooses the texts held out where no test part is
    given. Raises UserError for anything that is not a classification task or whose test part
    overlaps the training part.
    """
    if not all(str(path).strip() for path in paths):
        raise UserError("no task given (an empty name); give a table or a folder with a task in it")
    sources = [_locate(Path(path).expanduser()) for path in paths]
    names = _names(sources)
    metrics = dict(metrics or {})
    for name, metric in metrics.items():
        if name not in names:
            raise UserError(
                f"metric for task {name!r}: no such task; there are {files.listed(names)}"
            )
        if metric not in METRICS:
            raise UserError(
                f"task {name!r}: unknown metric {metric!r}; give 'accuracy' or 'matthews'"
            )
    tasks = []
    for name, (_, train_path, candidates) in zip(names, sources, strict=True):
        metric = metrics.get(name, "matthews" if "cola" in name.lower() else "accuracy")
        tasks.append(_read_task(name, metric, train_path, candidates, seed))
    return tasks


# Where a task's files are: (path as given, training file or folder, test files or folders in order
# of preference).
_Source = tuple[Path, Path, list[Path]]


def _locate(path: Path) -> _Source:
    if not files.is_there(path):
        raise UserError(
            f"{files.one_line(path)}: no such file or folder; give a table or a folder with a task "
            "in it"
        )
    return _locate_in_folder(path) if path.is_dir() else _locate_file(path)


def _locate_file(path: Path) -> _Source:
    stem, kind = files.file_kind(path)
    if kind not in files.TABLES.values():
        raise UserError(
            f"{path}: a task is a table with a text and a label column (.csv, .tsv, .jsonl, "
            ".parquet) or a folder; this name ends in none of these"
        )
    split = re.fullmatch(r"((?:.*[-_.])?)(train|" + "|".join(TEST_STEMS) + ")", stem, re.IGNORECASE)
    if split is None:
        return path, path, []
    before, part = split[1], split[2].lower()
    siblings = _tables(path.parent)
    if part == "train":
        tests = [_one(siblings, before + test, like=path) for test in TEST_STEMS]
        return path, path, [test for test in tests if test is not None]
    train = _one(siblings, before + "train", like=path)
    if train is not None:
        raise UserError(
            f"{path}: a test part on its own; give the train file instead, {train} (its test part "
            "is found by name)"
        )
    if not before:
        raise UserError(
            f"{path}: a test part on its own; give the train file instead "
            f"(train{path.name[len(stem) :]} beside it), or rename it if it is the whole task"
        )
    return path, path, []


def _locate_in_folder(folder: Path) -> _Source:
    tables = _tables(folder)
    train = _one(tables, "train", like=None)
    if train is None:  # sts-train.tsv
        ending = [
            path
            for path in tables
            if re.search(r"[-_.]train$", files.file_kind(path)[0], re.IGNORECASE)
        ]
        train = ending[0] if len(ending) == 1 else None
    if train is not None:
        return folder, *_locate_file(train)[1:]
    inner = {path.name.lower(): path for path in _children(folder) if path.is_dir()}
    if "train" in inner and not [
        path for path in inner.values() if path.name.lower() not in ("train", *TEST_STEMS)
    ]:
        return folder, inner["train"], [inner[test] for test in TEST_STEMS if test in inner]
    if len(tables) == 1 and not inner:
        return folder, tables[0], []
    if inner:
        return folder, folder, []
    names = files.listed([path.name for path in _children(folder)]) or "no files"
    raise UserError(
        f"{folder}: no task; found {names}; give a folder with train and test tables, or with one "
        "sub-folder for each class"
    )


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be listed ({error.strerror}); give a folder that you may read"
        ) from None


def _tables(folder: Path) -> list[Path]:
    return [
        path
        for path in _children(folder)
        if path.is_file() and files.file_kind(path)[1] in files.TABLES.values()
    ]


def _one(tables: Sequence[Path], stem: str, like: Path | None) -> Path | None:
    matches = [path for path in tables if files.file_kind(path)[0].lower() == stem.lower()]
    # train.csv beside test.csv and test.jsonl: the same kind is meant
    if len(matches) > 1 and like is not None:
        ending = like.name[len(files.file_kind(like)[0]) :]
        matches = [
            path for path in matches if path.name[len(files.file_kind(path)[0]) :] == ending
        ] or matches
    if len(matches) > 1:
        raise UserError(
            f"{matches[0].parent}: {matches[0].name!r} and {matches[1].name!r} both claim to be "
            f"{stem!r}; keep one of them"
        )
    return matches[0] if matches else None


def _names(sources: Sequence[_Source]) -> list[str]:
    short, long = [], []
    for path, _, _ in sources:
        stem = path.resolve().name if path.is_dir() else files.file_kind(path)[0]
        prefixed = f"{path.resolve().parent.name}-{stem}"
        generic = not path.is_dir() and stem.lower() in GENERIC_STEMS
        short.append(prefixed if generic else stem)
        long.append(prefixed)
    count = Counter(short)
    names = [far if count[near] > 1 else near for near, far in zip(short, long, strict=True)]
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        paths = [
            str(path) for (path, _, _), name in zip(sources, names, strict=True) if name == twice[0]
        ]
        raise UserError(
            f"{files.listed(paths)}: both tasks would be called {twice[0]!r}; rename one, or give "
            "it once"
        )
    return names


def _read_task(
    name: str, metric: str, train_path: Path, candidates: Sequence[Path], seed: int
) -> Task:
    notes: list[str] = []
    train, columns = _read_part(train_path, None)
    test = None
    for path in candidates:
        if path.is_file():
            missing = [column for column in columns if tables.read_table(path).find(column) is None]
            if missing:
                notes.append(f"{path.name} is not used: it has no column {files.listed(missing)}")
                continue
        test, _ = _read_part(path, columns)
        break
    notes += train.notes + (test.notes if test else [])
    train_rows = list(zip(train.texts, train.labels, strict=True))
    if test is None:
        train_rows, test_rows = _hold_out(train_rows, seed)
        source = train.source
    else:
        test_rows = list(zip(test.texts, test.labels, strict=True))
        source = test.source
        unknown = Counter(label for _, label in test_rows if label not in set(train.labels))
        if unknown:
            test_rows = [row for row in test_rows if row[1] not in unknown]
            notes.append(
                f"{unknown.total()} test text{'s' * (unknown.total() != 1)} dropped: not in the "
                f"training part {files.listed(sorted(unknown))}"
            )
    count = Counter(label for _, label in train_rows)
    rare = sorted(
        {*train.labels} - {label for label, times in count.items() if times > 1}, key=_rank
    )
    if rare:
        train_rows = [row for row in train_rows if row[1] not in rare]
        test_rows = [row for row in test_rows if row[1] not in rare]
        notes.append(
            f"class{'es' * (len(rare) != 1)} left out for want of 2 different texts to train on: "
            f"{files.listed(rare)}"
        )
    classes = sorted({label for _, label in train_rows}, key=_rank)
    if len(classes) < 2:
        raise UserError(
            f"{train.source}: {len(classes)} usable class{'es' * (len(classes) != 1)} found "
            f"({files.listed(classes) or 'none'}); a task needs at least 2, each with 2 or more "
            "texts to train on" + "".join(f"; {note}" for note in notes)
        )
    test_rows = _without_overlap(train_rows, test_rows, source, notes)
    if not test_rows:
        raise UserError(
            f"{source}: no test text is left; the test part needs texts of the classes "
            f"{files.listed(classes)}"
        )
    index = {label: position for position, label in enumerate(classes)}
    return Task(
        name=name,
        metric=metric,
        classes=classes,
        train_inputs=[text for text, _ in train_rows],
        train_labels=[index[label] for _, label in train_rows],
        test_inputs=[text for text, _ in test_rows],
        test_labels=[index[label] for _, label in test_rows],
        notes=notes,
        columns=columns,
    )


_Rows = list[tuple[str, str]]


def _without_overlap(train_rows: _Rows, test_rows: _Rows, source: str, notes: list[str]) -> _Rows:
    known = {text for text, _ in train_rows}
    shared = [text for text, _ in test_rows if text in known]
    if len(shared) > OVERLAP * len(test_rows):
        raise UserError(
            f"{source}: the test split overlaps the training part: {len(shared)} of "
            f"{len(test_rows)} texts are in both, such as {files.one_line(shared[0], 60)!r}; "
            "remove them from one side"
        )
    if shared:
        notes.append(
            f"{len(shared)} test text{'s' * (len(shared) != 1)} dropped: also in the training part"
        )
    return [row for row in test_rows if row[0] not in known]


def _hold_out(rows: _Rows, seed: int) -> tuple[_Rows, _Rows]:
    """Holds out a fifth of each class, at least one text; equal texts stay on one side."""
    first: dict[str, str] = {}
    for text, label in rows:
        first.setdefault(text, label)
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for text, label in first.items():
        groups[label].append(text)
    held: set[str] = set()
    for texts in groups.values():
        texts.sort(key=lambda text: hash_key(seed, text))
        if len(texts) > 1:
            held.update(texts[: max(1, round(HELD_OUT * len(texts)))])
    return [row for row in rows if row[0] not in held], [row for row in rows if row[0] in held]


def _rank(label: str) -> tuple[bool, int, str]:
    number = re.fullmatch(r"-?\d{1,18}", label)
    return (number is None, int(label) if number else 0, label)


def _read_part(path: Path, columns: Sequence[str] | None) -> tuple[_Part, list[str]]:
    """Reads a table, by the named columns (texts, then label) or usual ones, or class folders."""
    if path.is_dir():
        return _read_classes(path), []
    table = tables.read_table(path)
    if not table.rows:
        raise UserError(f"{path}: empty, no rows; give a table with a text and a label column")
    if columns is None:
        columns = [*_text_columns(table), _label_column(table)]
    own_columns = [table.find(column) or column for column in columns]
    parts = [tables.column_texts(table, column) for column in own_columns[:-1]]
    # a pair with one empty side is still an example
    texts = ["\n".join(sides).strip() for sides in zip(*parts, strict=True)]
    labels = _labels(table, own_columns[-1], [row for row, text in enumerate(texts) if text])
    texts = [text for text in texts if text]
    return _Part(str(path), texts, labels, _dropped(table.rows - len(texts), path)), list(columns)


def _dropped(empty: int, path: Path) -> list[str]:
    return [f"{empty} empty text{'s' * (empty != 1)} dropped from {path.name}"] if empty else []


def _text_columns(table: tables.Table) -> list[str]:
    for names in (*PAIRS, *((name,) for name in SINGLES)):
        columns = [column for name in names if (column := table.find(name)) is not None]
        if len(columns) == len(names):
            return columns
    raise UserError(
        f"{table.source}: no text column found; it has {files.listed(list(table.columns))}; call "
        "it 'text' (and a second one 'text_b')"
    )


def _label_column(table: tables.Table) -> str:
    for name in LABELS:
        column = table.find(name)
        if column is not None:
            return column
    raise UserError(
        f"{table.source}: no label column found; it has {files.listed(list(table.columns))}; call "
        "it 'label'"
    )


def _labels(table: tables.Table, column: str, rows: Iterable[int]) -> list[str]:
    values = table.columns[column]
    labels, fractions = [], set()
    for row in rows:
        value = values[row]
        if value is None or value != value or (isinstance(value, str) and not value.strip()):
            raise UserError(
                f"{table.where(row)}: no label in column {column!r}; give every text one"
            )
        if not isinstance(value, str | int | float):
            raise UserError(
                f"{table.where(row)}: label {files.one_line(value, 60)} in column {column!r} is a "
                f"{type(value).__name__}; give a name or number"
            )
        label = str(value).strip()
        if re.fullmatch(r"-?\d+\.\d+", label):
            if float(label).is_integer():  # a whole number that passed through a float column
                label = label.partition(".")[0]
            else:
                fractions.add(label)
        labels.append(label)
    if len(fractions) > min(20, len(labels) // 2):
        raise UserError(
            f"{table.source}: column {column!r} holds scores ({len(fractions)} different fractions "
            f"such as {min(fractions)}); regression is not supported, give classes"
        )
    return labels


def _read_classes(folder: Path) -> _Part:
    texts, labels, empty, skipped = [], [], 0, 0
    for inner in _children(folder):
        if not inner.is_dir():
            continue
        for path in files.find_files(inner):
            kind = files.file_kind(path)[1]
            if kind in files.TABLES.values():
                raise UserError(
                    f"{path}: a table inside a class folder, which holds one text file for each "
                    f"example; if {inner} is the task, give that folder"
                )
            if kind is None and path.suffix:  # a name without a dot is a text, as in 20 newsgroups
                skipped += 1
                continue
            text = files.read_text(path).strip()
            empty += not text
            if text:
                texts.append(text)
                labels.append(inner.name)
    if len(set(labels)) < 2:
        raise UserError(
            f"{folder}: {len(set(labels))} sub-folders with text files found; a task needs one for "
            "each of 2 or more classes, or train and test tables"
        )
    notes = (
        [f"{skipped} files of {folder.name} skipped: not text by their names"] if skipped else []
    )
    return _Part(str(folder), texts, labels, notes + _dropped(empty, folder))
