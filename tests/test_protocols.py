"""Protocols: one file is enough, a taken name is refused, and nothing but the codec knows of
text.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import lookaround.evaluation
from conftest import sentences
from lookaround.data.labelled import Sentence
from lookaround.data.patches import fitted
from lookaround.data.picture_files import read_pictures
from lookaround.data.rows import Rows
from lookaround.data.shards import TokenStore, in_memory
from lookaround.data.tasks import read_tasks
from lookaround.evaluation.features import encoded, pooled_states
from lookaround.evaluation.own_pictures import picture_data
from lookaround.evaluation.own_text import own_text, text_data
from lookaround.evaluation.registry import (
    PairData,
    Protocol,
    Scores,
    TaskData,
    TextData,
    TokenData,
    chosen,
    evaluate,
    protocols,
    registered,
    task_data,
)
from lookaround.model import build
from lookaround.model.readable import Readable, open_run
from lookaround.objectives import Mode
from lookaround.report import load_results
from lookaround.report.html import render_html
from lookaround.settings import DataSettings, EvaluateSettings, Settings, read_settings
from lookaround.studies.compare.compare import compare
from lookaround.studies.compare.study import open_study
from lookaround.support.errors import UserError

DOCS = Path(__file__).parents[1] / "docs" / "evaluation.md"
SMALL = EvaluateSettings(
    positions=20,
    samples=1,
    sample_tokens=4,
    order_train=120,
    order_test=120,
    finetune_labels=[10, 20],
    finetune_draws=[2, 1],
    finetune_epochs=[1, 1],
)


@pytest.fixture
def centroid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The protocol of docs/evaluation.md, in a file of its own beside those that there are."""
    (source,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    folder = tmp_path / "protocols"
    folder.mkdir()
    (folder / "centroid.py").write_text(source)
    monkeypatch.setattr(Protocol, "registry", dict(registered()))
    paths = [*lookaround.evaluation.__path__, str(folder)]
    monkeypatch.setattr(lookaround.evaluation, "__path__", paths)
    yield
    sys.modules.pop("lookaround.evaluation.centroid", None)
    vars(lookaround.evaluation).pop("centroid", None)


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    registered()
    monkeypatch.setattr(Protocol, "registry", dict(Protocol.registry))


def study_settings(folder: Path) -> Settings:
    (folder / "text.txt").write_text("\n\n".join(sentences(100)))
    rows = [f"{('even', 'odd')[len(text) % 2]}\t{text}\n" for text in sentences(80, seed=5)]
    (folder / "parity.tsv").write_text("label\ttext\n" + "".join(rows))
    tiny = ["train.batch=4", "model.context=32", "data.vocabulary=300", "evaluate.positions=6"]
    tiny += ["evaluate.bootstrap=100", "evaluate.samples=0", "compare.ladder=[1.0]"]
    tiny += ["compare.lr_factors=[1.0]", "forecast.enabled=false"]
    tiny += ["evaluate.protocols=[probe,bits_per_byte,centroid]"]
    return read_settings(
        None,
        tiny,
        **{
            "data.corpus": str(folder / "text.txt"),
            "data.tasks": [str(folder / "parity.tsv")],
            "objectives": "ar, mlm",
            "compare.budget": "2000",
        },
    )


@pytest.mark.slow
@pytest.mark.usefixtures("centroid")
def test_one_file_is_enough(tmp_path: Path) -> None:
    settings = study_settings(tmp_path)
    out = tmp_path / "out"
    with ThreadPoolExecutor(1) as executor:
        compare(open_study(settings), out, command="test", executor=executor)
    results = load_results(out / "results.json")

    (task,) = (task_data(task, settings.evaluate) for task in read_tasks(settings.data.tasks))
    for run in results["runs"]:
        readable = open_run(out / run["checkpoint"])
        attention = protocols()["probe"].mode(readable, settings.evaluate).attention
        train, test = (
            pooled_states(
                readable.backbone,
                readable.tokenizer,
                encoded(readable.tokenizer, texts, 32)[0],
                attention,
            )[-1]
            for texts in (task.train_inputs, task.test_inputs)
        )
        middle = [train[task.train_labels == label].mean(0) for label in (0, 1)]
        second = np.linalg.norm(test - middle[1], axis=1) < np.linalg.norm(test - middle[0], axis=1)
        assert run["scores"]["centroid"]["parity"]["score"] == np.mean(second == task.test_labels)

    rows = [row for row in results["summary"] if row["metric"] == "centroid/parity"]
    assert [row["objective"] for row in rows] == ["ar", "mlm"]
    assert all(row["low"] < row["mean"] < row["high"] for row in rows), "an interval over items"
    (difference,) = [row for row in results["differences"] if row["metric"] == "centroid/parity"]
    assert difference["mean"] == pytest.approx(rows[1]["mean"] - rows[0]["mean"])
    assert all(0 <= run["scores"]["centroid"]["parity"]["before"] <= 1 for run in results["runs"])
    assert results["metrics"]["centroid"]["higher"] is True
    assert set(results["recommendation"]) == {"label_texts", "label_tokens", "write", "all"}

    page, file = render_html(results), StringIO()
    assert '<th scope="col">parity (nearest class mean)</th>' in page
    assert f"{rows[0]['mean']:.3f}" in page
    assert "nearest to the mean state of their own class" in page
    results.print(Console(file=file, width=200))
    assert "class mean)" in file.getvalue()


@pytest.mark.usefixtures("centroid")
def test_a_single_model_is_evaluated_by_it_too(store: TokenStore) -> None:
    settings = SMALL.model_copy(update={"protocols": ["centroid"]})
    pairs = chosen([text_task()], settings)
    found = evaluate(readable_of(store.codec), pairs, settings, seed=0)
    scores = found.scores["centroid"]["t"]
    assert scores.value == np.mean(scores.items[0])
    assert found.modes["centroid"] == "causal, shift 1"
    assert protocols()["centroid"].record(scores, scores)["before"] == scores.value


def test_protocols_are_chosen_by_name(store: TokenStore) -> None:
    """A task that none of the named is for gets those that are; samples come where asked for."""
    rows = Rows(store.split("test"), 16, store.codec)
    text = TextData(rows, rows, store.unigram())
    pairs = PairData("pairs", ["the cat sat"], ["the cat cat"], [""])
    data = [text_task(), word_task(), pairs, text]

    def names(*given: str, samples: int = 0) -> list[tuple[str, str]]:
        settings = EvaluateSettings(protocols=list(given), samples=samples)
        return [(protocol.name, type(item).__name__) for protocol, item in chosen(data, settings)]

    of_pairs = ("pairs", "PairData")
    assert names("probe, tokens", "bits_per_byte") == [
        ("probe", "TaskData"),
        ("tokens", "TokenData"),
        of_pairs,
        ("bits_per_byte", "TextData"),
    ]
    assert names("finetune") == [("finetune", "TaskData"), ("tokens", "TokenData"), of_pairs]
    assert ("samples", "TextData") in names("tokens", samples=2)
    assert names("tokens") == [("probe", "TaskData"), ("tokens", "TokenData"), of_pairs]
    with pytest.raises(UserError, match="no protocol is called 'toekns'; give some of bits_per"):
        names("toekns")
    with pytest.raises(UserError, match="names none; give some of bits_per_byte, finetune"):
        names()


@pytest.mark.parametrize("name", protocols())
def test_every_protocol_that_is_found_keeps_its_word(name: str, store: TokenStore) -> None:
    """Whatever file was added: the same scores for the same seed, plain data, an interval around
    the value.
    """
    protocol, of_text = protocols()[name], readable_of(store.codec)
    pictures = read_pictures("digits")
    codec = fitted(pictures.pixels, 2, 16, seed=0, name="digits")
    parts = {part: np.arange(k, 90, 3) for k, part in enumerate(("train", "validation", "test"))}
    rows, validation = (
        Rows(in_memory(sentences(70, seed, (6, 10)), store.codec), 32, store.codec)
        for seed in (0, 1)
    )
    pairs = PairData("pairs", ["the cat sat", "two dogs"], ["the cat cat", "dogs two"], ["", "x"])
    data = [
        item
        for item in (
            text_task(),
            word_task(),
            pairs,
            TextData(rows, validation, store.unigram()),
            picture_data(codec, pictures, parts),
        )
        if protocol.accepts(item)
    ]
    assert data, "a labelled text, held-out text or pictures are what everybody has"
    for item in data:
        of_pictures = isinstance(item, TextData) and item.test.codec is codec
        readable = readable_of(codec) if of_pictures else of_text
        assert all(count > 0 for count in protocol.cost(item, SMALL).values())
        scores, again = (protocol.run(readable, item, SMALL, 0) for _ in range(2))
        assert asdict(scores) == asdict(again)
        json.dumps(asdict(scores), allow_nan=False)
        assert len({len(column) for column in scores.items}) <= 1
        if scores.items:
            drawn = protocol.resampled(scores, 200)
            assert drawn.shape == (200,)
            assert drawn.min() <= scores.value <= drawn.max()
    assert protocol.__doc__, "the page explains a column by it"


def declare(**fields: Any) -> type[Protocol]:
    def run(
        self: Any, readable: Readable, data: Any, settings: EvaluateSettings, seed: int
    ) -> Scores:
        return Scores("none", 0.0)

    return type("Mine", (Protocol,), {"needs": TaskData, "run": run, **fields})


@pytest.mark.usefixtures("own_registry")
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"name": "probe"},
            r"Mine: the name 'probe' is taken by lookaround\.evaluation\.probe\.Probe",
        ),
        ({"name": "classification"}, "'classification' is taken by results.json"),
        ({"name": "mine", "key": "bits_per_byte"}, "taken by .*BitsPerByte"),
        ({"name": "majority"}, "taken by .*Majority"),
        ({"name": "seed"}, "'seed' is taken by results.json"),
        ({"name": "a/b"}, "'a/b' is no identifier"),
    ],
)
def test_a_taken_name_is_refused(fields: dict[str, str], message: str) -> None:
    before = registered()
    with pytest.raises(TypeError, match=message):
        declare(**fields)
    assert registered() == before
    assert declare(name="mine") is registered()["mine"]
    with pytest.raises(TypeError, match="'mine' is taken"):
        declare(name="mine")


