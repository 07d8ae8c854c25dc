"""The pages: safe against hostile text, the same bytes every time, and honest where a number is
missing.
"""

import hashlib
import math
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lookaround.report import figures, load_results
from lookaround.report.html import fragment, synthetic_figures
from lookaround.report.html import render_html as render
from lookaround.report.lookup import NEEDS, Lookup
from lookaround.report.protocols import label_curve
from lookaround.report.schema import (
    ComparisonResults,
    EvaluationResults,
    ForecastResults,
    PretrainResults,
    SpeculationResults,
    SyntheticResults,
)
from lookaround.support.errors import UserError
from report_sample import (
    beaten_results,
    evaluation_results,
    forecast_results,
    incomplete_results,
    sample_results,
    small_results,
    speculation_results,
    synthetic_results,
    with_protocol,
)

# every page has its figures drawn
pytestmark = pytest.mark.slow

HOSTILE = """<script>alert(1)</script>"' onload='x' & --> $x^2$ \x1b[31m\ud800"""


def render_html(results, **options):
    return render(ComparisonResults.of(results), **options)


def lookup(results):
    return Lookup(ComparisonResults.of(results))


@pytest.fixture(scope="module")
def results():
    return sample_results()


@pytest.fixture(scope="module")
def page(results):
    return render_html(results)


class Elements(HTMLParser):
    """The start tags of a page, and whether every element is closed in order."""

    void = frozenset({"meta", "br", "link", "img", "input", "hr"})

    def __init__(self, page):
        super().__init__()
        self.tags, self.open, self.balanced = [], [], True
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        self.balanced &= bool(self.open) and self.open.pop() == tag


def test_the_page_is_well_formed_and_its_ids_are_unique(page):
    elements = Elements(page)
    assert elements.balanced
    assert not elements.open
    ids = [attributes["id"] for _, attributes in elements.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_the_page_asks_the_network_for_nothing(page):
    without_namespaces = page.replace('xmlns="http://www.w3.org/2000/svg"', "").replace(
        'xmlns:xlink="http://www.w3.org/1999/xlink"', ""
    )
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", without_namespaces)
    assert "<script" not in page
    links = [
        a
        for _, attributes in Elements(page).tags
        for a in ("href", "src", "xlink:href")
        if a in attributes
    ]
    assert set(links) <= {"xlink:href"}  # the markers of the figures, by fragment
    assert all(h.startswith("#") for h in re.findall(r'xlink:href="([^"]*)"', page))
    assert "default-src 'none'" in page


def test_a_typical_page_is_small_results(page):
    assert len(page.encode()) < 400_000


def test_the_same_results_give_the_same_bytes():
    page = render_html(sample_results(("ar", "mlm"), rungs=(0.5, 1.0)))
    script = (
        "import sys, hashlib; from report_sample import sample_results; from test_pages "
        "import render_html;"
        "page = render_html(sample_results(('ar', 'mlm'), rungs=(0.5, 1.0)));"
        "print(hashlib.sha256(page.encode()).hexdigest())"
    )
    paths = [str(Path(__file__).parent), *sys.path]
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(paths)}
    other = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert other.stdout.strip() == hashlib.sha256(page.encode()).hexdigest()


def test_rendering_leaves_matplotlib_as_it_was(results):
    import matplotlib

    before = dict(matplotlib.rcParams)
    figures.tradeoff(lookup(results))
    assert dict(matplotlib.rcParams) == before
    assert (
        "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
    )


