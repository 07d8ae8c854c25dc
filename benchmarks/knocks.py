"""Whether a command that is ended at any moment goes on to the results that it has uninterrupted.

    python -m benchmarks.knocks --kills 100 --json results/data/knocks.json
    python -m benchmarks.knocks --kills 10 --commands pretrain,forecast --seed 1

A kill takes about 20 s on two busy CPU cores, of which most is imports. Linux only.

Each of COMMANDS runs once at a tiny size: its reference. Then it begins again in a new folder, is
ended at a moment drawn uniformly over the time of the reference, up to three times, and is given
again until it finishes; one in four begins with an empty token cache. It is ended by SIGKILL to all
of its processes, to the first one alone or to a single worker, by SIGINT to all or by SIGTERM to
the first. What it leaves behind is held against the reference: the same files, weights bit for bit,
all else in every field and in the same order but for what MEASURED names.

Two more of each command: a disk (tmpfs, as root; else a limit on the size of files) that is full in
the middle, and a worker that is lost where there are workers. Both have to end in one line and exit
code 2, and the same command has to go on from there. Exit code 1 where anything is unequal.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import yaml

from benchmarks.records import write_record

# What may differ between two runs of the same command: (files, field or line, why).
MEASURED = (
    ("*", "seconds", "time that was measured"),
    ("*.html", "*", "made of the numbers of the file beside it, measured ones among them"),
    # the clock chooses the trees, and with them how many tokens a pass gives
    ("speculate.yaml", "spent", "seconds of each stage"),
    ("speculate.yaml", "costs", "seconds of a pass"),
    ("speculate.yaml", "tokens_per_second", "speed"),
    ("speculate.yaml", "by_batch", "speed and trees by the number of texts"),
    ("speculate.yaml", "pays_up_to_batch", "follows from the speeds"),
    ("speculate.yaml", "trees", "those that are fastest here"),
    ("speculate.yaml", "expected_tokens_per_forward", "of these trees"),
    ("speculate.yaml", "tokens_per_forward", "of these trees"),
    ("speculate.yaml", "acceptance_by_depth", "of these trees"),
    ("speculation.json", "trees", "those that are fastest here"),
    ("speculation.json", "expected_tokens_per_forward", "of these trees"),
    ("README.md", "| tokens per forward *", "of these trees"),
    ("README.md", "| times transformers*", "speed"),
)
LOCK = ".lock"  # stays, and means nothing by itself
WORDS = "the cat sat on a mat while two dogs ran over green hills and old men told tales of war"
SEVERAL = (0.6, 0.4)  # chances of a second and a third knock before a command may finish
EMPTY_CACHE = 0.25  # share of folders that begin with one
PATIENCE = 120  # seconds in which a command has to end after a signal
# {way of ending: its share}; commands without workers have those of one process
ALONE = {"SIGKILL": 4, "SIGINT": 1, "SIGTERM": 1}
WITH_WORKERS = {**ALONE, "SIGKILL to the first process": 1, "SIGKILL to a worker": 2}
LOST = "a process of the study died"


def _set(*values: str) -> tuple[str, ...]:
    return tuple(part for value in values for part in ("--set", value))


OFTEN = _set("train.checkpoint_every=5", "train.log_every=7")
TINY = ("--model", "pico", *_set("train.batch=4", "model.context=32", "data.vocabulary=300"))
TASKS = ("--task", "mood.tsv", "--task", "behind.conll")


@dataclass(frozen=True)
class Command:
    """A command at a tiny size; paths are relative to the folder of the texts.

    workers: whether it has processes of its own.
    """

    arguments: tuple[str, ...]
    workers: bool = True


PRETRAIN = Command(
    ("pretrain", "corpus.txt", "--objective", "dar + vmlm", "--budget", "20k", *TINY, *OFTEN),
    workers=False,
)
COMMANDS = {
    "pretrain": PRETRAIN,
    "compare": Command(
        (
            *("compare", "corpus.txt", *TASKS, "--objectives", "ar, 0.5*ar >> 0.5*mlm"),
            *("--budget", "3000", *TINY, *OFTEN, "--jobs", "2"),
            *_set("compare.lr_factors=[0.5,1.0]", "compare.ladder=[0.5,1.0]"),
            *_set("evaluate.positions=4", "evaluate.samples=1", "evaluate.sample_tokens=4"),
            *_set("evaluate.bootstrap=100", "forecast.rank=16", "forecast.far_lag=16"),
        )
    ),
    "synthetic": Command(
        (
            *("synthetic", "--task", "pathstar(2,3)", "--objectives", "ar, reverse"),
            *("--steps", "40", "--seeds", "1", "--jobs", "2", *OFTEN),
            *_set("synthetic.every=10", "synthetic.batch=16", "synthetic.lr_factors=[0.5,1.0]"),
            *_set("synthetic.queries=200", "synthetic.watched=100"),
        )
    ),
    "speculate": Command(
        (
            *("speculate", "model", "--corpus", "corpus.txt", "--joint", *OFTEN),
            *("--heads", "medusa", "--samples", "3000", "--budget", "6k"),
            *_set("train.batch=4", "speculate.prompts=8", "speculate.prompt_tokens=8"),
            *_set("speculate.new_tokens=8", "speculate.batches=[1,2]", "speculate.rounds=1"),
        ),
        workers=False,
    ),
    "forecast": Command(
        (
            *("forecast", "corpus.txt", *TASKS, "--objectives", "ar, mlm, dar", "--rank", "16"),
            *_set("data.vocabulary=300", "forecast.far_lag=16"),
        )
    ),
}


# ------------------------------------------------------------------------------- what is unequal


def differences(reference: Path, other: Path) -> list[str]:
    """What of a folder is not as in the reference, measured numbers aside: files and fields."""
    names, others = (
        {str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != LOCK}
        for folder in (reference, other)
    )
    found = [f"{name}: is missing" for name in sorted(names - others)]
    found += [f"{name}: is left behind" for name in sorted(others - names)]
    for name in sorted(names & others):
        one, two = reference / name, other / name
        fields = [field for files, field, _ in MEASURED if fnmatch.fnmatch(one.name, files)]
        if one.is_file() and "*" not in fields:
            found += [f"{name}: {what}" for what in _differing(one, two, fields)]
    return found


def _differing(one: Path, other: Path, measured: list[str]) -> Iterator[str]:
    """Fields, lines or bytes in which two files differ."""
    if one.suffix in (".json", ".yaml", ".jsonl"):
        yield from _fields(*(_data(path) for path in (one, other)), measured)
    elif one.suffix == ".md":
        texts = [
            [line for line in path.read_text().splitlines() if not _matches(line, measured)]
            for path in (one, other)
        ]
        if texts[0] != texts[1]:
            yield "text"
    elif one.suffix == ".safetensors":
        (head, weights), (its_head, its_weights) = (_safetensors(path) for path in (one, other))
        if head != its_head or weights != its_weights:
            yield "weights" if head == its_head else "names, shapes or description of weights"
    elif one.read_bytes() != other.read_bytes():
        yield "bytes"


def _safetensors(path: Path) -> tuple[dict[str, Any], bytes]:
    """(description of the tensors, their bytes); the library writes the former in any order."""
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


def _matches(text: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(text, pattern) for pattern in patterns)


def _data(path: Path) -> Any:
    text = path.read_text()
    if path.suffix == ".yaml":
        return yaml.safe_load(text)
    return [*map(json.loads, text.splitlines())] if path.suffix == ".jsonl" else json.loads(text)


def _fields(one: Any, other: Any, measured: list[str], at: str = "") -> Iterator[str]:
    """Paths of what differs in plain data; the order of fields counts, and NaN is NaN."""
    if isinstance(one, dict) and isinstance(other, dict):
        if [*one] != [*other]:
            yield f"{at or 'top'} has other fields or another order"
        for name in one.keys() & other.keys() - {*measured}:
            yield from _fields(one[name], other[name], measured, f"{at}.{name}".lstrip("."))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, (mine, its) in enumerate(zip(one, other, strict=True)):
            yield from _fields(mine, its, measured, f"{at}.{number}".lstrip("."))
    elif json.dumps(one) != json.dumps(other):
        yield f"{at} is {json.dumps(other)[:60]}, not {json.dumps(one)[:60]}"


# --------------------------------------------------------------------- commands, and their ends


@dataclass
class Run:
    """A command in a folder, as a process that may be ended.

    place: the folder of the texts; out: where it writes, below it; cache: of tokens.
    """

    command: Command
    place: Path
    out: str
    cache: Path
    limit: int | None = None  # on the size of a file

    def start(self) -> subprocess.Popen[str]:
        """Starts the command in a process group of its own, or goes on with it."""
        environment = {**os.environ, "LOOKAROUND_CACHE": str(self.cache), "HF_HUB_OFFLINE": "1"}
        return subprocess.Popen(
            [sys.executable, "-m", "lookaround", *self.command.arguments, "--out", self.out],
            cwd=self.place,
            env=environment | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=None if self.limit is None else partial(_limit_files, self.limit),
        )

    def finish(self) -> list[str]:
        """Lets the command finish; returns what is wrong with that."""
        process = self.start()
        _, error = process.communicate()
        return [] if process.returncode == 0 else [f"exit {process.returncode}: {error[-2000:]}"]


def _limit_files(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def workers(process: subprocess.Popen[str]) -> list[int]:
    """The ids of a command's workers."""
    found = []
    with contextlib.suppress(OSError):
        for number in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            with contextlib.suppress(OSError):
                if "spawn_main" in Path(f"/proc/{number}/cmdline").read_text():
                    found.append(int(number))
    return found


