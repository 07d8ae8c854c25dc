"""Speed, growth and memory of counting token pairs at lags, and wall time of `lookaround forecast`.

    git clone https://github.com/stanfordnlp/GloVe && make -C GloVe
    python -m benchmarks.counting --cooccur GloVe/build/cooccur --json results/data/counting.json
    python -m benchmarks.counting --only speed --quick
    python -m benchmarks.counting --trial --cooccur GloVe/build/cooccur

The first takes about 8 minutes on two idle CPU cores, the second (3 rounds, no peer in C) about 1,
the third (a small part of the text, to see that it runs) about 3.

Reads $LOOKAROUND_DATA (default ../shared/data); a part whose files are absent is skipped. Tokens
are prepared in lookaround's cache before anything is timed.

speed: (token, lag) pairs per second of one core: `count_lags` on a token store of English Wikipedia
(10M tokens, vocabulary 8,192) at lags 1 to 8, in one thread, files written and synced included.
Peers, by turns with ours in every round: `cooccur` of GloVe (C, one thread, the same tokens as
words, a document a line, output to /dev/null; it adds the 8 lags up in one matrix, where we keep
8), and numpy/scipy as one would write it in a few lines, from tokens in memory: the faster of
scipy.sparse.coo_array(...).tocsr() and np.unique of packed pairs, without files, and np.unique with
np.savez. Before anything is timed, every count is compared. A ratio is the median over the rounds
of the peer's seconds / ours: above 1, we are faster. linearity: the same at 1/8, 1/4, 1/2 and all
of the tokens, in whole documents drawn by a seed, by turns. memory: peak resident memory of
counting lags 1 to 8 at vocabulary 32,768 over 50M tokens (Wikipedia, novels, dialogues and Brown,
shuffled and repeated: fewer distinct pairs than as much new text has), in a fresh process, on all
cores. forecast: 8 objectives, 4 tasks, rank 128 on the same Wikipedia as the command runs, with
tokens in the cache but no counts, and with an empty cache. Targets: at most 4 GB of memory in all,
at most 90 s with tokens in the cache on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # here; not in the processes that may use every core

import numpy as np
from scipy import sparse

from benchmarks.records import write_record
from benchmarks.texts import TEXTS
from lookaround.data.corpora import read_corpus
from lookaround.data.corpus import make_corpus
from lookaround.data.files import read_text
from lookaround.data.shards import TokenStore, prepare
from lookaround.settings import Settings
from lookaround.studies.forecast.forecast import VOCABULARY
from lookaround.support.errors import UserError
from lookaround.support.storage import write_text
from lookaround.theory.lags import LagCounts, count_lags

WIKI, SMALL_WIKI = "text/wiki.train.txt.xz", "text/wiki.valid.txt.xz"
FICTION, BROWN, DIALOGUE = (
    "text/fiction.train.txt.xz",
    "text/brown.tsv.xz",
    "text/dialogue.train.jsonl.xz",
)
TASKS = ("banking77/train", "snips/train", "sentence_polarity/all")
TASKS = (*(f"classification/{name}.tsv.xz" for name in TASKS), "glue/CoLA/train.tsv.xz")
OBJECTIVES = "ar, dar, mlm, mlm(rate=0.4), vmlm, mdlm, ar + vmlm, prefixlm"
ALL_CORES = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
LAGS = range(1, 9)
SHARES = (1 / 8, 1 / 4, 1 / 2, 1.0)
LARGE_VOCABULARY, LARGE_TOKENS = 32_768, 50_000_000
SEED = 0
GLOVE = "-symmetric 0 -distance-weighting 0 -memory 4 -verbose 0"
GLOVE_RECORD = np.dtype(
    [("context", "<i4"), ("target", "<i4"), ("count", "<f8")]
)  # words by rank, from 1

Found = tuple[list["Figure"], dict[str, Any]]  # lines of the last table, raw numbers


@dataclass(frozen=True)
class Figure:
    """One line of the last table; a target is the most that `ours` may be."""

    name: str
    ours: float
    peer: float | None = None
    ratio: float | None = None
    target: float | None = None

    def line(self) -> str:
        numbers = (self.ours, self.peer, self.ratio, self.target)
        shown = [f"{'-' if number is None else f'{number:.2f}':>10}" for number in numbers]
        return f"{self.name:<52}{''.join(shown)}  {self.verdict}"

    @property
    def verdict(self) -> str:
        """Whether the target is met; nothing without one."""
        return "" if self.target is None else "met" if self.ours <= self.target else "missed"

    def row(self) -> dict[str, Any]:
        """As it stands in the record, with the target in words."""
        target = None if self.target is None else f"at most {self.target:g}: {self.verdict}"
        numbers = {"ours": round(self.ours, 2), "peer": self.peer, "ratio": self.ratio}
        return {"name": self.name, **numbers, "target": target}


# ---------------------------------------------------------------------------------- what is counted


def prepared(corpus: Path) -> TokenStore:
    """Tokens of a text as `lookaround forecast` prepares them."""
    data = Settings().data
    return prepare(
        read_corpus(corpus),
        vocabulary=VOCABULARY,
        seed=data.split_seed,
        validation=data.validation,
        test=data.test,
    )


def mixture() -> TokenStore:
    """Tokens of four kinds of English with a vocabulary of 32,768."""
    dialogues = [json.loads(line)["turns"] for line in read_text(TEXTS / DIALOGUE).splitlines()]
    texts = ["\n".join(turn[1] for turn in turns) for turns in dialogues]
    texts += [
        text for file in (WIKI, FICTION, BROWN) for text in read_corpus(TEXTS / file).documents
    ]
    return prepare(make_corpus("mixture", texts, {}), vocabulary=LARGE_VOCABULARY)


def documents_of(store: TokenStore, tokens: int) -> np.ndarray:
    """Numbers of training documents that hold `tokens` tokens: all in a random order, then again in
    another, as needed.
    """
    length = store.split("train").length
    generator = np.random.default_rng(SEED)
    order = np.concatenate(
        [generator.permutation(len(length)) for _ in range(tokens // length.sum() + 1)]
    )
    return order[: np.searchsorted(length[order].cumsum(), tokens) + 1]


def store_of(store: TokenStore, documents: np.ndarray, folder: Path) -> TokenStore:
    """Writes a store whose training part is these documents (numbers, in this order) of another
    one's, in one shard.
    """
    split = store.split("train")
    shutil.copytree(store.folder / "tokenizer", folder / "tokenizer")
    with open(folder / "train-00000.bin", "wb") as file:
        for document in documents:
            file.write(split.read(document, 0, split.length[document]).tobytes())
    length = split.length[documents]
    zeros = np.zeros_like(length)
    np.save(folder / "train.documents.npy", np.array([zeros, length.cumsum() - length, length]))
    train = {"shards": ["train-00000.bin"], "documents": len(length), "tokens": int(length.sum())}
    fingerprint = f"{store.fingerprint} {len(length)}"
    index = {**store.index, "fingerprint": fingerprint, "splits": {"train": train}}
    write_text(folder / "index.json", json.dumps(index))
    return TokenStore(folder, index)


# ------------------------------------------------------------------------------- ours and the peers


def timed(call: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """(seconds, what the call returns)."""
    began = time.perf_counter()
    result = call(*arguments)
    return time.perf_counter() - began, result


def our_counts(store: TokenStore, folder: Path) -> LagCounts:
    with ThreadPoolExecutor(1) as executor:
        return count_lags(store, LAGS, folder=folder, executor=executor)


def our_seconds(store: TokenStore) -> float:
    """Of one count into a fresh folder, in one thread."""
    with TemporaryDirectory() as folder:
        return timed(our_counts, store, Path(folder, "counts"))[0]


class Peers:
    """Tokens (n,) and their documents' numbers (n,) in memory, as text for GloVe, and what counts
    them.

    cooccur: GloVe's binary, or None.
    folder: where the text and the sorted vocabulary are written.
    """

    def __init__(self, store: TokenStore, cooccur: Path | None, folder: Path) -> None:
        split = store.split("train")
        (shard,) = split.files
        self.tokens = shard.astype(np.int32)
        self.document = np.repeat(np.arange(len(split.length), dtype=np.int32), split.length)
        self.size, self.cooccur, self.folder = store.index["vocabulary"], cooccur, folder
        self.bits = (self.size - 1).bit_length()
        frequency = np.bincount(self.tokens, minlength=self.size)
        self.by_rank = np.argsort(-frequency, kind="stable")
        if cooccur is not None:
            words = [f"{token} {frequency[token]}\n" for token in self.by_rank if frequency[token]]
            (folder / "words").write_text("".join(words))
            with open(folder / "text", "w") as file:
                for start, length in zip(split.start, split.length, strict=True):
                    file.write(" ".join(map(str, shard[start : start + length].tolist())) + "\n")

    def scipy(self) -> list[sparse.csr_array]:
        """A matrix per lag; pairs across borders are entered as zeros, which is faster than taking
        them out first.
        """
        found = []
        for lag in LAGS:
            same = (self.document[:-lag] == self.document[lag:]).astype(np.int32)
            pairs = (self.tokens[:-lag], self.tokens[lag:])
            matrix = sparse.coo_array((same, pairs), shape=(self.size, self.size)).tocsr()
            matrix.eliminate_zeros()
            found.append(matrix)
        return found

    def unique(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Packed pairs and their counts per lag."""
        tokens, found = self.tokens.view(np.uint32), []
        for lag in LAGS:
            keys = (tokens[:-lag] << self.bits) | tokens[lag:]
            keys = keys[self.document[:-lag] == self.document[lag:]]
            found.append(np.unique(keys, return_counts=True))
        return found

    def unique_into_files(self) -> None:
        """The same, each lag into a file (not synced, unlike ours)."""
        for lag, (keys, number) in zip(LAGS, self.unique(), strict=True):
            np.savez(self.folder / f"unique-{lag}.npz", keys=keys, counts=number.astype(np.uint32))

    def glove(self, output: Path = Path(os.devnull)) -> None:
        """GloVe's cooccur on the same tokens, into `output`."""
        command = [str(self.cooccur), *shlex.split(f"-window-size {max(LAGS)} {GLOVE}")]
        command += ["-vocab-file", str(self.folder / "words")]
        command += ["-overflow-file", str(self.folder / "overflow")]
        with open(self.folder / "text", "rb") as text, open(output, "wb") as out:
            subprocess.run(command, stdin=text, stdout=out, stderr=subprocess.DEVNULL, check=True)

    def glove_matrix(self) -> sparse.csr_array:
        """What cooccur writes, as one matrix over token ids."""
        self.glove(self.folder / "records")
        records = np.fromfile(self.folder / "records", GLOVE_RECORD)
        pairs = (self.by_rank[records["context"] - 1], self.by_rank[records["target"] - 1])
        return sparse.coo_array((records["count"], pairs), shape=(self.size, self.size)).tocsr()