@pytest.mark.usefixtures("own_registry")
def test_a_subclass_has_a_key_and_a_title_of_its_own() -> None:
    probe = type(protocols()["probe"])
    mine = type("Mine", (probe,), {"name": "second_probe"})
    assert (mine.key, mine.title, mine.need) == ("second_probe", "second probe", "")
    assert protocols()["probe"].key == "probe"


@pytest.mark.usefixtures("own_registry")
def test_a_figure_without_items_has_no_interval() -> None:
    from lookaround.evaluation.intervals import bootstrap_interval

    protocol = declare(name="mine")()
    interval = bootstrap_interval(0.5, protocol.resampled(Scores("none", 0.5), 100))
    assert interval.mean == 0.5
    assert np.isnan([interval.low, interval.high]).all()
    assert interval.method == "one seed, no interval"


# ---------------------------------------------------------------------------- without text


def readable_of(codec: Any) -> Readable:
    special = {"bos_token_id": codec.bos, "eos_token_id": codec.eos, "pad_token_id": codec.pad}
    grid = codec.grid
    backbone = build(preset="nano", vocabulary=codec.size, context=32, special=special, grid=grid)
    modes = (Mode("causal", 1),)
    return Readable(backbone, codec, modes, modes, 32, None)


def text_task() -> TaskData:
    texts = sentences(60, seed=3)
    labels = np.array([len(text) % 2 for text in texts])
    return TaskData("t", "accuracy", texts[:40], labels[:40], texts[40:], labels[40:])