def ended(process: subprocess.Popen[str], way: str, draw: random.Random) -> tuple[str, list[str]]:
    """Ends a process; returns how, and what is wrong with how it took that."""
    if way == "SIGKILL to a worker" and not workers(process):
        way = "SIGKILL"
    with contextlib.suppress(ProcessLookupError):
        if way == "SIGKILL to a worker":
            os.kill(draw.choice(workers(process)), signal.SIGKILL)
        elif way == "SIGKILL to the first process":
            process.kill()
        elif way == "SIGTERM":
            process.terminate()
        else:
            os.killpg(process.pid, signal.Signals[way])
    try:
        _, error = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return way, [f"{way}: has not ended after {PATIENCE} s"]
    # 0: had finished; a signal before the command listens ends it
    right = {
        "SIGINT": (0, 130, -signal.SIGINT),
        "SIGTERM": (0, 130, -signal.SIGTERM),
        "SIGKILL to a worker": (0, 2),
    }
    code, last = process.returncode, (error.splitlines() or [""])[-1]
    wrong = []
    if code not in right.get(way, (0, -signal.SIGKILL)) or "Traceback" in error:
        wrong.append(f"{way}: exit {code}: {error[-2000:]}")
    elif code == 2 and not (last.startswith("error: ") and LOST in last):
        wrong.append(f"{way}: says {last}")
    return way, wrong


