"""What the command line refuses: one line, exit code 2, and nothing is left behind."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from cli_runs import (
    BUDGET,
    TINY,
    TINY_EVALUATION,
    TINY_STUDY,
    Run,
    assert_refused,
    contents,
    write,
)

# -------------------------------------------------------------------------------------- bad corpora

CORPORA: dict[str, tuple[str, str | bytes, tuple[str, ...]]] = {
    "empty": ("c.txt", b"", ("c.txt", "empty")),
    "blank": ("c.txt", b"\n \n\t\n", ("c.txt", "empty")),
    "binary": ("c.txt", b"\x7fELF\x00\x01" * 99, ("c.txt:1", "NUL")),
    "not UTF-8": ("c.txt", b"fine\n\n\xff\xc3bad", ("c.txt:3", "0xff", "offset 6")),
    "broken jsonl": ("c.jsonl", '{"text": "a"}\n{"text": \n', ("c.jsonl:2", "JSON")),
    "a json list": ("c.json", "[1, 2]", ("c.json", "row 1", "one object")),
    "broken parquet": ("c.parquet", b"PAR1 nonsense", ("c.parquet", "parquet")),
    "no text column": ("c.csv", "a,b\n1,2\n3,4\n", ("c.csv", "'a', 'b'")),
    "broken gzip": ("c.txt.gz", b"\x1f\x8bnonsense", ("c.txt.gz", ".gz")),
    "unknown format": ("c.docx", b"PK", ("c.docx", "format")),
}


# one reader serves every command: it is tried with everything by one, and by the others once
@pytest.mark.parametrize(
    ("name", "command"), [*((name, "pretrain") for name in CORPORA), ("binary", "compare")]
)
def test_a_bad_corpus_is_refused(run: Run, tmp_path: Path, name: str, command: str) -> None:
    file, content, words = CORPORA[name]
    path = write(tmp_path / file, content)
    assert_refused(run(command, path, *BUDGET, "--out", "out"), *words)
    assert sorted(os.listdir()) == [file]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param("only one document, quite alone", ("1 document",), id="one document"),
        pytest.param("word " * 200_000, ("1 document",), id="one huge line"),
        pytest.param("one\n\ntwo", ("2 documents",), id="two documents"),
    ],
)
def test_too_few_documents(run: Run, tmp_path: Path, content: str, words: tuple[str, ...]) -> None:
    path = write(tmp_path / "few.txt", content)
    assert_refused(run("pretrain", path, *BUDGET, "--out", "out"), "few.txt", *words)
    assert not Path("out").exists()


@pytest.mark.parametrize("command", ["compare", "evaluate"])
def test_too_few_documents_for_any_command(
    run: Run, ar_run: Path, tmp_path: Path, command: str
) -> None:
    path = write(tmp_path / "few.txt", "one\n\ntwo")
    arguments = (ar_run, "--corpus", path) if command == "evaluate" else (path, *BUDGET)
    assert_refused(run(command, *arguments, "--out", "out"), "2 documents")
    assert not Path("out").exists()


def test_an_empty_folder(run: Run, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    assert_refused(
        run("pretrain", tmp_path / "nothing", *BUDGET, "--out", "out"), "nothing", "empty folder"
    )
    assert not Path("out").exists()


@pytest.mark.parametrize("name", ["missing.txt", "folder/missing", "", "no-such-dataset"])
def test_a_corpus_that_does_not_exist(run: Run, name: str) -> None:
    assert_refused(run("pretrain", name, *BUDGET, "--out", "out"), name or "empty name")
    assert not Path("out").exists()


def test_a_column_that_does_not_exist(run: Run, tmp_path: Path) -> None:
    path = write(tmp_path / "c.jsonl", '{"text": "a"}\n')
    assert_refused(
        run("pretrain", path, *BUDGET, "--text-column", "words", "--out", "out"),
        "c.jsonl",
        "'words'",
        "'text'",
    )


# ---------------------------------------------------------------------------------------- bad tasks

TASKS: dict[str, tuple[dict[str, str], str, tuple[str, ...]]] = {
    "missing": ({}, "t.tsv", ("t.tsv", "no such file")),
    "empty": ({"t.tsv": ""}, "t.tsv", ("t.tsv", "empty")),
    "header alone": ({"t.tsv": "text\tlabel\n"}, "t.tsv", ("t.tsv", "no rows")),
    "one class": (
        {"t.tsv": "text\tlabel\none\tx\ntwo\tx\nthree\tx\n"},
        "t.tsv",
        ("t.tsv", "1 usable class", "'x'"),
    ),
    "two lone texts": (
        {"t.tsv": "text\tlabel\none\tx\ntwo\ty\n"},
        "t.tsv",
        ("t.tsv", "0 usable classes"),
    ),
    "no label": ({"t.tsv": "text\tfoo\none\tx\n"}, "t.tsv", ("t.tsv", "label", "'foo'")),
    "no text": ({"t.tsv": "foo\tlabel\none\tx\n"}, "t.tsv", ("t.tsv", "text column", "'foo'")),
    "ragged": ({"t.tsv": "text\tlabel\none\n"}, "t.tsv", ("t.tsv:2", "1 fields")),
    "not a table": ({"t.txt": "one\n"}, "t.txt", ("t.txt", "table")),
    "overlap": (
        {
            "t/train.tsv": "text\tlabel\n" + "".join(f"text {i}\t{i % 2}\n" for i in range(20)),
            "t/test.tsv": "text\tlabel\n" + "".join(f"text {i}\t{i % 2}\n" for i in range(10)),
        },
        "t",
        ("test.tsv", "overlaps", "10 of 10", "text 0"),
    ),
    "an empty folder": ({"t/.hidden": ""}, "t", ("no task",)),
    "one class folder": ({"t/x/1.txt": "one", "t/x/2.txt": "two"}, "t", ("1 sub-folder",)),
}


@pytest.mark.parametrize(
    ("name", "command"), [*((name, "compare") for name in TASKS), ("ragged", "evaluate")]
)
def test_a_bad_task_is_refused(
    run: Run, corpus: Path, ar_run: Path, tmp_path: Path, name: str, command: str
) -> None:
    given, path, words = TASKS[name]
    for file, content in given.items():
        write(tmp_path / file, content)
    first = (corpus, *BUDGET) if command == "compare" else (ar_run,)
    assert_refused(run(command, *first, "--task", tmp_path / path, "--out", "out"), *words)
    assert not Path("out").exists()


# ---------------------------------------------------------------- bad objectives, budgets, settings


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("foo", ("'foo'", "unknown objective", "mlm")),
        ("mlm(foo=3)", ("foo=3", "rate")),
        ("mlm(rate=0)", ("'0'", "(0, 1]")),
        ("mlm(rate=1.5)", ("'1.5'", "(0, 1]")),
        ("mlm(rate=-0.1)", ("'-0.1'", "(0, 1]")),
        ("mlm(rate=nan)", ("'nan'", "(0, 1]")),
        ("mlm(0.3)", ("rate=",)),
        ("mlm(rate=0.2, rate=0.3)", ("rate",)),
        ("", ("objectives ''",)),
        ("ar >>", ("ar >>", "column 5")),
        ("0*ar + mlm", ("'0'", "weight")),
        ("ar; import os", ("column",)),
    ],
)
def test_a_bad_objective_is_refused(
    run: Run, corpus: Path, spec: str, words: tuple[str, ...]
) -> None:
    assert_refused(run("compare", corpus, *BUDGET, "--out", "out", "--objectives", spec), *words)
    assert not Path("out").exists()


def test_pretrain_takes_one_objective_that_there_is(run: Run, corpus: Path) -> None:
    refused = run("pretrain", corpus, *BUDGET, "--out", "out", "--objective", "mlm(rate=0)")
    assert_refused(refused, "'0'", "(0, 1]")
    assert_refused(
        run("pretrain", corpus, *BUDGET, "--out", "out", "--objective", "ar, mlm"),
        "ar, mlm",
        "2 objectives",
    )


BUDGETS = ["banana", "-5", "0", "", "nan", "1e999", "5Q", "5M tokens of ar"]


@pytest.mark.parametrize(
    ("budget", "command"), [*((budget, "pretrain") for budget in BUDGETS), ("banana", "compare")]
)
def test_a_nonsense_budget_is_refused(run: Run, corpus: Path, command: str, budget: str) -> None:
    assert_refused(run(command, corpus, f"--budget={budget}", "--out", "out"), f"budget '{budget}'")
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("command", "budget", "dry"),
    [
        ("pretrain", "10", ()),
        ("pretrain", "10flops", ("--dry-run",)),
        ("compare", "10", ("--dry-run",)),
        ("compare", "10flops", ()),
    ],
)
def test_a_budget_too_small_for_a_step(
    run: Run, corpus: Path, command: str, budget: str, dry: tuple[str, ...]
) -> None:
    tiny = TINY if command == "pretrain" else TINY_STUDY
    assert_refused(
        run(command, corpus, "--budget", budget, "--out", "out", *tiny, *dry),
        "budget ",
        "too small",
    )
    assert not Path("out").exists()


def test_a_budget_too_small_is_called_what_it_was_given_as(run: Run, corpus: Path) -> None:
    assert_refused(
        run("compare", corpus, "--budget", "10", "--out", "out", *TINY_STUDY), "budget 10"
    )


def test_a_budget_too_small_for_the_smallest_rung(run: Run, corpus: Path) -> None:
    refused = run("compare", corpus, "--budget", "130", "--out", "out", *TINY_STUDY)
    assert_refused(refused, "budget 130:", "rung 0.5")
    assert not Path("out").exists()


@pytest.mark.slow
def test_a_dry_run_of_one_step(run: Run, corpus: Path) -> None:
    one_step = ("pretrain", corpus, "--budget", "130", "--out", "out", *TINY)
    assert run(*one_step, "--dry-run").code == 0
    assert run(*one_step).code == 0


SETTINGS: dict[str, tuple[str, ...]] = {
    "train.batch": ("--set train.batch", "section.field=value"),
    "=3": ("--set =3",),
    "train.btach=3": ("train.btach", "batch"),
    "trian.batch=3": ("trian", "train"),
    "train.batch=x": ("train.batch", "'x'"),
    "train.batch=0": ("train.batch", "got 0"),
    "train.batch=[": ("--set train.batch=[", "YAML"),
    "train=3": ("train", "got 3"),
    "seed=3.5": ("seed", "3.5"),
    "seed=-1": ("seed", "-1"),
    "data.vocabulary=100": ("data.vocabulary", "100", "260"),
    "data.validation=0.6": ("data.validation", "0.6"),
    "model.preset=huge": ("model.preset", "'huge'", "nano"),
    "model.precision=fp8": ("model.precision", "'fp8'"),
    "train.learning_rate=.nan": ("train.learning_rate", "nan"),
    "evaluate.temperature=-1": ("evaluate.temperature", "-1"),
    "data.metrics={mood: f1}": ("data.metrics.mood", "'f1'"),
    "compare.seeds=0": ("compare.seeds", "got 0"),
    "compare.equal=flopz": ("compare.equal", "'flopz'"),
}


@pytest.mark.parametrize(
    ("setting", "command"),
    [*((setting, "pretrain") for setting in SETTINGS), ("train.btach=3", "compare")],
)
def test_a_bad_setting_is_refused(run: Run, corpus: Path, command: str, setting: str) -> None:
    assert_refused(
        run(command, corpus, *BUDGET, "--out", "out", "--set", setting), *SETTINGS[setting]
    )
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("evaluate.prefix_lengths=[500]", ("evaluate.prefix_lengths", "500", "too long")),
        ("evaluate.prefix_lengths=[0]", ("evaluate.prefix_lengths", "[0]")),
        ("compare.ladder=[]", ("compare.ladder", "[]")),
        ("compare.ladder=[0.5]", ("compare.ladder", "[0.5]")),
        ("compare.ladder=[0, 1]", ("compare.ladder", "[0.0, 1.0]")),
        ("compare.ladder=[.nan, 1]", ("compare.ladder", "nan")),
        ("compare.lr_factors=[]", ("compare.lr_factors", "[]")),
        ("compare.lr_factors=[-1]", ("compare.lr_factors", "-1")),
        ("compare.equal=seconds", ("compare.equal", "300s")),
        ("data.metrics={nope: accuracy}", ("'nope'", "'mood'")),
        pytest.param("compare.lr_factors=[.nan]", ("compare.lr_factors", "nan")),
        pytest.param("evaluate.generation_mode=foo", ("evaluate.generation_mode", "foo")),
        pytest.param("evaluate.classification_mode=foo", ("evaluate.classification_mode", "foo")),
    ],
)
def test_a_bad_setting_of_a_study_is_refused(
    run: Run, corpus: Path, task: Path, setting: str, words: tuple[str, ...]
) -> None:
    refused = run(
        "compare",
        corpus,
        "--task",
        task,
        *BUDGET,
        "--out",
        "out",
        *TINY_STUDY,
        "--set",
        setting,
        "--dry-run",
    )
    assert_refused(refused, *words)
    assert not Path("out").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "setting",
    [
        pytest.param(
            "compare.lr_factors=[1.0, 1.0]",
        ),
        pytest.param(
            "compare.ladder=[1.0, 1.0]",
        ),
    ],
)
@pytest.mark.usefixtures("inline")
def test_repetitions_in_a_list_are_refused_or_dropped(run: Run, corpus: Path, setting: str) -> None:
    result = run("compare", corpus, *BUDGET, "--out", "out", *TINY_STUDY, "--set", setting)
    if result.code == 0:
        summary = json.loads(Path("out/results.json").read_text())["summary"]
        keys = [(entry["objective"], entry["rung"], entry["metric"]) for entry in summary]
        assert len(keys) == len(set(keys))
    else:
        assert_refused(result, setting.partition("=")[0])


@pytest.mark.parametrize(
    "setting",
    [pytest.param(f"train.{name}=.inf") for name in ("weight_decay",)],
)
def test_infinity_is_no_setting(run: Run, corpus: Path, setting: str) -> None:
    assert_refused(
        run("pretrain", corpus, *BUDGET, "--out", "out", *TINY, "--set", setting),
        setting.partition("=")[0],
    )
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--seed", "-1"), ("seed", "-1")),
        (("--model", "huge"), ("huge", "nano")),
        (("--learning-rate", "-1"), ("--learning-rate", "-1")),
        (("--as", "bert"), ("--as", "bert", "llama")),
        (("--as", "eurobert"), ("--as eurobert", "fill-mask")),
        (("--tokenizer", "no/such-tokenizer"), ("no/such-tokenizer",)),
        (("--tokenizer", "/no/such/folder"), ("/no/such/folder",)),
        (("--init", "no/such-model"), ("no/such-model",)),
        pytest.param(
            ("--seed", str(2**70)),
            ("seed",),
        ),
    ],
)
def test_a_bad_option_is_refused(
    run: Run, corpus: Path, option: tuple[str, str], words: tuple[str, ...]
) -> None:
    assert_refused(run("pretrain", corpus, *BUDGET, "--out", "out", *TINY, *option), *words)
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("pretrain", "--seed", "x"), ("--seed",)),
        (("pretrain", "--nonsense"), ("--nonsense",)),
        (("pretrain", "a.txt", "b.txt"), ("a.txt: no such file",)),
        (("compare", "--seeds", "x"), ("--seeds",)),
        (("generate", "run", "--temperature", "-1"), ("--temperature",)),
        (("generate", "run", "--temperature", "nan"), ("--temperature",)),
        (("generate", "run", "--top-p", "1.5"), ("--top-p",)),
        (("generate", "run", "--max-new-tokens", "0"), ("--max-new-tokens",)),
        (("generate",), ("model",)),
        (("nonsense",), ("nonsense",)),
    ],
)
def test_what_the_parser_refuses_is_one_line_too(
    run: Run, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    assert_refused(run(*arguments), *words)


CONFIGS: dict[str, tuple[str | bytes, tuple[str, ...]]] = {
    "a wrong key": ("train:\n  btach: 3\n", ("c.yaml", "train.btach", "batch")),
    "a wrong section": ("trian:\n  batch: 3\n", ("c.yaml", "trian", "train")),
    "a wrong value": ("train:\n  batch: none\n", ("c.yaml", "train.batch", "none")),
    "not YAML": ("train:\n  batch: [3\n", ("c.yaml", "line 3", "YAML")),
    "a list": ("- 1\n", ("c.yaml", "list")),
    "not UTF-8": (b"\xff\xfe\x00", ("c.yaml", "YAML")),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_bad_config_is_refused(run: Run, corpus: Path, tmp_path: Path, name: str) -> None:
    content, words = CONFIGS[name]
    path = write(tmp_path / "c.yaml", content)
    assert_refused(run("pretrain", corpus, *BUDGET, "--out", "out", "--config", path), *words)
    assert not Path("out").exists()


def test_a_config_that_does_not_exist(run: Run, corpus: Path) -> None:
    assert_refused(
        run("compare", corpus, "--out", "out", "--config", "missing.yaml"),
        "missing.yaml",
        "No such file",
    )


def test_a_lossy_tokenizer(run: Run, corpus: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"[UNK]": 0, "the": 1, "cat": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]").save_pretrained(
        tmp_path / "words"
    )
    refused = run(
        "pretrain", corpus, *BUDGET, "--out", "out", *TINY, "--tokenizer", tmp_path / "words"
    )
    assert_refused(refused, tmp_path / "words", "lossy", "comes back as")
    assert not Path("out").exists()
    assert not contents(tmp_path / "cache")


def test_init_on_a_folder_without_a_model(
    run: Run, corpus: Path, ar_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "bare").mkdir()
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(ar_run / file, tmp_path / "bare")
    assert_refused(
        run("pretrain", corpus, *BUDGET, "--out", "out", *TINY, "--init", tmp_path / "bare"),
        "bare",
        "no config.json",
    )
    assert not Path("out").exists()


def test_init_on_an_empty_folder_speaks_of_the_model(
    run: Run, corpus: Path, tmp_path: Path
) -> None:
    (tmp_path / "bare").mkdir()
    refused = run("pretrain", corpus, *BUDGET, "--out", "out", *TINY, "--init", "bare")
    assert_refused(refused, "bare", "init")


@pytest.mark.parametrize("option", ["--tokenizer", "--init"])
def test_a_path_that_does_not_exist_is_called_so(run: Run, corpus: Path, option: str) -> None:
    assert_refused(
        run("pretrain", corpus, *BUDGET, "--out", "out", *TINY, option, "/no/where/at/all"),
        "no such f",
    )


def test_init_with_a_longer_context(run: Run, corpus: Path, ar_run: Path) -> None:
    refused = run(
        "pretrain", corpus, *BUDGET, "--out", "out", "--init", ar_run, "--set", "model.context=1024"
    )
    assert_refused(refused, "model.context", "1024", "512")
    assert not Path("out").exists()


# ------------------------------------------------------------------------------- places to write to


@pytest.mark.parametrize("command", ["pretrain", "compare"])
def test_a_foreign_folder_is_left_alone(
    run: Run, corpus: Path, tmp_path: Path, command: str
) -> None:
    write(tmp_path / "out" / "thesis.tex", "years of work")
    before = contents(tmp_path / "out")
    tiny = TINY if command == "pretrain" else TINY_STUDY
    assert_refused(run(command, corpus, *BUDGET, "--out", "out", *tiny), "out", "not empty")
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize(
    "command",
    [pytest.param(name) for name in ("pretrain", "compare")],
)
def test_an_out_that_is_a_file(run: Run, corpus: Path, tmp_path: Path, command: str) -> None:
    file = write(tmp_path / "notes.txt", "notes")
    tiny = TINY if command == "pretrain" else TINY_STUDY
    assert_refused(run(command, corpus, *BUDGET, "--out", file, *tiny), "notes.txt")
    assert file.read_text() == "notes"


def test_evaluate_into_a_file(run: Run, ar_run: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "notes.txt", "notes")
    assert_refused(run("evaluate", ar_run, *TINY_EVALUATION, "--out", file), "notes.txt")


@pytest.mark.parametrize(
    ("out", "why"), [("/proc/no/where", "cannot be written"), ("notes.txt/out", "is a file")]
)
@pytest.mark.parametrize("command", ["pretrain", "compare"])
def test_an_out_that_cannot_be_made(
    run: Run, corpus: Path, tmp_path: Path, command: str, out: str, why: str
) -> None:
    write(tmp_path / "notes.txt", "notes")
    tiny = TINY if command == "pretrain" else TINY_STUDY
    assert_refused(run(command, corpus, *BUDGET, "--out", out, *tiny), out, why)


@pytest.mark.parametrize(
    "command",
    [pytest.param(name) for name in ("pretrain", "compare", "evaluate", "generate")],
)
@pytest.mark.usefixtures("inline")
def test_json_into_a_folder_that_does_not_exist_costs_no_work(
    run: Run, corpus: Path, ar_run: Path, command: str
) -> None:
    arguments = {
        "pretrain": (corpus, *BUDGET, "--out", "out", *TINY),
        "compare": (corpus, *BUDGET, "--out", "out", *TINY_STUDY),
        "evaluate": (ar_run, *TINY_EVALUATION),
        "generate": (ar_run, "the cat"),
    }[command]
    result = run(command, *arguments, "--json", "missing/result.json")
    assert_refused(result, "missing")
    assert not result.out
    assert not Path("out").exists()


@pytest.mark.parametrize("option", ["--json", "--out"])
def test_a_file_asked_for_where_a_folder_is(
    run: Run, ar_run: Path, tmp_path: Path, option: str
) -> None:
    (tmp_path / "folder").mkdir()
    before = contents(tmp_path)
    assert_refused(run("generate", ar_run, "the cat", option, tmp_path / "folder"), "folder")
    assert contents(tmp_path) == before


def test_generate_into_a_folder_that_does_not_exist(run: Run, ar_run: Path) -> None:
    assert_refused(run("generate", ar_run, "the cat", "--out", "missing/texts.txt"), "missing")