def require_same_counts(counts: LagCounts, peers: Peers) -> None:
    """Every side has our counts, to the last pair; else the comparison means nothing."""

    def require(side: str, ours: sparse.csr_array, theirs: sparse.csr_array) -> None:
        if different := (ours != theirs).nnz:
            raise SystemExit(
                f"{side}: {different:,} counts of {ours.sum():,} pairs are not as ours"
            )

    matrices = [counts.matrix(lag) for lag in LAGS]
    for lag, matrix, by_scipy, by_unique in zip(
        LAGS, matrices, peers.scipy(), peers.unique(), strict=True
    ):
        keys, number = by_unique
        unpacked = (keys >> peers.bits, keys & ((1 << peers.bits) - 1))
        require(f"scipy at lag {lag}", matrix, by_scipy)
        require(
            f"np.unique at lag {lag}",
            matrix,
            sparse.csr_array((number, unpacked), shape=matrix.shape),
        )
    if peers.cooccur is not None:
        require("cooccur", sum(matrices[1:], matrices[0]), peers.glove_matrix())


# ----------------------------------------------------------------------------------- the four parts


def measure_speed(options: argparse.Namespace) -> Found:
    store = prepared(TEXTS / options.wiki)
    with TemporaryDirectory() as folder:
        peers = Peers(store, options.cooccur, Path(folder))
        counts = our_counts(store, Path(folder, "counts"))
        require_same_counts(counts, peers)
        calls = {
            "scipy": peers.scipy,
            "np.unique": peers.unique,
            "into files": peers.unique_into_files,
        }
        calls |= {"cooccur": peers.glove} if options.cooccur is not None else {}
        rounds = [
            {"ours": our_seconds(store)} | {name: timed(call)[0] for name, call in calls.items()}
            for _ in range(options.rounds)
        ]
    pairs = sum(counts.pairs.values())
    rate = {name: pairs / 1e6 / median(line[name] for line in rounds) for name in rounds[0]}
    faster = max("scipy", "np.unique", key=lambda name: rate[name])
    labels = {"cooccur": "GloVe cooccur (8 lags in one)", faster: f"numpy/scipy ({faster})"}
    labels["into files"] = "np.unique and np.savez"
    figures = []
    for name in (name for name in labels if name in rate):
        ratio = median(line[name] / line["ours"] for line in rounds)
        figures.append(Figure(f"M pairs/s a core; {labels[name]}", rate["ours"], rate[name], ratio))
    raw = {
        "tokens": counts.tokens,
        "vocabulary": counts.vocabulary,
        "pairs": pairs,
        "seconds": rounds,
    }
    return figures, raw | {"million_pairs_per_second": rate}


