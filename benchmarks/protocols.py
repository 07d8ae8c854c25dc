"""Wall time of the evaluation protocols on two cores, beside what else does the same.

    bash benchmarks/evaluation.sh OUT
    python -m benchmarks.protocols OUT/4e12/runs/ar/*/seed-0/rung-1 \\
        OUT/4e12/runs/mlm*/*/seed-0/rung-1 --json results/data/protocols.json
    python -m benchmarks.protocols CAUSAL MASKED --only tokens

About 8 minutes on two idle cores. Reads $LOOKAROUND_DATA (default ../shared/data).

tokens: the probe of words on four tasks, 2,000 training sentences each: EWT upos and deprel,
CoNLL-2000 chunks, SNIPS slots; target 60 s a model. Peer: scikit-learn's LogisticRegression on the
same states of EWT upos, one fit of each by turns, as many classes and words.
pairs: 67 x 100 BLiMP pairs; targets 60 s for the causal model, 300 s for the chain rule of the
masked one (the pseudo-likelihood is timed apart). Peer: minicons (where it is installed) on the
causal model, 300 pairs by turns. finetune: 256 SNIPS labels, 5 draws, 3 rates; target 90 s. SST-2
as `compare` does it (64, 256, 1,024, 4,096 labels, 5, 5, 3, 1 draws); target 240 s. Peer: a loop of
plain PyTorch around transformers' own model, one training on 256 labels by turns.
A ratio is the peer's seconds / ours: above 1, we are faster.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoModel, get_linear_schedule_with_warmup

from benchmarks.records import write_record
from benchmarks.texts import TEXTS
from lookaround.data.tasks import read_tasks
from lookaround.evaluation.features import encoded
from lookaround.evaluation.finetune import Finetune, Tuning, all_inputs, draws_of
from lookaround.evaluation.logistic import fit_logistic
from lookaround.evaluation.pairs import preferred
from lookaround.evaluation.registry import PairData, TaskData, TokenData, task_data
from lookaround.evaluation.tagging import labels_of
from lookaround.evaluation.tokens import Tokens
from lookaround.evaluation.words import LAST, word_states
from lookaround.model.readable import Readable, classification_mode, open_run
from lookaround.settings import EvaluateSettings

WORDS = (
    *("tokens/ewt.train.conllu.xz:upos", "tokens/ewt.train.conllu.xz:deprel"),
    *("tokens/conll2000.train.txt.xz", "tokens/snips_slots.train.jsonl.xz"),
)
SNIPS, SST2 = "classification/snips/train.tsv.xz", "glue/SST-2"
ROUNDS, PEER_PAIRS, FEW, EPOCHS, BATCH = 3, 300, 256, 20, 16
Row = dict[str, Any]


def task(name: str, settings: EvaluateSettings) -> Any:
    (read,) = read_tasks([f"{TEXTS}/{name}"])
    return task_data(read, settings)


def seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def by_turns(ours: Callable[[], Any], peer: Callable[[], Any]) -> tuple[float, float]:
    """Median seconds of both, run in alternation."""
    pairs = [(seconds(ours), seconds(peer)) for _ in range(ROUNDS)]
    mine, other = zip(*pairs, strict=True)
    return median(mine), median(other)


def shown(name: str, ours: float, target: float | None = None, peer: float | None = None) -> Row:
    row: Row = {"name": name, "ours": round(ours, 1)}
    row |= {} if target is None else {"target": f"<= {target:g} s"}
    row |= {} if peer is None else {"peer": round(peer, 1), "ratio": round(peer / ours, 2)}
    print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    return row


def tokens_rows(models: dict[str, Readable]) -> list[Row]:
    settings = EvaluateSettings(token_train=2000)
    tasks: list[TokenData] = [task(name, settings) for name in WORDS]
    rows = []
    for name, readable in models.items():

        def probe(readable: Readable = readable) -> None:
            for item in tasks:
                Tokens().run(readable, item, settings, 0)

        rows.append(shown(f"tokens, four tasks, {name}", seconds(probe), 60))
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train = word_states(models["causal"], tasks[0].train, "causal", (LAST,))
    features, labels = train.states[LAST][-1], labels_of(train.sentences)
    peer = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    ours, other = by_turns(
        lambda: fit_logistic(features, labels, 1.0), lambda: peer.fit(features, labels)
    )
    name = f"one fit, {len(labels):,} words; scikit-learn"
    return [*rows, shown(name, ours, peer=other)]


def pairs_rows(models: dict[str, Readable], folder: Path) -> list[Row]:
    data: PairData = task("pairs/blimp.jsonl.xz", EvaluateSettings(pairs=100))
    count = f"{len(data.good):,} pairs"
    causal, masked = (classification_mode(models[name].modes) for name in ("causal", "masked"))
    rows = []
    for name, mode, target, pseudo in (
        ("causal", causal, 60, False),
        ("masked", masked, 300, False),
        ("masked", masked, None, True),
    ):
        rule = "pseudo-likelihood" if pseudo else "chain rule"
        taken = seconds(
            lambda name=name, mode=mode, pseudo=pseudo: preferred(
                models[name], mode, data.good, data.bad, pseudo=pseudo
            )
        )
        rows.append(shown(f"pairs, {count}, {name}, {rule}", taken, target))
    try:
        from minicons.scorer import IncrementalLMScorer
    except ImportError:
        print("minicons is not installed: no peer of pairs")
        return rows
    peer = IncrementalLMScorer(str(folder), "cpu")
    good, bad = data.good[:PEER_PAIRS], data.bad[:PEER_PAIRS]

    def score() -> None:
        for texts in (good, bad):
            for begin in range(0, len(texts), 64):
                peer.sequence_score(texts[begin : begin + 64], reduction=lambda x: x.sum(0).item())

    ours, other = by_turns(lambda: preferred(models["causal"], causal, good, bad), score)
    return [*rows, shown(f"{PEER_PAIRS} pairs, causal; minicons", ours, peer=other)]


class MeanClassifier(nn.Module):
    """A linear head on the mean of a text's states, BOS left out, on transformers' own model."""

    def __init__(self, folder: Path, classes: int) -> None:
        super().__init__()
        self.encoder = AutoModel.from_pretrained(folder, dtype=torch.float32)
        self.head = nn.Linear(self.encoder.config.hidden_size, classes)

    def forward(self, ids: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        states = self.encoder(input_ids=ids, attention_mask=real).last_hidden_state
        pooled = real.clone()
        pooled[:, 0] = 0
        weight = pooled[:, :, None].to(states.dtype)
        return self.head((states * weight).sum(1) / weight.sum(1).clamp(min=1))


def plain_loop(folder: Path, ids: list[torch.Tensor], labels: torch.Tensor) -> None:
    """Trains every weight on some texts, padded to the longest of a batch."""
    torch.manual_seed(0)
    model = MeanClassifier(folder, int(labels.max()) + 1)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    steps = EPOCHS * -(-len(ids) // BATCH)
    schedule = get_linear_schedule_with_warmup(optimiser, steps // 10, steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(ids)).split(BATCH):
            chosen = [ids[k] for k in rows.tolist()]
            batch = nn.utils.rnn.pad_sequence(chosen, batch_first=True)
            lengths = torch.tensor([len(each) for each in chosen])
            real = (torch.arange(batch.shape[1]) < lengths[:, None]).long()
            F.cross_entropy(model(batch, real), labels[rows]).backward()
            optimiser.step()
            optimiser.zero_grad()
            schedule.step()


def finetune_rows(readable: Readable, folder: Path) -> list[Row]:
    few = EvaluateSettings(finetune_labels=[FEW], finetune_draws=[5], finetune_epochs=[EPOCHS])
    usual = EvaluateSettings()
    snips: TaskData = task(SNIPS, few)
    inputs, labels = all_inputs(snips)
    rows = [
        shown(
            f"finetune, {FEW} labels, 5 draws x 3 rates, SNIPS",
            seconds(lambda: Finetune().run(readable, snips, few, 0)),
            90,
        ),
        shown(
            "finetune, SST-2 as in compare",
            seconds(lambda: Finetune().run(readable, task(SST2, usual), usual, 0)),
            240,
        ),
    ]
    chosen = draws_of(snips, FEW, 0)
    ids, _ = encoded(readable.tokenizer, [inputs[k] for k in chosen], readable.context)
    true = torch.from_numpy(labels[chosen])
    tuning = Tuning(
        readable.backbone,
        readable.tokenizer,
        "causal",
        TaskData(snips.name, snips.metric, [*range(FEW)], labels[chosen], [0], labels[:1]),
        ids,
        ids[:1],
        0,
        lambda: None,
    )
    ours, other = by_turns(
        lambda: tuning.predicted(np.arange(FEW), 1e-3, EPOCHS, 0),
        lambda: plain_loop(folder, ids, true),
    )
    name = f"one training, {FEW} labels, {EPOCHS} epochs; plain PyTorch"
    return [*rows, shown(name, ours, peer=other)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("causal", type=Path, help="a run of ar")
    parser.add_argument("masked", type=Path, help="a run of a masked objective")
    parser.add_argument("--only", choices=("tokens", "pairs", "finetune"))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the record here")
    given = parser.parse_args()
    models = {"causal": open_run(given.causal), "masked": open_run(given.masked)}
    rows: list[Row] = []
    if given.only in (None, "tokens"):
        rows += tokens_rows(models)
    if given.only in (None, "pairs"):
        rows += pairs_rows(models, given.causal)
    if given.only in (None, "finetune"):
        rows += finetune_rows(models["causal"], given.causal)
    if given.json:
        write_record(given.json, {"figures": rows}, seeds=1)


if __name__ == "__main__":
    main()
