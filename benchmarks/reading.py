"""Time and memory from a text on disk to token shards.

    python -m benchmarks.reading --json results/data/reading.json
    python -m benchmarks.reading --megabytes 20 --rounds 1 --large 0

The first takes about 25 minutes on two idle CPU cores and 8 GB of disk, the second about 1.

The text is paragraphs of Wikipedia and novels of $LOOKAROUND_DATA in an order drawn anew until
there are --megabytes (200) of it, each with its number in front so that none is dropped as equal to
an earlier one, and a blank line between them. Each way runs in a process of its own, with all
cores, by turns in every round:

ours: `read_corpus` and `prepare` (a split, a BPE of 8,192 tokens trained on the training part,
uint16 shards, synced to disk); `datasets`: `load_dataset("text", sample_by="paragraph")`, a
byte-level BPE of `tokenizers` trained on it, `map` in batches to its ids, `save_to_disk`, as one
would write it; older: ours at another commit, whose `src` is given by --older. A ratio is the
median over the rounds of the peer's figure / ours: above 1, we are faster or need less. Targets:
no slower than `datasets`, at most half of the memory of the older.

large: ours on --large (3,000) megabytes, alone. Target: at most 1.5 GiB plus twice the longest
document plus one shard (2^28 tokens of 2 bytes). Its growth from the smaller text gives what 10 GB
would need.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.records import write_record
from benchmarks.texts import TEXTS, require_texts

VOCABULARY = 8192
SHARD_BYTES = 2 * 2**28
OURS = """
import sys
from pathlib import Path
try:
    from lookaround.data.corpora import read_corpus
except ImportError:
    from lookaround.data.corpus import read_corpus
from lookaround.data.shards import prepare
text, cache = map(Path, sys.argv[1:])
store = prepare(read_corpus(text), vocabulary=%d, cache=cache)
print(sum(split["tokens"] for split in store.index["splits"].values()))
"""
PEER = """
import sys, datasets
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
text, cache = sys.argv[1:]
datasets.disable_progress_bars()
data = datasets.load_dataset(
    "text", data_files=text, sample_by="paragraph", cache_dir=cache + "/hf", split="train"
)
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
alphabet = pre_tokenizers.ByteLevel.alphabet()
trainer = trainers.BpeTrainer(vocab_size=%d, initial_alphabet=alphabet, show_progress=False)
tokenizer.train_from_iterator((row["text"] for row in data), trainer)
encode = lambda rows: {"ids": [e.ids for e in tokenizer.encode_batch_fast(rows["text"])]}
ids = data.map(encode, batched=True, remove_columns="text")
ids.save_to_disk(cache + "/out")
print(sum(len(row) for row in ids.with_format("arrow")["ids"]))
"""


def write_text(path: Path, megabytes: float) -> int:
    """Writes a text of a size; returns the bytes of its longest document."""
    from lookaround.data.corpora import read_corpus

    paragraphs = [
        part
        for name in ("wiki.train.txt.xz", "fiction.train.txt.xz")
        for document in read_corpus(TEXTS / "text" / name).documents
        for part in document.split("\n")
        if len(part) > 100
    ]
    draw, room, number, longest = random.Random(0), megabytes * 1e6, 0, 0
    with open(path, "w", encoding="utf-8") as file:
        while room > 0:
            for part in draw.sample(paragraphs, len(paragraphs)):
                text = f"{number} {part}"
                size = len(text.encode("utf-8"))
                file.write(text + "\n\n")
                room, number, longest = room - size - 2, number + 1, max(longest, size)
                if room <= 0:
                    break
    return longest


def run(program: str, text: Path, source: str | None = None) -> dict[str, float]:
    """Seconds, peak memory in MiB and tokens of a program in a process of its own."""
    room = Path(text).with_name("work")
    room.mkdir()
    path = source or os.pathsep.join(place for place in sys.path if place)
    environment = {**os.environ, "PYTHONPATH": path, "LOOKAROUND_CACHE": str(room)}
    measured = (
        "import resource, subprocess, sys; "
        "code = subprocess.call(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
    )
    began = time.perf_counter()
    try:
        done = subprocess.run(
            [
                *(sys.executable, "-P", "-c", measured),
                *(sys.executable, "-P", "-c", program % VOCABULARY, str(text), str(room)),
            ],
            env=environment,
            capture_output=True,
            text=True,
        )
    finally:
        shutil.rmtree(room, ignore_errors=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    tokens, kilobytes = map(int, done.stdout.split()[-2:])
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "mebibytes": kilobytes / 1024, "tokens": tokens}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--megabytes", type=float, default=200)
    parser.add_argument("--large", type=float, default=3000, help="0: left out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--older", help="src folder of another commit")
    parser.add_argument("--folder", type=Path, help="where the text and all work is kept")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    require_texts()
    ways = {"ours": (OURS, None), "datasets": (PEER, None)}
    if options.older:
        ways["older"] = (OURS, options.older)
    with TemporaryDirectory(dir=options.folder) as name:
        text = Path(name) / "text.txt"
        longest = write_text(text, options.megabytes)
        rounds = []
        for number in range(options.rounds):
            order = list(ways)[number % len(ways) :] + list(ways)[: number % len(ways)]
            rounds.append({way: run(ways[way][0], text, ways[way][1]) for way in order})
            print(json.dumps(rounds[-1]), flush=True)
        rows = []
        for way in ways:
            for what in ("seconds", "mebibytes"):
                own, peer = ([r[w][what] for r in rounds] for w in ("ours", way))
                ratio = median(p / o for p, o in zip(peer, own, strict=True))
                figures = {"median": round(median(peer), 1), "ratio": round(ratio, 2)}
                rows.append({"what": f"{way}, {what}", **figures})
        large = None
        if options.large:
            longest = write_text(text, options.large)
            large = run(OURS, text)
            small = median(r["ours"]["mebibytes"] for r in rounds)
            slope = (large["mebibytes"] - small) / (options.large - options.megabytes)
            limit = 1536 + (2 * longest + SHARD_BYTES) / 2**20
            at_10_gb = large["mebibytes"] + slope * (10_000 - options.large)
            large |= {
                "megabytes": options.large,
                "limit_mebibytes": round(limit, 1),
                "mebibytes_at_10_gb": round(at_10_gb, 1),
            }
    print(f"{'':<28}{'median':>10}{'peer / ours':>14}")
    for row in rows:
        print(f"{row['what']:<28}{row['median']:>10}{row['ratio']:>14}")
    if large:
        print(
            f"{options.large:,.0f} MB: {large['seconds']:.0f} s, {large['mebibytes']:,.0f} MiB "
            f"(target {large['limit_mebibytes']:,.0f}); 10 GB by its growth: "
            f"{large['mebibytes_at_10_gb']:,.0f} MiB"
        )
    if options.json:
        write_record(
            options.json,
            {"ways": rows, "large": [large] if large else []},
            megabytes=options.megabytes,
            rounds=rounds,
        )


if __name__ == "__main__":
    main()