def measure_linearity(options: argparse.Namespace) -> Found:
    store = prepared(TEXTS / options.wiki)
    tokens = store.split("train").tokens
    with TemporaryDirectory() as name:
        folder = Path(name)
        documents = [documents_of(store, int(share * tokens)) for share in SHARES]
        parts = [store_of(store, part, folder / str(len(part))) for part in documents]
        pairs = [sum(our_counts(part, part.folder / "counts").pairs.values()) for part in parts]
        rounds = [[our_seconds(part) for part in parts] for _ in range(options.rounds)]
    rate = [
        n / 1e6 / median(column) for n, column in zip(pairs, zip(*rounds, strict=True), strict=True)
    ]
    figures = [
        Figure(
            f"M pairs/s a core, {share:g} of the text; all of it", each, rate[-1], each / rate[-1]
        )
        for share, each in zip(SHARES, rate, strict=True)
    ]
    return figures, {
        "shares": SHARES,
        "pairs": pairs,
        "seconds": rounds,
        "million_pairs_per_second": rate,
    }


def peak_bytes() -> int:
    """The most memory this process has held resident."""
    status = Path("/proc/self/status")
    if (
        status.is_file()
    ):  # getrusage starts at the size of the process that started this one; this does not
        return 1024 * int(status.read_text().split("VmHWM:")[1].split()[0])
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def count_alone(folder: Path) -> None:
    """Counts the store of a folder on all cores; prints seconds, pairs and peaks."""
    store = TokenStore(folder, json.loads((folder / "index.json").read_text()))
    assert store.codec.bos is not None  # which imports transformers
    imports = peak_bytes()
    seconds, counts = timed(lambda: count_lags(store, LAGS, folder=folder / "counts"))
    peak = {"bytes": peak_bytes(), "bytes_of_imports": imports}
    size = {
        "tokens": counts.tokens,
        "vocabulary": counts.vocabulary,
        "pairs": sum(counts.pairs.values()),
    }
    print(json.dumps({**peak, **size, "seconds": seconds}))


