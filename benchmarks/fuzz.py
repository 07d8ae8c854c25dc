"""Inputs that nobody has thought of, for everything that reads what others have written.

    python -m benchmarks.fuzz --minutes 10 --json results/data/fuzz.json
    python -m benchmarks.fuzz --minutes 1 --only specs config --engine hypothesis

The first takes 10 minutes for each of the targets below, two at a time on two cores. Inputs are
drawn by strategies of Hypothesis; with the engine `atheris` (pip install "lookaround[fuzz]") those
are guided by which lines of ours an input reaches, with `hypothesis` they are drawn at random. A
crash is what is no UserError of one line: any other exception, a process that ends by a signal,
more than 20 seconds or 4 GB, and a file left behind. It is printed with the input that caused it.

corpus: a file, or a folder of some, for `read_corpus`, with any separator, encoding and column.
tasks: the same for `read_tasks`.
specs: texts for `parse_list`; what is understood must be understood again from its own spec.
config: YAML files and `--set` assignments for `read_settings`.
own: files of ours, run folders, checkpoints, studies, token stores and results, after edits.
"""

from __future__ import annotations

import argparse
import atexit
import bz2
import contextlib
import csv
import gzip
import io
import json
import lzma
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

SECONDS, MEGABYTES = 20, 4096  # of one input

# ------------------------------------------------------------------------------------- strategies

WORDS = st.sampled_from(
    [
        "text",
        "label",
        "a",
        "the cat",
        "ünï",
        "\u2028",
        "\x1b[0m",
        "-1",
        "1.5",
        "true",
        "NaN",
        "",
        " ",
    ]
)
TEXT = st.one_of(WORDS, st.text(max_size=40))
SCALARS = st.one_of(
    TEXT, st.none(), st.booleans(), st.integers(), st.floats(), st.just(10**400), st.just("\ud800")
)
NAMES = st.sampled_from(
    [
        *("text", "content", "label", "messages", "role", "tokens", "ner_tags", "spans", "good"),
        *(
            "bad",
            "sentence_good",
            "sentence_bad",
            "premise",
            "hypothesis",
            "start",
            "end",
            "a.b",
            "",
        ),
    ]
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(NAMES | TEXT, inner, max_size=4)
    ),
    max_leaves=12,
)
ROWS = st.lists(
    st.one_of(st.dictionaries(NAMES | TEXT, VALUES, max_size=4), VALUES), min_size=0, max_size=8
)


def _csv(rows: list[list[Any]], mark: str) -> bytes:
    file = io.StringIO()
    csv.writer(file, delimiter=mark).writerows(rows)
    return file.getvalue().encode("utf-8", "surrogatepass")


def _lines(rows: list[Any]) -> bytes:
    return "\n".join(map(json.dumps, rows)).encode()


GRIDS = st.lists(st.lists(NAMES | TEXT, max_size=4), max_size=8)
CONLL = st.lists(
    st.sampled_from(
        ["the\tDT\tO", "cat NN B-X", "# text = the cat", "1-2\tI'm\t_", "", "-DOCSTART-"]
    )
    | TEXT,
    max_size=12,
)
TABLES = st.one_of(
    ROWS.map(_lines),
    ROWS.map(lambda rows: json.dumps(rows).encode()),
    GRIDS.map(lambda rows: _csv(rows, ",")),
    GRIDS.map(lambda rows: _csv(rows, ";")),
    GRIDS.map(lambda rows: "\n".join("\t".join(row) for row in rows).encode("utf-8", "replace")),
)
PROSE = st.lists(
    st.sampled_from(
        ["\n", "\n\n", "\r\n", "\r", "<|endoftext|>", '<doc id="1">\n', "</doc>\n", "\0"]
    )
    | TEXT,
    max_size=20,
).map(lambda parts: "".join(parts).encode("utf-8", "replace"))
PLAIN = st.one_of(
    TABLES,
    PROSE,
    CONLL.map(lambda lines: "\n".join(lines).encode("utf-8", "replace")),
    st.binary(max_size=60),
    st.sampled_from([b"\xff\xfea\0", b"\xef\xbb\xbftext", b"caf\xe9", b"[" * 100_000]),
)