def test_text_from_the_results_cannot_become_markup():
    results = small_results(objectives=("ar", HOSTILE), tasks=(HOSTILE,))
    for section in ("corpus", "machine", "versions", "settings"):
        results[section] = {HOSTILE: HOSTILE, "name": HOSTILE}
    results["command"] = results["runs"][0]["mode"] = HOSTILE
    results["notes"] = [HOSTILE]
    results["recommendation"] = {
        "label_texts": HOSTILE,
        "label_tokens": f"inconclusive: {HOSTILE}",
        "write": HOSTILE,
    }
    results["reasons"] = dict.fromkeys(NEEDS, HOSTILE)
    for verdict in results["verdicts"].values():
        verdict |= {"reason": HOSTILE, "settle": HOSTILE, "floor": HOSTILE, "leader": HOSTILE}
    results["baselines"][HOSTILE] = {HOSTILE: 0.5}
    results["controls"] = [
        {"objective": HOSTILE, "rung": 1.0, "metric": f"probe/{HOSTILE}", "mean": 0.5}
    ]
    for run in results["runs"]:
        run["samples"] = [{"prompt": HOSTILE, "continuation": HOSTILE}]
    for row in [*results["summary"], *results["differences"]]:
        row["method"] = HOSTILE
    page = render_html(results)
    hostile, harmless = Elements(page), Elements(render_html(small_results()))
    assert "script" not in {tag for tag, _ in hostile.tags}
    assert hostile.balanced
    attributes = {name for _, attributes in hostile.tags for name in attributes}
    assert not {name for name in attributes if name.startswith("on")}
    assert attributes == {name for _, attributes in harmless.tags for name in attributes}
    page.encode("utf-8")  # lone surrogates are gone
    assert "\x1b" not in page


def test_samples_are_shown_or_left_out_on_request(results, page):
    assert "finite set of the same" in page
    without = render_html(results, samples=False)
    assert "finite set of the same" not in without
    assert "The river rises" not in without
    assert "Samples were left out" in without


def test_the_headline_names_the_objective_or_says_inconclusive(page):
    cards = re.findall(r'<article class="card (\w+)">(.*?)</article>', page, re.DOTALL)
    assert [kind for kind, _ in cards] == ["open", "open", "decided", "open"]
    for words in (
        "Inconclusive at this budget",
        "+21.8",
        "+19.0 to +24.6",
        "points over the untrained network",
        "led a rung before",
        "What would settle it: a larger budget, or about 6 seeds.",
        "the best baseline, TF-IDF",
    ):
        assert words in cards[0][1], words
    assert "<code>ar</code>" in cards[2][1]
    assert "2.003 to 2.040" in cards[2][1]
    assert "3.104</b> the best baseline, unigram model" in cards[2][1]


@pytest.mark.parametrize(
    ("need", "change", "kind"),
    [
        ("write", {"green": False}, "open"),
        ("write", None, "open"),
        ("label_tokens", {}, "absent"),
        ("write", {}, "decided"),
    ],
)
def test_a_card_is_green_only_by_its_verdict(need, change, kind):
    results = small_results()
    if change is None:
        del results["verdicts"][need]
    else:
        results["verdicts"][need] |= change
    cards = re.findall(r'<article class="card (\w+)">', render_html(results))
    assert dict(zip(NEEDS, cards, strict=True))[need] == kind


def test_a_file_of_version_1_has_no_green_card():
    results = load_results(Path(__file__).with_name("version1.json"))
    page = render(results)
    assert re.findall(r'<article class="card (\w+)">', page) == ["open", "absent", "open", "open"]
    assert "has no verdict" in page


def test_gain_stands_before_score_and_controls_below_baselines(results, page):
    study = lookup(results)
    gain, score = study.gain("ar", "tokens"), study.score("ar", "tokens")
    table = page[page.index('<h2 id="scores">') :]
    first = table.index(f"+{100 * gain.mean:.1f}")
    assert first < table.index(f"{score.mean:.3f} [{score.low:.3f} to {score.high:.3f}]")
    for name in ("TF-IDF + logistic regression", "words to the left, linear", "bigram model"):
        assert table.index(name) < table.index("ar, 1 token later"), name
    assert "▼ above bigram" in table
    assert "context is not used yet" in table
    assert "of the unigram" in table
    assert "unique tokens" in table


def test_every_protocol_is_told_in_full(page):
    told = page[page.index("Protocol by protocol") : page.index("Figures</h2>")]
    for words in (
        "Mean score, by task",
        "Labels of words, by task",
        "ewt-upos, ambiguous words",
        "worth +5.1 points up to 256 labels, nothing above",
        "Score by number of labels",
        "4,000 labels",
        "Minimal pairs: blimp",
        "pseudo-log-likelihood",
        "blimp by phenomenon",
        "agreement",
        "0.512",
        "Word order, by kind of change",
        "exchange",
    ):
        assert words in told, words
    assert "Fine-tuned or instruction-tuned" not in page