def measure_memory(options: argparse.Namespace) -> Found:
    store = mixture()
    with TemporaryDirectory() as name:
        folder = Path(name, "store")
        store_of(store, documents_of(store, LARGE_TOKENS // (10 if options.trial else 1)), folder)
        alone = [sys.executable, "-m", "benchmarks.counting", "--alone", str(folder)]
        raw = json.loads(run(alone, ALL_CORES))
    tokens = f"{raw['tokens'] / 1e6:.0f}M tokens, vocabulary {raw['vocabulary']:,}"
    return [
        Figure(f"GB at the peak, {tokens}", raw["bytes"] / 1e9, target=4),
        Figure(
            "GB at the peak less that of imports", (raw["bytes"] - raw["bytes_of_imports"]) / 1e9
        ),
        Figure("s on all cores", raw["seconds"]),
        Figure("M pairs/s on all cores", raw["pairs"] / 1e6 / raw["seconds"]),
    ], raw


def run(command: list[str], environment: dict[str, str]) -> str:
    """What a command prints; the benchmark ends where it fails."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\nfailed ({done.returncode}):\n{done.stderr[-3000:]}")
    return done.stdout


def forecast_seconds(cache: Path, out: Path, corpus: Path) -> dict[str, float]:
    """Wall seconds of the command as a process, and what it says of itself."""
    command = [
        sys.executable,
        *shlex.split(f"-m lookaround forecast --rank 128 --objectives '{OBJECTIVES}'"),
    ]
    command += [part for task in TASKS for part in ("--task", str(TEXTS / task))] + [
        str(corpus),
        "--out",
        str(out),
    ]
    seconds, _ = timed(run, command, {**ALL_CORES, "LOOKAROUND_CACHE": str(cache)})
    return {"seconds": seconds, **json.loads((out / "forecast.json").read_text())["seconds"]}


def measure_forecast(options: argparse.Namespace) -> Found:
    corpus = TEXTS / options.wiki
    store = prepared(corpus)
    with TemporaryDirectory() as name:
        folder = Path(name)
        kept = folder / "tokens" / store.folder.name
        shutil.copytree(store.folder, kept, ignore=shutil.ignore_patterns("counts-*"))
        tokens = forecast_seconds(folder / "tokens", folder / "first", corpus)
        if not (kept / "counts-train").is_dir():
            raise SystemExit(
                "forecast made tokens of its own; `prepared` should make them as it does"
            )
        empty = forecast_seconds(folder / "empty", folder / "second", corpus)
    return [
        Figure("s of forecast, tokens in the cache", tokens["seconds"], target=90),
        Figure("s of forecast, empty cache", empty["seconds"]),
    ], {"tokens_in_cache": tokens, "empty_cache": empty}


PARTS: dict[str, tuple[Callable[[argparse.Namespace], Found], tuple[str, ...]]] = {
    "speed": (measure_speed, (WIKI,)),
    "linearity": (measure_linearity, (WIKI,)),
    "memory": (measure_memory, (WIKI, FICTION, BROWN, DIALOGUE)),
    "forecast": (measure_forecast, (WIKI, *TASKS)),
}


# --------------------------------------------------------------------------------------- everything


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--cooccur", type=Path, metavar="PATH", help="GloVe's binary, to count beside ours"
    )
    parser.add_argument("--quick", action="store_true", help="3 rounds in place of 5")
    parser.add_argument(
        "--trial", action="store_true", help="a small part of the text; no figures to quote"
    )
    parser.add_argument("--only", choices=list(PARTS), help="one part")
    parser.add_argument("--skip-forecast", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the record here")
    parser.add_argument("--alone", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        count_alone(options.alone)
        return
    if options.cooccur is not None and not os.access(options.cooccur, os.X_OK):
        parser.error(
            f"--cooccur: no program at {options.cooccur}; build GloVe and give its build/cooccur"
        )
    options.rounds, options.wiki = 3 if options.quick else 5, SMALL_WIKI if options.trial else WIKI
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    figures: list[Figure] = []
    raw: dict[str, Any] = {}
    for part in [options.only] if options.only else [*PARTS]:
        measure, files = PARTS[part]
        absent = [file for file in files if not (TEXTS / file).is_file()]
        if absent:
            print(f"{part}: skipped, there is no {absent[0]} in {TEXTS}; set LOOKAROUND_DATA")
        elif not (part == "forecast" and options.skip_forecast):
            print(f"{part} ...", flush=True)
            found, raw[part] = measure(options)
            figures += found
    if not figures:
        return
    print(f"\n{'figure; peer':<52}{'ours':>10}{'peer':>10}{'ratio':>10}{'target':>10}")
    print("\n".join(figure.line() for figure in figures))
    if options.json:
        protocol = {"rounds": options.rounds, "trial": options.trial, "lags": [*LAGS], "load": load}
        rows = {"figures": [figure.row() for figure in figures]}
        write_record(options.json, rows, seeds=1, **protocol, measured=raw)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"counting.py: {error}") from None