@cache
def _parquet() -> bytes:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table(
        {
            "text": ["a", "b", None],
            "when": pyarrow.array([10**15, 1, None], pyarrow.timestamp("ms")),
            "label": [1, 0, -1],
            "turns": [[{"role": "user", "content": "hi"}], [], None],
        }
    )
    file = io.BytesIO()
    pyarrow.parquet.write_table(table, file)
    return file.getvalue()


def _zstd(data: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor().compress(data)


PACKED = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": _zstd}
# (place as a share of the whole, bytes that are put there, bytes that are taken away)
EDITS = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.binary(max_size=4)
        | st.sampled_from([b"null", b"-1", b"1e999", b"{", b"]", b'"', b"\n", b"[" * 5000]),
        st.integers(0, 40),
    ),
    max_size=4,
)


def edited(data: bytes, edits: list[tuple[float, bytes, int]]) -> bytes:
    """The same after some edits."""
    for share, added, taken in edits:
        place = int(share * len(data))
        data = data[:place] + added + data[place + taken :]
    return data


@st.composite
def files(draw: st.DrawFn) -> tuple[str, bytes]:
    """(name, content) of a file."""
    stem = draw(
        st.sampled_from(["a", "train", "test", "README", "x.train", "train-00000-of-00002"])
    )
    endings = [
        ".txt",
        ".jsonl",
        ".json",
        ".csv",
        ".tsv",
        ".parquet",
        ".md",
        ".conllu",
        ".tokens",
        "",
    ]
    name = stem + draw(st.sampled_from(endings))
    data = draw(PLAIN) if not name.endswith(".parquet") else draw(PLAIN | st.just(_parquet()))
    packed = draw(st.sampled_from(["", "", "", *PACKED]))
    if packed:
        data = PACKED[packed](data)
    return name + packed, edited(data, draw(EDITS)) if draw(st.booleans()) else data


FOLDERS = st.dictionaries(
    st.sampled_from(["", "pos/", "neg/", "unsup/", "train/", "test/", "data/", "train/pos/"]),
    st.lists(files(), min_size=1, max_size=2),
    min_size=1,
    max_size=4,
)
GIVEN = st.one_of(files(), FOLDERS)
PARAMETERS = ["rate", "horizon", "share", "low", "high", "n", "law", "shift"]
ARGUMENTS = ["0.4", "1e308", "-1", "linear(0, 1)", "uniform", "None", "(1, 2)"]
TREES = st.recursive(
    st.sampled_from(["ar", "mlm", "dar", "vmlm", "mtp", "mdlm", "prefixlm", "x", "1", "-1", "'a'"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", ">>", "*", ",", "-", "**", "or"]), inner).map(
            " ".join
        ),
        inner.map("({})".format),
        st.tuples(
            st.sampled_from(["mlm", "dar", "vmlm", "mtp", "linear", "ar", "prefixlm", "mdlm"]),
            st.lists(
                st.tuples(
                    st.sampled_from(
                        ["rate", "horizon", "share", "low", "high", "n", "law", "shift"]
                    ),
                    st.sampled_from(
                        ["0.4", "1e308", "-1", "linear(0, 1)", "uniform", "None", "(1, 2)"]
                    )
                    | inner,
                ).map("=".join),
                max_size=3,
            ).map(", ".join),
        ).map(lambda call: f"{call[0]}({call[1]})"),
    ),
    max_leaves=8,
)
SPECS = TREES | st.text(max_size=60) | st.sampled_from(["-" * 5000 + "1*ar", "ar" + "+ar" * 3000])


@st.composite
def assignments(draw: st.DrawFn) -> str:
    """A `--set` assignment."""
    value = draw(
        TEXT
        | VALUES.map(lambda value: json.dumps(value))
        | st.sampled_from(
            ["2001-99-99", "!!int x", "!!timestamp x", "9" * 5000, "&a [*a]", "1e400"]
        )
    )
    return f"{draw(st.sampled_from(_setting_names()) | TEXT)}={value}"


@cache
def _setting_names() -> list[str]:
    from lookaround.settings import sections

    return ["seed", "objectives"] + [
        f"{section}.{field}" for section, kind in sections().items() for field in kind.model_fields
    ]


YAML = (
    st.dictionaries(
        st.sampled_from(["data", "train", "model", "compare", "objectives", "seed"]) | TEXT,
        VALUES | st.dictionaries(TEXT, VALUES, max_size=3),
        max_size=4,
    ).map(lambda value: json.dumps(value).encode())
    | PLAIN
)


