"""The Python interface: lazily offered, called like the commands, and refused with their words."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import lookaround
from conftest import sentences
from lookaround.api import OFFERED, keyword_of, option_of
from lookaround.settings import Settings, field_of, read_settings, sections
from lookaround.studies.events import Event, Running
from lookaround.studies.reporter import Reporter
from lookaround.support.errors import UserError

OFFERS = ("compare", "evaluate", "forecast", "load", "parse", "pretrain", "speculate")
TINY = {
    "train.batch": 4,
    "model.context": 32,
    "data.vocabulary": 300,
    "evaluate.positions": 4,
    "evaluate.samples": 1,
    "evaluate.sample_tokens": 4,
    "evaluate.bootstrap": 100,
    "compare.lr_factors": [1.0],
    "compare.ladder": [1.0],
    "forecast.rank": 8,
    "forecast.min_count": 1,
    "speculate.prompts": 4,
    "speculate.prompt_tokens": 4,
    "speculate.new_tokens": 4,
    "speculate.batches": [1],
    "speculate.rounds": 1,
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("text") / "words.txt"
    file.write_text("\n\n".join(sentences(200)))
    return file


@pytest.fixture(scope="module")
def task(corpus: Path) -> Path:
    file = corpus.with_name("mood.tsv")
    lines = [f"{text}\t{'ab'[i % 2]}" for i, text in enumerate(sentences(60, 1))]
    file.write_text("text\tlabel\n" + "\n".join(lines) + "\n")
    return file


# ----------------------------------------------------------------------------------------- offered


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, lookaround; lookaround.__version__; "
        "print(sorted({'torch', 'transformers', 'numpy', 'pandas', 'rich'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert shown.stdout == "[]\n"


def test_what_is_offered_is_listed_and_nothing_else() -> None:
    assert set(OFFERS) < set(dir(lookaround))
    assert set(lookaround.__all__) == {"__version__", *OFFERS}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = lookaround.nothing


@pytest.mark.slow
def test_each_name_is_called_twice_after_every_module_is_imported(
    corpus: Path, task: Path, tmp_path: Path, inline: None
) -> None:
    needs_extras = set() if find_spec("lm_eval") else {"lookaround.evaluation.harness.model"}
    for module in pkgutil.walk_packages(lookaround.__path__, "lookaround."):
        if module.name not in {"lookaround.__main__"} | needs_extras:
            import_module(module.name)
    common: dict[str, Any] = {"settings": TINY, "report": lambda event: None}
    run, fast = tmp_path / "run", tmp_path / "fast"
    calls = {
        "parse": lambda: lookaround.parse("ar + mlm(rate=0.4)"),
        "pretrain": lambda: lookaround.pretrain(corpus, budget="2500", out=run, **common),
        "load": lambda: lookaround.load(run),
        "evaluate": lambda: lookaround.evaluate(run, tasks=[task], settings=TINY),
        "forecast": lambda: lookaround.forecast(
            corpus, tasks=[task], objectives="ar, mlm", out=tmp_path / "forecast", **common
        ),
        "speculate": lambda: lookaround.speculate(
            run, heads="linear", depths=1, budget="500", samples=0, out=fast, **common
        ),
        "compare": lambda: lookaround.compare(
            corpus,
            tasks=[task],
            objectives="ar",
            budget="2500",
            jobs=1,
            out=tmp_path / "study",
            **common,
        ),
    }
    assert set(calls) == set(OFFERS)
    for name, call in calls.items():
        first, again = call(), call()
        assert type(first) is type(again), name
        assert str(again), name
        if name not in ("parse", "load"):
            assert not first.frame().empty, name
            assert first._repr_html_().startswith("<"), name
    assert (tmp_path / "study" / "report.html").is_file()
    assert (tmp_path / "forecast" / "forecast.html").is_file()
    results = json.loads((tmp_path / "study" / "results.json").read_text())
    assert results["command"].startswith("lookaround.compare(")
    model = lookaround.load(run)
    texts = model.generate("the cat", "two dogs", max_new_tokens=3, temperature=0, seed=1)
    assert [text.prompt for text in texts] == ["the cat", "two dogs"]
    assert all(len(text.tokens) <= 3 for text in texts)
    heard: list[Event] = []
    options = TINY | {
        "evaluate.protocols": ["probe", "finetune"],
        "evaluate.finetune_labels": [16],
        "evaluate.finetune_draws": [1],
        "evaluate.finetune_epochs": [1],
    }
    found = lookaround.evaluate(model, tasks=[task], settings=options, report=heard.append)
    assert found.classification["mood"].score >= 0
    # each protocol is a stage, what takes long counts its steps, and all of them end
    stages = dict.fromkeys(event.stage for event in heard)
    trained = "finetune mood, before training"
    assert {"probe mood", "finetune mood", trained} <= stages.keys()
    assert sum(event.stage == trained for event in heard) > 3
    assert all(
        [event.done == event.total for event in heard if event.stage == stage][-1]
        for stage in stages
    )


# ----------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": 0}, "seeds: Input should be greater than or equal to 1, got 0"),
        ({"model": "huge"}, "model: Input should be 'pico', .*got 'huge'"),
        ({"settings": {"train.batch": 0}}, "train.batch: Input should be greater"),
        ({"settings": {"train.bach": 8}}, "unknown setting 'train.bach'; known here: batch"),
        ({"seed_count": 3}, "no argument is called 'seed_count'; known are corpus"),
        ({"corpus": "missing.txt"}, "missing.txt: no such file or folder"),
        ({"objectives": "ar, nope"}, "unknown objective"),
        ({"config": "missing.yaml"}, "missing.yaml: cannot be read"),
    ],
)
def test_bad_input_is_refused_with_the_words_of_the_command(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        lookaround.compare(out=tmp_path / "study", **options)
    assert not (tmp_path / "study").exists()


def test_a_script_without_a_guard_is_told_to_have_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import multiprocessing

    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(UserError, match="if __name__ == '__main__'"):
        lookaround.compare()


def test_a_lone_task_is_a_list_of_one() -> None:
    assert read_settings(**{"data.tasks": "mood.tsv"}).data.tasks == ["mood.tsv"]


# ------------------------------------------------------------------------------- described once


def test_every_setting_has_a_description_and_every_option_a_setting() -> None:
    names = [name for name in Settings.model_fields if name not in sections()]
    names += [f"{name}.{field}" for name, kind in sections().items() for field in kind.model_fields]
    assert all(field_of(name).description for name in names)
    for command, offered in OFFERED.items():
        assert set(offered) <= set(names), command
        assert len({option_of(name) for name in offered}) == len(offered), command
        assert len({keyword_of(name) for name in offered}) == len(offered), command


def test_help_lists_the_arguments_of_a_function() -> None:
    assert "seeds: runs per objective (default: 1)" in str(lookaround.compare.__doc__)


def test_the_page_of_settings_is_up_to_date() -> None:
    from lookaround.cli.settings import reference

    page = Path(__file__).parents[1] / "docs" / "settings.md"
    assert page.read_text() == reference(), "lookaround settings > docs/settings.md"


# ---------------------------------------------------------------------------------------- progress


def test_without_a_terminal_lines_say_how_far_the_work_is(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("lookaround.studies.reporter.time.monotonic", lambda: now[0])
    file = StringIO()
    job = Running("ar, seed 0", "training rung 1", 40, 80, 1234.0, 0.5, "at 0.5: 2.1 bits per byte")
    with Reporter(Console(file=file, width=40)) as reporter:
        reporter.report(Event("", 0.0, 4.0))
        now[0] = 160.0
        reporter.report(Event("", 1.0, 4.0, running=(job,)))
        reporter.report(Event(finished="mlm, seed 0: 2.5 bits per byte"))
        now[0] = 170.0
        reporter.report(Event("", 2.0, 4.0))
    assert file.getvalue().splitlines() == [
        "     60 s  25% of the work; about 3 min left; ar, seed 0: training rung 1, step 40 of 80, "
        "1,234 tokens/s, at 0.5: 2.1 bits per byte",
        "     60 s  mlm, seed 0: 2.5 bits per byte",
    ]