def word_task() -> TokenData:
    """Short words are one class, long ones the other."""
    read = []
    for text in sentences(60, seed=4, length=(3, 9)):
        words = tuple(match.span() for match in re.finditer(r"\S+", text))
        read.append(Sentence(text, words, tuple(int(end - start > 3) for start, end in words)))
    return TokenData("words", "accuracy", ["short", "long"], read[:40], read[40:])


# ---------------------------------------------------------------------------- modes, own text


def test_modes_asked_for_are_used_if_trained(store: TokenStore) -> None:
    causal, masked = Mode("causal", 1), Mode("bidirectional", 0)
    both = replace(readable_of(store.codec), modes=(causal, masked), final_modes=(masked,))
    reading, writing = protocols()["probe"].mode, protocols()["bits_per_byte"].mode
    assert reading(both, SMALL) == masked
    assert writing(both, SMALL) == masked, "the end of the budget forgot the causal one"
    asked = EvaluateSettings(classification_mode="causal", generation_mode="causal")
    assert reading(both, asked) == writing(both, asked) == causal
    assert reading(both, EvaluateSettings(classification_mode="prefix")) == masked


@pytest.fixture
def own(store: TokenStore, tmp_path: Path) -> tuple[Readable, Path]:
    """A model whose run.yaml names a file, split with a seed of its own."""
    from lookaround.data.corpora import read_corpus

    file = tmp_path / "own.txt"
    file.write_text("\n\n".join(sentences(60)))
    settings = read_settings(
        None, ["data.split_seed=7", "data.test=0.2"], **{"data.corpus": str(file)}
    )
    data = {"corpus_fingerprint": read_corpus(str(file)).fingerprint}
    info = {"settings": settings.model_dump(), "data": data}
    return replace(readable_of(store.codec), info=info), file