def test_a_model_below_a_baseline_is_flagged():
    table = re.search(r"<table>.*?</table>", render_html(beaten_results()), re.DOTALL)
    assert table is not None
    row, fine = re.findall(r"<code>.*?</tr>", table[0], re.DOTALL)
    for flag in ("above unigram", "below majority", "below TF-IDF"):
        assert f"▼ {flag}" in row
    assert "▼" not in fine


@pytest.mark.parametrize(
    "changes",
    [
        {"tasks": ()},
        {"rungs": (1.0,)},
        {"rungs": (0.25,)},
        {"objectives": ("ar",)},
        {"seeds": 1},
        {"objectives": ("ar",), "rungs": (1.0,), "seeds": 1, "tasks": ()},
    ],
)
def test_smaller_studies_are_reported(changes):
    page = render_html(small_results(**changes))
    assert Elements(page).balanced
    assert "nan" not in page


@pytest.mark.parametrize("value", [None, math.nan, "absent"])
def test_missing_numbers_become_dashes(value):
    page = render_html(incomplete_results(value))
    assert Elements(page).balanced
    assert not re.search(r"\bnan\b|\binf\b|>None<", page)


def test_one_objective_far_off_does_not_flatten_the_others():
    results = small_results()
    for row in results["summary"]:
        if row["objective"] == "ar" and row["metric"] == "bits_per_byte":
            row.update(mean=12.5, low=12.4, high=12.6)
    assert figures.off_scale(lookup(results)) == ["ar"]
    assert "12.50: off the scale" in figures.tradeoff(lookup(results))
    assert "Beyond the bits-per-byte axis: ar" in render_html(results)


def test_every_figure_scales_and_can_be_read_aloud(results):
    study = lookup(results)
    drawn = [
        figures.tradeoff(study),
        figures.ladder(study, "bits_per_byte"),
        figures.ladder(study, "probe"),
        label_curve(study, "topic"),
        figures.losses(study),
        figures.by_prefix(study),
        figures.spectra(ForecastResults.of(forecast_results())),
        *synthetic_figures(SyntheticResults.of(synthetic_results())).values(),
    ]
    assert len(drawn) == 8
    for svg in drawn:
        root = svg[: svg.index(">")]
        assert 'width="100%"' in root
        assert "viewBox=" in root
        assert 'role="img"' in root
        assert "<title " in svg
        assert "<text" in svg  # text stays text
        assert "<?xml" not in svg
        assert "<metadata" not in svg


def test_write_page_replaces_the_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    ComparisonResults.of(small_results()).write_page(path)
    before = path.read_text(encoding="utf-8")
    assert before == render_html(small_results())
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        ComparisonResults.of(small_results(tasks=())).write_page(path)
    assert path.read_text(encoding="utf-8") == before
    assert os.listdir(tmp_path) == ["report.html"]


def test_a_protocol_unknown_to_the_reports_has_its_column():
    page = render_html(with_protocol(small_results()))
    for words in (
        "topic (a toy)",
        "2.000 to 2.250",
        "Counts &amp; compares.",
        "▼ above untrained",
        "Bits per byte, topic (a toy): lower",
    ):
        assert words in page
    assert Elements(page).balanced


def test_the_page_says_how_large_the_model_is():
    assert "<li>model of 1.2M parameters</li>" in render_html(small_results(parameters=1_234_567))
    assert "parameters</li>" not in render_html(small_results(parameters=None))


def test_a_forecast_is_the_appendix_of_a_comparison():
    page = render_html(small_results(forecast=forecast_results()))
    headings = re.findall(r"<h2[^>]*>(.*?)</h2>", page)
    assert headings[-2:] == ["Where it comes from", "Before any training"]
    assert '<p class="brand">Appendix</p>' in page
    assert "tail energy" not in page[: page.index("Where it comes from")]
    assert Elements(page).balanced


def test_the_marks_of_the_table_are_explained_below_it():
    page = render_html(small_results())
    legend = page[page.index('aria-label="How to read the table"') : page.index("Figures</h2>")]
    for words in ("mean over 2 seeds", "<b>±</b>", "<b>[low, high]</b>", "<b>!</b>", "<b>!!</b>"):
        assert words in legend