# -------------------------------------------------------------------------------------- trials


@dataclass
class Trial:
    """A folder that was knocked about: how often and how, and what is wrong with it at the end."""

    knocks: int = 0
    told: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


@dataclass
class Reference:
    """A command that nothing has ended: its folder, and the seconds that it took."""

    command: Command
    place: Path
    out: Path
    cache: Path
    seconds: float

    def run(self, draw: random.Random, name: str) -> Run:
        """A run into a new folder, at times with an empty cache."""
        place = self.place.with_name(name)
        copy_texts(self.place, place)
        empty = draw.random() < EMPTY_CACHE
        return Run(self.command, place, self.out.name, place / "cache" if empty else self.cache)


def knocked(reference: Reference, run: Run, draw: random.Random) -> Trial:
    """Ends a run one to three times at any moment, and lets it finish."""
    trial = Trial(told=["an empty cache"] * (run.cache != reference.cache))
    ways = WITH_WORKERS if run.command.workers else ALONE
    for chance in (1.0, *SEVERAL):
        if draw.random() >= chance:
            break
        (way,) = draw.choices([*ways], [*ways.values()])
        moment = draw.random() * reference.seconds
        process = run.start()
        try:
            process.communicate(timeout=moment)
            break  # it was faster
        except subprocess.TimeoutExpired:
            way, wrong = ended(process, way, draw)
            trial.knocks += 1
            trial.told.append(f"{way} at {moment:.1f} s")
            trial.wrong += wrong
    trial.wrong += run.finish()
    return trial