def test_own_text_is_split_as_in_training(own: tuple[Readable, Path]) -> None:
    readable, file = own
    found = own_text(readable, DataSettings())
    assert found is not None
    assert len(found.test) == 12
    assert not {*found.test} & {*found.train, *found.validation}
    named = own_text(readable, DataSettings(corpus=str(file), test=0.4, split_seed=1))
    assert named == found, "whatever the settings say"
    data = text_data(readable, found)
    assert (len(data.test.split.length), len(data.validation.split.length)) == (
        12,
        len(found.validation),
    )


def test_changed_text_is_refused_and_other_text_is_not(
    own: tuple[Readable, Path], tmp_path: Path
) -> None:
    readable, file = own
    file.write_text(file.read_text() + "\n\none more document")
    with pytest.raises(UserError, match=r"own\.txt: has changed since this model was trained"):
        own_text(readable, DataSettings())
    other = tmp_path / "other.txt"
    other.write_text("\n\n".join(sentences(30, seed=9)))
    found = own_text(readable, DataSettings(corpus=str(other), test=0.4))
    assert found is not None
    assert (found.name, len(found.test)) == ("other", 12)
    assert own_text(replace(readable, info=None), DataSettings()) is None


def test_evaluations_of_the_older_layout_are_refused(tmp_path: Path) -> None:
    from lookaround.studies.compare.scoring import read_evaluation

    (tmp_path / "run.yaml").write_text("spent: {}\ncurve: []\nlearning_rate: 0.1\n")
    file = tmp_path / "evaluation.json"
    file.write_text(json.dumps({"classification": {}, "bits": [1.0], "bits_per_byte": 1.0}))
    with pytest.raises(
        UserError, match=r"evaluation\.json: written by an older lookaround; delete it"
    ):
        read_evaluation(tmp_path)
    file.write_text(json.dumps({"modes": {}}))
    with pytest.raises(
        UserError, match=r"evaluation\.json: truncated or not ours \(field 'scores'"
    ):
        read_evaluation(tmp_path)


def test_evaluations_survive_json(store: TokenStore) -> None:
    pairs = chosen([text_task()], SMALL)
    found = evaluate(readable_of(store.codec), pairs, SMALL, seed=0)
    back = {
        name: {task: Scores(**entry) for task, entry in entries.items()}
        for name, entries in json.loads(json.dumps(asdict(found)))["scores"].items()
    }
    assert found.by_half()["classification"] == "causal, shift 1"
    probe = protocols()["probe"]
    before, after = (probe.resampled(s["probe"]["t"], 50) for s in (found.scores, back))
    assert np.array_equal(before, after)
