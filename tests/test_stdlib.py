"""The embedded default: large enough, the same each time, its test windows from files that training
never sees.
"""

from __future__ import annotations

import json
import platform
import sysconfig
from collections import Counter
from pathlib import Path

import pytest

from lookaround.data.corpus import split_documents
from lookaround.data.stdlib import stdlib_corpus, stdlib_task
from lookaround.support.errors import UserError


def test_corpus_is_large_described_and_repeatable() -> None:
    corpus = stdlib_corpus()
    assert corpus.name == "stdlib"
    assert corpus.description["bytes"] > 6_000_000
    assert corpus.description["python"] == platform.python_version()
    assert corpus.description["sha256"] == corpus.fingerprint == stdlib_corpus().fingerprint
    assert {"asyncio", "email", "xml"} <= set(corpus.description["packages"])
    assert str(Path(sysconfig.get_paths()["stdlib"])) not in json.dumps(corpus.description)
    assert not any(text == "import this\n" for text in corpus.documents)
    parts = split_documents(corpus.documents)
    assert min(map(len, parts.values())) > 10


def test_task_is_by_file() -> None:
    task = stdlib_task()
    assert (task.name, task.metric) == ("stdlib-package", "accuracy")
    assert 8 <= len(task.classes) <= 12
    assert task == stdlib_task()
    train, test = Counter(task.train_labels), Counter(task.test_labels)
    assert all(
        40 <= train[label] <= 150 and 15 <= test[label] <= 60 for label in range(len(task.classes))
    )
    texts = task.train_inputs + task.test_inputs
    assert len(set(texts)) == len(texts)
    assert all(100 <= len(text) < 2000 for text in texts)

    root = Path(sysconfig.get_paths()["stdlib"])
    for label, package in enumerate(task.classes):
        sources = {
            path: path.read_text(encoding="utf-8") for path in (root / package).rglob("*.py")
        }

        def files(
            part: list[str], labels: list[int], label: int = label, sources: dict = sources
        ) -> set[Path]:
            own = [text for text, found in zip(part, labels, strict=True) if found == label]
            homes = [[path for path, source in sources.items() if text in source] for text in own]
            return {home[0] for home in homes if len(home) == 1}

        held = files(task.test_inputs, task.test_labels)
        assert held
        assert not held & files(task.train_inputs, task.train_labels)


def test_missing_sources_are_refused_and_missing_packages_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    for read in (stdlib_corpus, stdlib_task):
        with pytest.raises(UserError, match="give a corpus of your own"):
            read()
    (tmp_path / "os.py").write_text("import sys\n")
    (tmp_path / "antigravity.py").write_text("no\n")
    (tmp_path / "mine.py").write_text("not of the standard library\n")
    (tmp_path / "json" / "tests").mkdir(parents=True)
    (tmp_path / "json" / "encoder.py").write_bytes(b"# -*- coding: latin-1 -*-\nname = '\xe9'\n")
    (tmp_path / "json" / "tests" / "a.py").write_text("no\n")
    corpus = stdlib_corpus()
    assert corpus.documents == ["# -*- coding: latin-1 -*-\nname = 'é'\n", "import sys\n"]
    assert corpus.description["packages"] == ["json"]
    with pytest.raises(UserError, match="give a task of your own"):
        stdlib_task()
