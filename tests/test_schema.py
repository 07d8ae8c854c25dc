"""Results as checked records: read back, taken apart, printed, framed, and documented."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from lookaround.report import load_results
from lookaround.report.schema import (
    ComparisonResults,
    EvaluationResults,
    ForecastResults,
    PretrainResults,
    SpeculationResults,
    SyntheticResults,
)
from lookaround.report.schema.document import format_page
from lookaround.support.errors import UserError
from report_sample import (
    evaluation_results,
    forecast_results,
    sample_results,
    small_results,
    speculation_results,
    synthetic_results,
    with_protocol,
)

PRETRAIN = {
    "objective": "mlm(rate=0.4)",
    "seed": 3,
    "modes": [["bidirectional", 1]],
    "plan": {"shares": [1.0], "steps": [20]},
    "status": "finished",
    "spent": {"step": 20, "tokens": 5200, "targets": 2000, "flops": 2e12, "seconds": 92.0},
}
KINDS = {
    ComparisonResults: sample_results(),
    ForecastResults: forecast_results(),
    SyntheticResults: synthetic_results(),
    SpeculationResults: speculation_results(),
    EvaluationResults: evaluation_results(),
    PretrainResults: PRETRAIN,
}
every_kind = pytest.mark.parametrize(
    ("kind", "data"), KINDS.items(), ids=[kind.__name__ for kind in KINDS]
)


# --------------------------------------------------------------------------------------------------
# reading results.json


def saved(tmp_path, results):
    path = tmp_path / "results.json"
    path.write_text(results if isinstance(results, str) else json.dumps(results), encoding="utf-8")
    return path


def test_load_results_reads_what_compare_writes(tmp_path):
    assert load_results(saved(tmp_path, small_results())).as_dict() == small_results()


def without(key):
    return {name: value for name, value in small_results().items() if name != key}


def version1():
    """A file that lookaround wrote before protocols stood under `scores`."""
    return json.loads(Path(__file__).with_name("version1.json").read_text())


def with_run(results=None, **changes):
    results = results or small_results()
    results["runs"][1] |= changes
    return results


def run_without(key):
    results = small_results()
    del results["runs"][2][key]
    return results


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "line 1: not JSON"),
        ("[1]", "found a list; expected the JSON object"),
        (without("version"), "field 'version' is missing; expected 2"),
        (small_results() | {"version": 3}, "is 3; this lookaround reads versions 1 and 2"),
        (forecast_results() | {"version": 2}, "is 2; this lookaround reads version 1"),
        (small_results() | {"version": True}, "field 'version' is true"),
        (with_run(version1(), classification=[1]), "field 'runs[1].classification' is a list"),
        (version1() | {"runs": [3]}, "field 'runs[0]' is a number; expected an object"),
        (version1() | {"summary": None}, "field 'summary' is null; expected a list"),
        (small_results() | {"version": "1"}, "field 'version' is \"1\""),
        (without("runs"), "field 'runs' is missing; expected a list"),
        (without("recommendation"), "field 'recommendation' is missing; expected an object"),
        (small_results() | {"summary": {}}, "field 'summary' is an object; expected a list"),
        (small_results() | {"runs": [3]}, "field 'runs[0]' is a number; expected an object"),
        (run_without("objective"), "field 'runs[2].objective' is missing"),
        (with_run(rung="full"), "field 'runs[1].rung' is text; expected a number"),
        (with_run(objective=None), "field 'runs[1].objective' is null; expected text"),
        (with_run(seed=[]), "field 'runs[1].seed' is a list; expected an integer"),
        (
            with_run(classification=[1]),
            "field 'runs[1].classification' is a list; expected an object",
        ),
        (
            with_run(scores={"probe": {"topic": 0.5}}),
            "field 'runs[1].scores.probe.topic' is a number; expected an object",
        ),
        (
            small_results() | {"verdicts": {"write": {"green": 1}}},
            "field 'verdicts.write.green' is a number; expected true/false",
        ),
        (with_run(samples=["text"]), "field 'runs[1].samples[0]' is text; expected an object"),
        (small_results() | {"baselines": {"topic": 3}}, "field 'baselines.topic' is a number"),
        (
            small_results() | {"metrics": {"toy": 3}},
            "field 'metrics.toy' is a number; expected an object",
        ),
    ],
)
def test_load_results_names_the_file_and_the_field(tmp_path, content, message):
    path = saved(tmp_path, content)
    with pytest.raises(UserError) as caught:
        load_results(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_of_version_1_is_converted(tmp_path):
    old = version1()
    results = load_results(saved(tmp_path, old))
    assert results.version == 2
    first, run = old["runs"][0], results.runs[0]
    for task, before in (("topic", 0.44), ("sentiment", 0.58)):
        line = run.scores["probe"][task]
        assert (line.score, line.before) == (first["classification"][task], before)
        assert run.classification[task] == line.score
    assert run.scores["toy"]["topic"].as_dict() == {"score": 1.125, "before": 1.5}
    assert run.scores["bits_per_byte"]["text"].score == first["bits_per_byte"]
    assert results.baselines["topic"].as_dict() == {"majority": 0.21, "tfidf": 0.71}
    assert "toy/topic" not in results.baselines
    rows = {(row.objective, row.rung, row.metric): row for row in results.summary}
    for row in old["summary"]:
        metric = row["metric"].replace("classification", "probe")
        assert rows[row["objective"], row["rung"], metric].mean == row["mean"]
    mean = rows["ar", 1.0, "probe"]
    assert mean.gain == pytest.approx(mean.mean - (0.44 + 0.58) / 2)
    assert mean.gain_low is None, "the network before training was measured once"
    assert rows["ar", 1.0, "bits_per_byte"].gain is None
    assert {row.metric for row in results.differences} >= {"probe", "probe/topic", "toy"}
    assert set(results.recommendation) == {"label_texts", "label_tokens", "write", "all"}
    told = results.recommendation
    assert told["label_texts"] == "inconclusive at this budget: ar or mlm(rate=0.4)"
    assert told["write"].startswith("inconclusive: ar led; lookaround wrote version 1")
    assert told["label_tokens"] == "not measured"
    assert results.reasons["all"] == old["reasons"]["both"]
    assert results.verdicts == {}
    results.save(tmp_path / "results.json")
    assert load_results(tmp_path) == results
    text = str(results)
    assert "+0.625  2.125 !!" in text


def test_load_results_on_a_missing_file_and_on_bytes(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        load_results(tmp_path / "nothing.json")
    (tmp_path / "results.json").mkdir()
    with pytest.raises(UserError, match="cannot be read"):
        load_results(tmp_path)
    (tmp_path / "fast").mkdir()
    (tmp_path / "fast" / "speculate.yaml").write_text("status: finished")
    with pytest.raises(UserError, match="`lookaround speculate` writes its numbers to --json"):
        load_results(tmp_path / "fast")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8"):
        load_results(tmp_path / "binary")


# --------------------------------------------------------------------------------------------------
# records


@pytest.mark.slow
@every_kind
def test_what_is_saved_is_what_was_given(kind, data, tmp_path):
    result = kind.of(data)
    assert result.as_dict() == data
    result.save(tmp_path / "saved.json")
    assert json.loads((tmp_path / "saved.json").read_text()) == data
    if kind not in (EvaluationResults, PretrainResults):
        assert load_results(tmp_path / "saved.json") == result


def test_the_results_of_a_folder_are_found_in_it(tmp_path):
    for file, data in (("forecast.json", forecast_results()), ("results.json", small_results())):
        (tmp_path / file).write_text(json.dumps(data))
        assert load_results(tmp_path).as_dict() == data


def test_numbers_that_are_not_finite_are_saved_as_null(tmp_path):
    data = small_results()
    data["runs"][0] |= {"bits_per_byte": math.nan, "classification": {"topic": math.inf}}
    ComparisonResults.of(data).save(tmp_path / "results.json")
    run = load_results(tmp_path).runs[0]
    assert run.bits_per_byte is None
    assert run.classification == {"topic": None}


def test_fields_are_attributes_and_items():
    run = ComparisonResults.of(with_protocol(small_results())).runs[0]
    assert run.budget.tokens == run["budget"]["tokens"] == run.get("budget").get("tokens")
    assert run.scores["toy"]["topic"].score == 1.125, "of a protocol that the schema does not know"
    assert run["scores"]["probe"]["topic"]["cut"] == 0, "a detail that it does not know"
    assert "layers" not in run
    assert run.layers == {}
    assert run.get("layers", "none") == "none"
    with pytest.raises(KeyError):
        run["nonsense"]


# --------------------------------------------------------------------------------------------------
# shown


@pytest.mark.slow
@every_kind
def test_a_result_prints_as_text_of_100_columns(kind, data):
    text = str(kind.of(data))
    assert text == repr(kind.of(data))
    assert 0 < max(map(len, text.splitlines())) <= 100
    assert "\x1b" not in text
    assert "nan" not in text.lower().split()


def test_the_scores_of_one_model_stand_beside_their_baselines():
    lines = str(EvaluationResults.of(evaluation_results())).splitlines()
    split = [line.split() for line in lines]
    assert "Scores of runs/ar (1.3M parameters)" in lines
    assert ["probe:", "topic", "0.660", "0.440", "0.210", "0.710"] in split
    assert any(words[:4] == ["tokens:", "ewt-upos", "0.812", "0.702"] for words in split)
    assert ["order", "0.580", "0.502", "0.534", "0.501"] in split
    assert ["bits", "per", "byte", "2.031"] in split
    assert ["bits", "per", "byte", "3.104", "2.702"] in split
    assert any(line.split() == ["2", "2.500"] for line in lines)
    assert "mode of generation: causal, shift 1" in lines


def test_a_run_says_what_it_used():
    text = str(PretrainResults.of(PRETRAIN))
    assert text == ("mlm(rate=0.4), seed 3: finished; 5.2k tokens, 2.0k targets, 2.0 TFLOP, 92 s")


# --------------------------------------------------------------------------------------------------
# frames


@pytest.mark.slow
@every_kind
def test_every_table_is_a_frame(kind, data):
    result = kind.of(data)
    tables = result.tables()
    for name, rows in tables.items():
        assert len(result.frame(name)) == len(rows)
    assert result.frame().equals(result.frame(next(iter(tables))))
    with pytest.raises(UserError, match="frame: there is no table 'x'; give one of "):
        result.frame("x")


def test_the_frames_of_a_comparison():
    data = with_protocol(small_results(tasks=("topic", "sentiment")))
    results = ComparisonResults.of(data)
    runs = results.frame("runs")
    assert len(runs) == 8
    first = data["runs"][0]
    for column, value in (
        ("objective", "ar"),
        ("rung", 0.5),
        ("bits_per_byte", first["bits_per_byte"]),
        ("probe/sentiment", first["classification"]["sentiment"]),
        ("probe/sentiment/before", 0.58),
        ("toy/topic", 1.125),
        ("flops", first["budget"]["flops"]),
        ("learning_rate", 0.002),
    ):
        assert runs[column][0] == value
    summary = results.frame("summary").set_index(["objective", "rung", "metric"])
    assert summary.loc[("ar", 1.0, "toy"), "high"] == 1.25
    assert set(results.frame("differences")["reference"]) == {"ar"}
    prefixes = results.frame("by_prefix").query("objective == 'ar' and seed == 1 and rung == 1")
    assert list(prefixes["prefix"]) == ["1", "2", "4", "8", "16", "32", "64"]
    assert len(results.frame("curves")) == 8 * 120
    assert results.frame("baselines").set_index("task").loc["topic", "tfidf"] == 0.71
    whole = ComparisonResults.of(sample_results(("ar",), rungs=(1.0,), seeds=2))
    tuned = whole.frame("by_labels")
    assert list(tuned["labels"]) == 2 * [64, 256, 1024, 4000]
    assert list(tuned["seed"]) == 4 * [0] + 4 * [1]
    assert whole.frame("controls")["objective"][0] == "ar, 1 token later"
    assert "order/text" in whole.frame("runs")


def test_the_frames_of_the_others():
    lines = ForecastResults.of(forecast_results()).frame("lines").set_index("objective")
    assert lines.loc["mlm(rate=0.4)", "topic"] == 0.73
    assert list(lines["control"]) == [False, False, True, True]
    summary = SyntheticResults.of(synthetic_results()).frame("summary").set_index("objective")
    assert summary.loc["ar", "exact_match"] == 0.5
    speed = SpeculationResults.of(speculation_results()).frame("by_batch")
    assert list(speed["batch"]) == [1, 4, 16]
    scores = EvaluationResults.of(evaluation_results() | {"lookaround": "0.1"}).frame("scores")
    assert list(zip(scores["protocol"], scores["task"], scores["score"], strict=True)) == [
        ("probe", "topic", 0.66),
        ("tokens", "ewt-upos", 0.812),
        ("order", "text", 0.58),
        ("bits_per_byte", "text", 2.031),
    ]
    assert (scores["tfidf"][0], scores["before"][0]) == (0.71, 0.44)
    assert (scores["tfidf"][2], scores["bigram"][3]) == (0.534, 2.702)
    assert list(PretrainResults.of(PRETRAIN).frame()["tokens"]) == [5200]


# --------------------------------------------------------------------------------------------------
# the page on the format, and what an import costs


def test_the_page_on_the_format_is_what_the_records_say():
    page = Path(__file__).parents[1] / "docs" / "results-format.md"
    assert page.read_text(encoding="utf-8") == format_page(), (
        "python -m lookaround.report.schema > docs/results-format.md"
    )


@every_kind
def test_every_field_of_a_file_is_described(kind, data):
    page = format_page()
    for name, value in data.items():
        assert f"| `{name}` |" in page
        if isinstance(value, list) and value and isinstance(value[0], dict):
            assert all(f"| `{field}` |" in page for field in value[0])


def test_records_load_nothing_heavy():
    script = (
        "import sys, lookaround.report.schema;"
        "print({'torch', 'transformers', 'matplotlib', 'pandas', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