def without_a_worker(reference: Reference, run: Run, draw: random.Random) -> Trial:
    """Loses a worker at some moment, and lets the run finish."""
    trial = Trial(told=["a lost worker"])
    began, process = time.monotonic(), run.start()
    while not workers(process) and process.poll() is None:
        time.sleep(0.05)
    left = max(0.0, reference.seconds - (time.monotonic() - began))
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=0.8 * draw.random() * left)
    way, wrong = ended(process, "SIGKILL to a worker", draw)
    trial.knocks += 1
    # one that has nothing left to do is not missed
    if process.returncode not in (0, 2) and not wrong:
        wrong.append(f"{way}: exit {process.returncode}, where 2 is due")
    trial.wrong += [*wrong, *run.finish()]
    return trial


def without_room(reference: Reference, run: Run, draw: random.Random) -> Trial:
    """Fills the disk in the middle, makes room, and lets the run finish."""
    files = [path.stat().st_size for path in reference.out.rglob("*") if path.is_file()]
    place, disk = run.place, run.place / "disk"
    disk.mkdir()
    room = int(draw.uniform(0.1, 0.9) * sum(files))
    mounted = _mount(disk, room)
    if not mounted:
        run.limit = max(files) // 2
    copy_texts(place, disk)
    run.place = disk
    trial = Trial(told=[f"a disk of {room:,} bytes" if mounted else f"files of {run.limit:,}"])
    try:
        process = run.start()
        _, error = process.communicate()
        lines = error.splitlines() or [""]
        if process.returncode != 2 or not (
            lines[-1].startswith("error: ") and "no space left" in lines[-1]
        ):
            trial.wrong.append(f"full disk: exit {process.returncode}: {error[-2000:]}")
        run.limit = None
        if mounted:
            _mount(disk, 1 << 30, again=True)
        trial.wrong += run.finish()
        shutil.copytree(disk / run.out, place / run.out)
    finally:
        run.place = place
        if mounted:
            subprocess.run(["umount", "-l", disk], check=False)
    return trial


def _mount(folder: Path, size: int, again: bool = False) -> bool:
    """Whether a disk in memory of this size could be mounted."""
    options = f"remount,size={size}" if again else f"size={size}"
    call = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    with contextlib.suppress(OSError):
        return subprocess.run(call, capture_output=True).returncode == 0
    return False


# ---------------------------------------------------------------------------------------- texts