PAGES = {
    "forecast": (ForecastResults, forecast_results),
    "synthetic": (SyntheticResults, synthetic_results),
    "speculation": (SpeculationResults, speculation_results),
}


@pytest.mark.parametrize("kind", PAGES)
def test_every_other_study_has_a_page(kind, tmp_path):
    model, results_of = PAGES[kind]
    model.of(results_of()).write_page(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    elements = Elements(page)
    assert page.startswith("<!doctype html>")
    assert elements.balanced
    assert not elements.open
    ids = [attributes["id"] for _, attributes in elements.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    words = {
        "forecast": ("Before any training", "not told apart", "saturated", "0.810"),
        "synthetic": ("Clever Hans", "parallel 25.0%", "50.0% [49.0, 51.0]", "262,976"),
        "speculation": ("906", "0.61, 0.42", "it does at 1, 4 sequences at a time", "2.20"),
    }
    assert all(word in page for word in words[kind]), kind


def test_what_has_no_page_says_so(tmp_path):
    with pytest.raises(UserError, match="there is no page of such a result"):
        EvaluationResults.of(evaluation_results()).write_page(tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize("kind", ["forecast", "synthetic"])
def test_no_other_page_lets_text_become_markup(kind):
    model, results_of = PAGES[kind]
    harmless, hostile = (
        Elements(render(model.of(results_of(name, name) | {"command": name})))
        for name in ("harmless", HOSTILE)
    )
    assert hostile.balanced
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in harmless.tags]


RUN = {"objective": "ar", "seed": 0, "spent": {"tokens": 1024, "flops": 2.5e9, "step": 8}}
FRAGMENTS = {
    "comparison": (
        ComparisonResults.of(small_results()),
        ("bits per byte", "0.710", "▼ below TF-IDF", "write: ar"),
    ),
    "forecast": (
        ForecastResults.of(forecast_results()),
        ("tail energy", "saturated", "topic: nothing"),
    ),
    "synthetic": (
        SyntheticResults.of(synthetic_results()),
        ("exact match", "50.0% [49.0, 51.0]", "Clever Hans"),
    ),
    "speculation": (
        SpeculationResults.of(speculation_results()),
        ("times transformers", "1.70", "accepted by depth"),
    ),
    "evaluation": (
        EvaluationResults.of(evaluation_results()),
        ("bits_per_byte", "2.031", "0.66", "0.21", "0.44"),
    ),
    "pretrain": (PretrainResults.of(RUN), ("1024", "2.5e+09")),
}


@pytest.mark.parametrize("kind", FRAGMENTS)
def test_a_notebook_is_given_a_table_that_needs_no_style_sheet(kind):
    result, words = FRAGMENTS[kind]
    shown = result._repr_html_()
    elements = Elements(shown)
    assert elements.balanced
    assert not elements.open
    assert all(word in shown for word in words), kind
    assert {tag for tag, _ in elements.tags}.isdisjoint({"html", "head", "style", "script", "link"})
    assert not {"class", "id"} & {name for _, attributes in elements.tags for name in attributes}


@pytest.mark.parametrize(
    ("model", "results_of"),
    [
        (ComparisonResults, lambda name, task: small_results(objectives=(name,), tasks=(task,))),
        (ForecastResults, forecast_results),
        (SyntheticResults, synthetic_results),
        (EvaluationResults, evaluation_results),
    ],
)
def test_no_fragment_lets_text_become_markup(model, results_of):
    harmless, hostile = (
        fragment(model.of(results_of(name, name))) for name in ("harmless", HOSTILE)
    )
    assert [tag for tag, _ in Elements(hostile).tags] == [tag for tag, _ in Elements(harmless).tags]
    hostile.encode("utf-8")  # lone surrogates are gone


@pytest.mark.parametrize("character", ["\x1b", "\x85", "\u202e", "\u2067"])
def test_controls_and_overrides_of_direction_are_replaced(character):
    results = small_results()
    results["notes"] = [f"one{character}two"]
    assert "one\ufffdtwo" in render_html(results)
    assert character not in render_html(results)