# ---------------------------------------------------------------------------------------- targets


@dataclass(frozen=True)
class Target:
    """A function that is given inputs, and the strategies that they are drawn by."""

    strategies: tuple[st.SearchStrategy[Any], ...]
    function: Callable[..., None]

    def under(self, **chosen: Any) -> Any:
        """A test of Hypothesis with these settings."""
        checks = list(HealthCheck)
        configured = settings(database=None, suppress_health_check=checks, **chosen)
        return configured(given(*self.strategies)(self.function))


TARGETS: dict[str, Target] = {}


def target(*strategies: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], None]:
    """Makes a function a target of its name."""

    def wrap(function: Callable[..., None]) -> None:
        TARGETS[function.__name__] = Target(strategies, function)

    return wrap


class Left(Exception):
    """A file that was left behind."""


@contextmanager
def room() -> Iterator[Path]:
    """A folder in which nothing may be left, with the cache in it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "cache").mkdir()
        before = os.environ.get("LOOKAROUND_CACHE")
        os.environ["LOOKAROUND_CACHE"] = str(folder / "cache")
        try:
            yield folder
            if left := [path.name for path in (folder / "cache").iterdir()]:
                raise Left(left)
        finally:
            os.environ.pop("LOOKAROUND_CACHE")
            if before is not None:
                os.environ["LOOKAROUND_CACHE"] = before


def written(folder: Path, given: Any) -> Path:
    """Where a file, or a folder of files, was written."""
    if isinstance(given, tuple):
        name, data = given
        (folder / name).write_bytes(data)
        return folder / name
    for place, inner in given.items():
        above = [folder / "given" / place, *(folder / "given" / place).parents]
        if any(path.is_file() for path in above):
            continue
        above[0].mkdir(parents=True, exist_ok=True)
        for name, data in inner:
            file = folder / "given" / place / name
            if not file.is_dir():
                file.write_bytes(data)
    return folder / "given"


def told(function: Callable[[], Any]) -> Any:
    """What a function gives; a UserError of one line is what a user may get."""
    from lookaround.support.errors import UserError

    try:
        return function()
    except UserError as error:
        message = str(error)
        assert message.strip(), "an empty message"
        assert len(message) < 2000, f"a message of {len(message)} characters"
        return None


@target(
    GIVEN,
    st.none() | NAMES,
    st.none() | st.sampled_from(["line", "blank", "file", "5", "0", "<|endoftext|>", "", "\\n"]),
    st.sampled_from(["utf-8", "replace", "latin-1", "utf-16", "hex", "x"]),
)
def corpus(given: Any, column: str | None, separator: str | None, encoding: str) -> None:
    from lookaround.data.corpora import read_corpus
    from lookaround.data.corpus import split_documents
    from lookaround.data.files import Reading

    def read() -> None:
        found = read_corpus(
            path, text_column=column, separator=separator, reading=Reading(encoding)
        )
        json.dumps(found.description).encode()
        assert all(text.strip() for text in found.documents)
        assert len({*found.documents}) == len(found.documents)
        parts = split_documents(found.documents)
        assert sum(map(len, parts.values())) == len(found.documents)

    with room() as folder:
        path = written(folder, given)
        told(read)


@target(
    GIVEN,
    st.none() | NAMES,
    st.none() | NAMES,
    st.lists(st.sampled_from(["", "-1", "a"]), max_size=2),
)
def tasks(given: Any, text: str | None, label: str | None, none: list[str]) -> None:
    from lookaround.data.tasks import read_tasks

    def read() -> None:
        (task,) = read_tasks([path], text_column=text, label_column=label, no_label=none)
        json.dumps([task.notes, task.columns]).encode()

    with room() as folder:
        path = written(folder, given)
        told(read)


@target(SPECS)
def specs(text: str) -> None:
    from lookaround.objectives import parse_list

    for objective in told(lambda: parse_list(text)) or ():
        assert [item.spec for item in parse_list(objective.spec)] == [objective.spec]
        told(objective.components)
        told(objective.modes)


@target(YAML, st.lists(assignments(), max_size=3))
def config(data: bytes, given: list[str]) -> None:
    from lookaround.settings import read_settings

    with room() as folder:
        file = folder / "settings.yaml"
        file.write_bytes(data)
        told(lambda: read_settings(file, given))
        told(lambda: read_settings(None, given))


# ---------------------------------------------------------------------------------- files of ours


@cache
def samples() -> Path:
    """A folder of files of ours: a run with a checkpoint and extra heads, tokens, results."""
    import torch

    from lookaround.data.corpus import make_corpus
    from lookaround.data.shards import prepare
    from lookaround.objectives import parse
    from lookaround.settings import read_settings
    from lookaround.studies.pretrain import train_into
    from lookaround.support.errors import Interrupted
    from lookaround.train.budget import parse_budget
    from lookaround.train.loop import StopSignal
    from tests import report_sample

    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    atexit.register(shutil.rmtree, folder, True)
    tokens = prepare(make_corpus("fuzz", LINES, {}), vocabulary=300, cache=folder / "tokens")
    chosen = read_settings(None, TINY)
    stop, objective = StopSignal(), parse("mtp(n=2)")
    budget = parse_budget("2000")

    def end(progress: Any) -> None:
        stop.set = progress.step == 7

    with contextlib.suppress(Interrupted):
        train_into(chosen, objective, budget, tokens, folder / "run", stop=stop, report=end)
    (checkpoint,) = (folder / "run").glob("checkpoint-*")
    shutil.copytree(checkpoint, folder / "model")
    shutil.copy(folder / "run" / "run.yaml", folder / "model")
    for name, made in (
        ("compare", report_sample.small_results()),
        ("forecast", report_sample.forecast_results()),
        ("synthetic", report_sample.synthetic_results()),
        ("speculation", report_sample.speculation_results()),
        ("evaluation", report_sample.evaluation_results()),
    ):
        (folder / "results").mkdir(exist_ok=True)
        (folder / "results" / f"{name}.json").write_text(json.dumps(made))
    return folder


LINES = [f"the {word} sat on mat {number}" for number in range(30) for word in ("cat", "dog")]
TINY = ["model.preset=pico", "train.batch=4", "model.context=32", "data.vocabulary=300"]
TINY += ["train.log_every=2"]
KINDS = [
    *("run/run.yaml", "run/metrics.jsonl", "run/checkpoint/counters.json"),
    *("run/checkpoint/training_state.safetensors", "model/run.yaml", "model/config.json"),
    *("model/heads.safetensors", "model/model.safetensors", "model/tokenizer.json"),
    *("tokens/index.json", "tokens/train-00000.bin", "tokens/test.documents.npy"),
    *(f"results/{name}.json" for name in ("compare", "forecast", "synthetic")),
    *("results/speculation.json", "results/evaluation.json"),
]
# (place among the leaves, value that is put there) of a file of JSON or YAML
LEAVES = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), VALUES), min_size=1, max_size=2)


def with_leaves(data: bytes, name: str, changes: list[tuple[float, Any]]) -> bytes:
    """A file of JSON or YAML with some of its values replaced."""
    import yaml

    value = json.loads(data) if name.endswith(".json") else yaml.safe_load(data)

    def places(inner: Any) -> Iterator[tuple[Any, Any]]:
        for key in inner if isinstance(inner, dict) else range(len(inner)):
            yield inner, key
            if isinstance(inner[key], dict | list):
                yield from places(inner[key])

    for share, new in changes:
        found = [*places(value)] if isinstance(value, dict | list) else []
        if found:
            inner, key = found[int(share * len(found))]
            inner[key] = new
    return json.dumps(value).encode()


@target(st.sampled_from(KINDS), LEAVES, EDITS, st.booleans())
def own(name: str, leaves: list[tuple[float, Any]], edits: list[Any], structured: bool) -> None:
    from lookaround.data.corpus import make_corpus
    from lookaround.data.shards import prepare
    from lookaround.model.readable import open_run, read_run
    from lookaround.report.schema import load_results
    from lookaround.train.checkpoint import load_training_state
    from lookaround.train.loop import read_metrics

    kind, _, rest = name.partition("/")
    with tempfile.TemporaryDirectory() as above:
        place = Path(above, kind)
        shutil.copytree(samples() / kind, place)
        (checkpoint,) = place.glob("checkpoint-*") if kind == "run" else (place,)
        (store,) = place.iterdir() if kind == "tokens" else (place,)
        base = checkpoint if rest.startswith("checkpoint/") else store
        file = base / rest.removeprefix("checkpoint/")
        data = file.read_bytes()
        if structured and file.suffix in (".json", ".yaml"):
            file.write_bytes(with_leaves(data, file.name, leaves))
        else:
            file.write_bytes(edited(data, edits))
        if kind == "run":
            told(lambda: read_run(place))
            told(lambda: read_metrics(place / "metrics.jsonl"))
            told(lambda: load_training_state(checkpoint))
        elif kind == "model":
            told(lambda: open_run(place))
        elif kind == "results":
            told(lambda: load_results(file))
        else:
            made = make_corpus("fuzz", LINES, {})
            again = told(lambda: prepare(made, vocabulary=300, cache=place))
            assert again is not None, "a torn store is made again"


# ---------------------------------------------------------------------------------------- running


def run_atheris(name: str, seconds: int) -> None:
    """Runs a target in this process, guided by the lines of ours that are reached."""
    import atheris

    with atheris.instrument_imports(include=["lookaround"]):
        import lookaround.data.corpora
        import lookaround.data.tasks
        import lookaround.model.readable
        import lookaround.objectives
        import lookaround.report.schema
        import lookaround.settings
        import lookaround.train.checkpoint  # noqa: F401
    test = TARGETS[name].under(deadline=None, max_examples=1)
    with tempfile.TemporaryDirectory() as seeds:
        arguments = [
            *(sys.argv[0], seeds, f"-max_total_time={seconds}", f"-timeout={SECONDS}"),
            *(
                f"-rss_limit_mb={MEGABYTES}",
                "-max_len=4096",
                "-print_final_stats=1",
                "-verbosity=0",
            ),
            f"-artifact_prefix={tempfile.gettempdir()}/fuzz-{name}-",
        ]
        atheris.Setup(arguments, test.hypothesis.fuzz_one_input)
        atheris.Fuzz()


def run_hypothesis(name: str, seconds: int) -> None:
    """Runs a target in this process, with inputs drawn at random."""
    import faulthandler

    end, round_ = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        faulthandler.dump_traceback_later(30 * SECONDS, exit=True)
        phases = [Phase.generate, Phase.shrink]
        TARGETS[name].under(deadline=1000 * SECONDS, max_examples=200, phases=phases)()
        round_ += 1
        faulthandler.cancel_dump_traceback_later()
    print(f"stat::number_of_executed_units: {200 * round_}", file=sys.stderr)


@dataclass(frozen=True)
class Outcome:
    """What became of a target."""

    name: str
    code: int
    inputs: int
    said: str


def outcome(name: str, engine: str, seconds: int) -> Outcome:
    """Runs a target in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.fuzz", "--run", name]
    command += ["--engine", engine, "--seconds", str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    counted = [line for line in done.stderr.splitlines() if "number_of_executed_units" in line]
    inputs = int(counted[-1].split()[-1]) if counted else 0
    return Outcome(name, done.returncode, inputs, done.stdout + done.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10, help="of each target")
    parser.add_argument("--only", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--engine", choices=("atheris", "hypothesis"), default="atheris")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the record here")
    parser.add_argument("--run", choices=TARGETS, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        {"atheris": run_atheris, "hypothesis": run_hypothesis}[given.engine](
            given.run, given.seconds
        )
        return
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        run = [
            pool.submit(outcome, name, given.engine, round(60 * given.minutes))
            for name in given.only
        ]
        outcomes = [each.result() for each in run]
    for found in outcomes:
        if found.code:
            lines = [line[:300] for line in found.said.splitlines()[-60:]]
            print(f"--- {found.name}", *lines, sep="\n")
    print(f"{'target':<12}{'inputs':>12}{'crashes':>10}")
    for found in outcomes:
        print(f"{found.name:<12}{found.inputs:>12,}{bool(found.code):>10}")
    if given.json:
        from benchmarks.records import write_record

        rows = [
            {"target": found.name, "inputs": found.inputs, "crashes": int(bool(found.code))}
            for found in outcomes
        ]
        write_record(given.json, {"fuzz": rows}, minutes=given.minutes, engine=given.engine)
    sys.exit(any(found.code for found in outcomes))


if __name__ == "__main__":
    main()