def write_texts(folder: Path) -> None:
    """A text, labels of texts and labels of words, of random words."""
    draw, words = random.Random(0), WORDS.split()

    def sentence(least: int, most: int) -> list[str]:
        return [draw.choice(words) for _ in range(draw.randint(least, most))]

    documents = [f"{number}: {' '.join(sentence(5, 60))}" for number in range(400)]
    (folder / "corpus.txt").write_text("\n\n".join(documents))
    rows = [f"{number} {' '.join(sentence(5, 12))}\t{'ab'[number % 2]}" for number in range(60)]
    (folder / "mood.tsv").write_text("text\tlabel\n" + "\n".join(rows) + "\n")
    lines = []
    for _ in range(40):
        line = sentence(8, 8)
        early = [words.index(word) < len(words) // 2 for word in line[1:]]
        lines += [f"{w} {('late', 'early')[e]}" for w, e in zip(line, early, strict=False)] + [""]
    (folder / "behind.conll").write_text("\n".join(lines))


def copy_texts(source: Path, folder: Path) -> None:
    """The texts, and the model beside them, in a new folder."""
    folder.mkdir(exist_ok=True)
    for path in source.iterdir():
        if path.name in ("corpus.txt", "mood.tsv", "behind.conll", "model"):
            (folder / path.name).symlink_to(path.resolve())


def make_reference(name: str, texts: Path, home: Path) -> Reference:
    """Runs a command to its end."""
    place, cache = home / f"{name}-reference", home / "cache"
    copy_texts(texts, place)
    run = Run(COMMANDS[name], place, "out", cache)
    began = time.monotonic()
    if wrong := run.finish():
        raise SystemExit(f"{name} does not run: {wrong[0]}")
    return Reference(run.command, place, place / "out", cache, time.monotonic() - began)


# ----------------------------------------------------------------------------------- everything


@dataclass
class Line:
    """What became of a command."""

    name: str
    reference: float
    knocks: int = 0
    equal: int = 0
    wrong: list[list[str]] = field(default_factory=list)
    seconds: float = 0.0

    def told(self) -> str:
        counts = f"{self.knocks:>7}{self.equal:>15}{len(self.wrong):>9}"
        return f"{self.name:<11}{self.reference:>14.1f}{counts}{self.seconds:>9.0f}"

    def row(self) -> dict[str, Any]:
        """As it stands in the record."""
        counts = {"kills": self.knocks, "equal": self.equal, "unequal": len(self.wrong)}
        return {"command": self.name, "reference": round(self.reference, 1), **counts}


HEAD = f"{'command':<11}{'reference, s':>14}{'kills':>7}{'resumed equal':>15}{'unequal':>9}{'s':>9}"
Way = Callable[[Reference, Run, random.Random], Trial]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--kills", type=int, default=100, help="at random moments, over all commands"
    )
    parser.add_argument("--seed", type=int, default=0, help="of moments and ways")
    parser.add_argument("--commands", default=",".join(COMMANDS), help=f"of {', '.join(COMMANDS)}")
    parser.add_argument("--minutes", type=float, help="begin nothing after so many")
    parser.add_argument("--plain", action="store_true", help="no full disk, no lost worker")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the record here")
    given = parser.parse_args(arguments)
    names = [name.strip() for name in given.commands.split(",")]
    if unknown := {*names} - {*COMMANDS}:
        parser.error(f"--commands: no command {', '.join(sorted(unknown))}")
    if not sys.platform.startswith("linux"):
        parser.error("reads /proc, which Linux alone has")
    until = time.monotonic() + 60 * given.minutes if given.minutes else float("inf")
    home, draw = Path(mkdtemp(prefix="knocks-")), random.Random(given.seed)
    texts = home / "texts"
    texts.mkdir()
    write_texts(texts)
    model = Run(PRETRAIN, texts, "model", home / "cache")
    if "speculate" in names and (wrong := model.finish()):
        raise SystemExit(f"no model: {wrong[0]}")
    references = {name: make_reference(name, texts, home) for name in names}
    lines = {name: Line(name, reference.seconds) for name, reference in references.items()}

    def tried(name: str, way: Way) -> int:
        """Makes a trial and tells of it; returns its knocks."""
        reference, line = references[name], lines[name]
        began = time.monotonic()
        run = reference.run(draw, f"{name}-{line.equal + len(line.wrong)}")
        trial = way(reference, run, draw)
        out = run.place / run.out
        wrong = trial.wrong + (differences(reference.out, out) if out.exists() else [])
        line.knocks += trial.knocks
        line.seconds += time.monotonic() - began
        verdict = f"UNEQUAL, kept in {run.place}" if wrong else "equal"
        print(f"{name:<11}{', '.join(trial.told) or 'not ended'}: {verdict}", flush=True)
        for what in wrong[:20]:
            print(f"    {what}", flush=True)
        if wrong:
            line.wrong.append(wrong)
        else:
            line.equal += 1
            shutil.rmtree(run.place)
        return trial.knocks

    extra: list[tuple[str, Way]] = [] if given.plain else [(name, without_room) for name in names]
    if not given.plain:
        extra += [(name, without_a_worker) for name in names if COMMANDS[name].workers]
    for name, way in extra:
        if time.monotonic() < until:
            tried(name, way)
    left = {name: (given.kills + number) // len(names) for number, name in enumerate(names)}
    while any(count > 0 for count in left.values()) and time.monotonic() < until:
        for name in [name for name, count in left.items() if count > 0]:
            left[name] -= tried(name, knocked)
    print(f"\n{HEAD}")
    print("\n".join(line.told() for line in lines.values()))
    unequal = any(line.wrong for line in lines.values())
    if given.json:
        write_record(given.json, {"knocks": [line.row() for line in lines.values()]})
    if not unequal:
        shutil.rmtree(home)
    return int(unequal)


if __name__ == "__main__":
    raise SystemExit(main())
