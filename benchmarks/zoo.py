"""Every model of `benchmarks.zoo_models` under every command: right, refused, or wrong?

    python -m benchmarks.zoo
    python -m benchmarks.zoo --only gpt2 granite --cells reading ar
    python -m benchmarks.zoo --json results/data/zoo.json

Six minutes on one core. A cell is *right* if it agrees with what transformers alone makes of the
same folder:

* `reading`: log-probabilities at every token of three rows (in double precision, but for mixtures
  of experts), to 1e-5 of their spread;
* an objective: the loss of the first step on the same rows, each read alone and unpadded, of the LM
  head; the same as it is logged; and the log-probabilities of the exported folder, which are
  those in memory;
* `generate`: the greedy text of `generate`, with special tokens forbidden;
* `evaluate`: the bits per byte;
* `speculate`: the greedy text of the source, from the folder that was written.

A refusal is one line, before anything is trained. Everything else is WRONG or a TRACEBACK.
"""

from __future__ import annotations

import argparse
import inspect
import json
import logging
import math
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F

import lookaround.studies.pretrain as pretraining
from benchmarks.records import write_record
from benchmarks.zoo_models import MODELS, Species, library_text, make
from lookaround.decode import Stats, Writer
from lookaround.evaluation.bits_per_byte import scored_tokens
from lookaround.model.backbone import reading
from lookaround.model.masks import allowed, attention_of
from lookaround.model.readable import Readable, open_run
from lookaround.objectives.contract import (
    BIDIRECTIONAL,
    CAUSAL,
    Attention,
    Mode,
    Pairs,
    Shown,
    View,
)
from lookaround.settings import GenerationConfig, Settings, read_settings
from lookaround.studies.evaluate import evaluate, open_evaluation
from lookaround.studies.speculate.request import open_speculation
from lookaround.studies.speculate.speculate import speculate
from lookaround.support.errors import UserError
from lookaround.train.loop import Trainer
from lookaround.train.loss import ComponentSums

CONTEXT = 32
NEW = 10  # tokens of a greedy text
CLOSE = 1e-5  # of the spread, in double precision
SINGLE = 1e-4  # the same in single precision, and of a loss
OBJECTIVES = ("ar", "mlm(rate=0.3)", "mtp(n=2)", "prefixlm", "vmlm")
SMALL = {
    "model.context": CONTEXT,
    "model.precision": "fp32",
    "train.batch": 6,
    "train.log_every": 1,
    "train.learning_rate": 1e-3,
    "data.test": 0.2,
    "data.validation": 0.2,
}


class Wrong(Exception):
    """What differs from transformers, in words."""


@dataclass
class Cell:
    """What came of a command on a model: "right", "refused", "WRONG" or "TRACEBACK", and why."""

    verdict: str
    reason: str = ""
    seconds: float = 0.0

    def __str__(self) -> str:
        return self.verdict + (f": {self.reason}" if self.reason else "")


def cell(check: Callable[[], None]) -> Cell:
    """Runs a check; whatever it raises is its verdict."""
    began = time.perf_counter()
    try:
        check()
        found = Cell("right")
    except UserError as error:
        whole = "\n" in str(error)
        found = Cell("WRONG" if whole else "refused", str(error).replace("\n", " "))
    except Wrong as error:
        found = Cell("WRONG", str(error))
    except Exception as error:
        logging.getLogger(__name__).exception("a traceback")
        reason = next(iter(str(error).splitlines()), "")
        found = Cell("TRACEBACK", f"{type(error).__name__}: {reason}"[:300])
    found.seconds = time.perf_counter() - began
    return found


# ------------------------------------------------------------------------- what transformers makes


class Reference:
    """A folder as transformers alone reads it, in evaluation mode.

    encoder: whether it is read both ways without being told.
    """

    def __init__(self, folder: Path, *, encoder: bool, dtype: torch.dtype) -> None:
        auto = transformers.AutoModelForMaskedLM if encoder else transformers.AutoModelForCausalLM
        self.lm: Any = auto.from_pretrained(folder, dtype=dtype).eval()
        self.encoder = encoder

    def show(self, token: int) -> None:
        """Gives a token that the input has no row for the mean of the table; no logits for it."""
        table = self.lm.get_input_embeddings()
        more = token + 1 - len(table.weight)
        if more > 0:
            mean = table.weight.detach().mean(0, keepdim=True)
            table.weight = nn.Parameter(torch.cat([table.weight.detach(), mean.repeat(more, 1)]))

    def log_probabilities(
        self, ids: list[int], attention: Attention, own_rows: int | None = None
    ) -> Tensor:
        """Log-probabilities (T, V') of one unpadded row, over the first `own_rows`."""
        shown = Shown(torch.tensor([ids]), attention)
        arguments: dict[str, Any] = {}
        if attention.kind != ("bidirectional" if self.encoder else "causal"):
            arguments = {"attention_mask": self.mask(allowed(shown)[:, None], attention.kind)}
            if "position_ids" in inspect.signature(type(self.lm).forward).parameters:
                arguments["position_ids"] = torch.arange(len(ids))[None]  # OPT counts by the mask
        if not self.encoder:
            arguments["use_cache"] = False
        with torch.no_grad():
            logits = self.lm(shown.input_ids, **arguments).logits[0]
        return logits[:, :own_rows].log_softmax(-1)

    def greedy(self, ids: list[int], never: list[int], ends: list[int]) -> list[int]:
        """The likeliest `NEW` tokens, one after the other, up to one of `ends`.

        A decoder's are those of `generate` without what the folder sets for it. An encoder fills
        `NEW` masks, `never[-1]`, from the left.
        """
        if not self.encoder:
            self.lm.generation_config = transformers.GenerationConfig()
            config = transformers.GenerationConfig(
                max_new_tokens=NEW,
                do_sample=False,
                suppress_tokens=never,
                eos_token_id=ends or None,
                pad_token_id=0,
            )
            given = torch.tensor([ids])
            made = self.lm.generate(
                given, attention_mask=torch.ones_like(given), generation_config=config
            )[0, len(ids) :].tolist()
        else:
            made = []
            while len(made) < NEW and not set(made) & set(ends):
                text = [*ids, *made]
                log_tv = self.log_probabilities(
                    [*text, *[never[-1]] * (NEW - len(made))], BIDIRECTIONAL
                )
                log_tv[:, never] = -torch.inf
                made.append(int(log_tv[len(text)].argmax()))
        return [token for token in made if token not in ends]

    def mask(self, sees: Tensor, kind: str) -> Any:
        """Who sees whom as this model's attention takes it; in a local layer near tokens alone.

        The window is that of transformers' masking_utils: less than `sliding_window` back in
        causal attention, at most as many to either side in bidirectional attention.
        """
        config = self.lm.config.get_text_config()
        window = getattr(config, "sliding_window", None) or None
        kinds = set(getattr(config, "layer_types", None) or ())
        place = torch.arange(sees.shape[-1])
        back = place[:, None] - place
        most = len(place) if window is None else window
        near = sees & (-back <= most) & (back < most + (kind == "bidirectional"))
        if kinds > {"sliding_attention"}:
            return {
                name: self._argument(near if name == "sliding_attention" else sees)
                for name in kinds
            }
        return self._argument(near)

    def _argument(self, sees: Tensor) -> Tensor:
        if self.lm.config._attn_implementation == "sdpa":
            return sees
        least = torch.finfo(self.lm.dtype).min
        return torch.zeros(sees.shape, dtype=self.lm.dtype).masked_fill(~sees, least)


def differ(what: str, found: Tensor, expected: Tensor, close: float) -> None:
    """Raises Wrong where log-probabilities differ by more than `close` of their spread."""
    if found.shape != expected.shape:
        raise Wrong(f"{what}: {tuple(found.shape)} values where there are {tuple(expected.shape)}")
    finite = expected.isfinite()
    if not torch.equal(found.isfinite(), finite):
        raise Wrong(f"{what}: not the same tokens are possible")
    apart = float((found[finite] - expected[finite]).abs().max()) / float(expected[finite].std())
    if not apart <= close:
        raise Wrong(f"{what}: {apart:.2g} of the spread away")


# ------------------------------------------------------------------------------------------- checks


@dataclass
class Subject:
    """A model in a folder, with the text that everything is tried on.

    text: a file. work: a folder for what is written.
    """

    name: str
    species: Species
    folder: Path
    text: Path
    work: Path

    @cached_property
    def tokenizer(self) -> Any:
        return transformers.AutoTokenizer.from_pretrained(self.folder)

    @property
    def model_type(self) -> str:
        return getattr(transformers, self.species.kind).config_class.model_type

    @property
    def exact(self) -> torch.dtype:
        return torch.float32 if self.species.experts else torch.float64

    @property
    def close(self) -> float:
        return SINGLE if self.species.experts else CLOSE

    def reference(self) -> Reference:
        return Reference(self.folder, encoder=self.species.encoder, dtype=self.exact)

    def opened(self) -> Readable:
        """The model as we read it; raises Wrong where it is read in another way than its own."""
        run = open_run(self.folder)
        own = Mode("bidirectional", 0) if self.species.encoder else Mode("causal", 1)
        if run.modes != (own,):
            raise Wrong(f"read as '{'; '.join(map(str, run.modes))}', not '{own}'")
        run.backbone.to(self.exact).eval()
        return run

    def prompt(self, number: int, length: int) -> list[int]:
        """Ids of the text from some paragraph on, after what a text of this tokenizer begins with.

        After docs/training.md: BOS or CLS, else EOS, else the end of a line.
        """
        hf = self.tokenizer
        text = "\n\n".join(self.text.read_text().split("\n\n")[number:])
        ids = hf(text, add_special_tokens=False).input_ids
        begins = (hf.bos_token_id, hf.cls_token_id, hf.eos_token_id)
        first = next((token for token in begins if token is not None), None)
        if first is None:
            first = hf("\n", add_special_tokens=False).input_ids[-1]
        return [first, *ids[: length - 1]]

    def read(self) -> None:
        """Raises Wrong where our log-probabilities are not those of transformers."""
        run, reference = self.opened(), self.reference()
        for number in (0, 7, 30):
            ids = self.prompt(number, CONTEXT)
            attention = attention_of(run.modes[0].attention, torch.tensor([0]))
            shown, states = Shown(torch.tensor([ids]), attention), torch.arange(len(ids))
            with reading(run.backbone):
                found = run.backbone.log_probabilities(shown, states)
            expected = reference.log_probabilities(ids, attention).float()
            differ("log-probabilities", found, expected, self.close)

    def train(self, spec: str) -> None:
        """Raises Wrong where a run does not begin at the model's own loss or saves another one.

        Encoders predict a token in its own place, so `vmlm` is `vmlm(shift=0)` for them.
        """
        if self.species.encoder and spec == "vmlm":
            spec = "vmlm(shift=0)"
        out = self.work / f"{self.name}-{spec}"
        values = {"model.init": str(self.folder), "pretrain.budget": "500"}
        settings = self.settings(values | {"pretrain.objective": spec})
        trainers: list[tuple[Trainer, float]] = []
        make_trainer = pretraining.make_trainer

        def begun(*arguments: Any, **named: Any) -> Trainer:
            trainer = make_trainer(*arguments, **named)
            trainers.append((trainer, self.first_loss(trainer)))
            return trainer

        try:
            with patch.object(pretraining, "make_trainer", begun):
                pretraining.pretrain(pretraining.open_pretraining(settings), out)
        except UserError as error:
            if trainers and trainers[0][0].counters.step:
                raise Wrong(
                    f"refused after {trainers[0][0].counters.step} steps: {error}"
                ) from None
            raise
        trainer, expected = trainers[0]
        logged = json.loads((out / "metrics.jsonl").read_text().splitlines()[0])["loss"]
        if not math.isclose(logged, expected, rel_tol=SINGLE):
            raise Wrong(f"the first step has a loss of {logged:.4f}, not {expected:.4f}")
        try:
            self.require_export(trainer, out)
        except UserError as error:
            raise Wrong(f"the export is refused: {error}") from None

    def first_loss(self, trainer: Trainer) -> float:
        """The loss of the first step as it must be logged; raises Wrong for another LM head's."""
        reference = self.reference()
        (views,), _ = trainer.views(0, trainer.objective.at(0.0))
        components = trainer.objective.at(0.0).components()
        sums, loss = ComponentSums(components), trainer.loss
        for view, component in zip(views, components, strict=True):
            near = of_lm_head(view)
            with reading(loss):
                _, (found,) = loss((component,), (near,), (1.0,))
            expected = self.cross_entropy(reference, near)
            if not math.isclose(float(found), expected, rel_tol=SINGLE):
                each = float(near.pairs.weight.sum())
                raise Wrong(
                    f"the first loss is {float(found) / each:.4f} nats, the model's own "
                    f"{expected / each:.4f}"
                )
        with reading(loss):
            _, totals = loss(components, views, (1.0,) * len(views))
        sums.count(views)
        sums.add(totals)
        return sums.mean()

    def cross_entropy(self, reference: Reference, view: View) -> float:
        """The weighted sum of a view's cross-entropies, from each of its rows alone."""
        shown, pairs = view.shown, view.pairs
        reference.show(int(shown.input_ids.max()))
        width, total = shown.input_ids.shape[1], 0.0
        for row, ids in enumerate(shown.input_ids):
            length = width if shown.documents is None else int((shown.documents[row] >= 0).sum())
            mine = pairs.state // width == row
            if not bool(mine.any()):
                continue
            lengths = shown.attention.lengths
            attention = attention_of(
                shown.attention.kind, lengths if lengths is None else lengths[row : row + 1]
            )
            log_tv = reference.log_probabilities(ids[:length].tolist(), attention)
            nats = F.nll_loss(
                log_tv[pairs.state[mine] % width], pairs.target[mine], reduction="none"
            )
            total += float((nats * pairs.weight[mine]).sum())
        return total

    def require_export(self, trainer: Trainer, out: Path) -> None:
        """Raises Wrong where a folder is not the model in memory, as transformers reads it."""
        backbone = trainer.backbone.to(self.exact)
        for parameter in backbone.parameters():  # as they are saved
            parameter.data = parameter.to(self.species.dtype).to(self.exact)
        config = transformers.AutoConfig.from_pretrained(out)
        kind = (config.architectures or [""])[0]
        if not kind:
            raise Wrong("config.json names no architecture")
        causal = type(config) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING
        encoder = kind.endswith("ForMaskedLM") or not causal
        try:
            reference = Reference(out, encoder=encoder, dtype=self.exact)
        except Exception as error:
            raise Wrong(f"transformers opens no '{kind}' from the export: {error}") from None
        for mode in trainer.objective.modes():
            ids = self.prompt(7, CONTEXT)
            attention = attention_of(mode.attention, torch.tensor([CONTEXT // 3]))
            with reading(backbone):
                shown, states = Shown(torch.tensor([ids]), attention), torch.arange(len(ids))
                found = backbone.log_probabilities(shown, states)
            expected = reference.log_probabilities(ids, attention, backbone.own_rows).float()
            differ(f"the export, {mode.attention}", found, expected, self.close)
        again = open_run(out)
        if again.modes != trainer.objective.modes():
            raise Wrong(f"the export is read as '{'; '.join(map(str, again.modes))}'")
        if len(backbone.heads) and cell(self.write).verdict != "refused":
            self.require_text(again, reference)

    def write(self) -> None:
        """Raises Wrong where `generate` writes another text than transformers."""
        self.require_text(self.opened(), self.reference())

    def require_text(self, run: Readable, reference: Reference) -> None:
        """Raises Wrong where the likeliest text of a model is not that of another one."""
        writer = Writer(run, GenerationConfig(max_new_tokens=NEW, temperature=0.0))
        run.backbone.to(self.exact)  # drafts were timed in another precision
        never, ends = self.never()
        for number in (0, 7):
            ids = self.prompt(number, 12)
            found = [token for token, _ in writer.tokens(ids, Stats())]
            expected = reference.greedy(ids, never, ends)
            if found != expected:
                raise Wrong(f"writes {found} where transformers writes {expected}")

    def never(self) -> tuple[list[int], list[int]]:
        """Ids that no text holds, the mask last, and those that end a text."""
        hf = self.tokenizer
        config = transformers.AutoConfig.from_pretrained(self.folder)
        file = self.folder / "generation_config.json"
        own = json.loads(file.read_text()).get("eos_token_id") if file.is_file() else None
        end = hf.eos_token_id if hf.eos_token_id is not None else hf.sep_token_id
        ends = {end, *(own if isinstance(own, list) else [own])} - {None}
        mask = [] if hf.mask_token_id is None else [hf.mask_token_id]
        spare = range(len(hf), config.get_text_config().vocab_size)
        rest = sorted({*hf.all_special_ids, *spare} - ends - {*mask})
        return [*rest, *mask], sorted(ends)

    def evaluate(self) -> None:
        """Raises Wrong where the bits of the scored tokens are not those of transformers."""
        settings = self.settings({"evaluate.positions": 4, "evaluate.context": CONTEXT})
        request = open_evaluation(settings, self.folder)
        request.readable.backbone.to(self.exact)
        (data,) = request.data
        found = evaluate(request)["bits_per_byte"]
        scored = scored_tokens(data.test, settings.evaluate)
        reference, bits = self.reference(), []
        never, ends = self.never()
        for row, position, token in zip(scored.row, scored.position, scored.token, strict=True):
            ids = data.test.take(np.array([row])).tokens[0].tolist()
            if reference.encoder:
                ids[position:] = [never[-1]] * (len(ids) - position)
                log_v = reference.log_probabilities(ids, BIDIRECTIONAL)[position]
            else:
                log_v = reference.log_probabilities(ids[:position], CAUSAL)[-1]
            log_v[[*never, *ends]] = -torch.inf
            bits.append(-float(log_v.log_softmax(-1)[token]) / math.log(2))
        share = float((np.array(bits) * scored.weight).sum() / (scored.size * scored.weight).sum())
        if not math.isclose(found, share, rel_tol=SINGLE):
            raise Wrong(f"{found:.4f} bits per byte, {share:.4f} by transformers")

    def speculate(self) -> None:
        """Raises Wrong where the faster model writes another text than its source."""
        out = self.work / f"{self.name}-fast"
        small = {"samples": 0, "depths": 2, "budget": "500", "prompts": 2, "rounds": 1}
        small |= {"prompt_tokens": 8, "new_tokens": 8, "batches": [1]}
        settings = self.settings({f"speculate.{key}": value for key, value in small.items()})
        request = open_speculation(settings, self.folder)
        try:
            result = speculate(request, out)
            fast = open_run(out)
        except UserError as error:
            raise Wrong(f"refused after the heads are trained: {error}") from None
        if not result["speculative"]["identical"]:
            raise Wrong("the comparison of speculate itself finds another text")
        self.require_text(fast, self.reference())

    def settings(self, more: dict[str, Any]) -> Settings:
        values = SMALL | {"data.corpus": str(self.text)} | more
        return read_settings(None, [f"{key}={value}" for key, value in values.items()])


def of_lm_head(view: View) -> View:
    """A view with the pairs of the LM head alone."""
    pairs = view.pairs
    near = pairs.head == 0
    picked = [x[near] for x in (pairs.state, pairs.target, pairs.offset, pairs.head, pairs.weight)]
    return View(view.shown, Pairs(*picked), view.normaliser)


CELLS: dict[str, Callable[[Subject], None]] = {
    "reading": Subject.read,
    **{spec: partial(Subject.train, spec=spec) for spec in OBJECTIVES},
    "generate": Subject.write,
    "evaluate": Subject.evaluate,
    "speculate": Subject.speculate,
}


# -------------------------------------------------------------------------------------------- table


def quiet() -> None:
    """No progress bars and no warnings: a line for each cell is all that is shown."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.disable(logging.WARNING)


def tried(names: Iterable[str], cells: Iterable[str], work: Path) -> dict[str, dict[str, Cell]]:
    """{model: {cell: what came of it}}, printed as it is found."""
    text = work / "library.txt"
    text.write_text("\n\n".join(library_text()))
    chosen, found = list(cells), {}
    for name in names:
        folder = work / name
        subject = Subject(name, make(name, library_text(), folder), folder, text, work / "runs")
        found[name] = {which: cell(partial(CELLS[which], subject)) for which in chosen}
        for each in found[name].values():
            for own in (subject.model_type, str(folder), name):  # the same for all models
                each.reason = each.reason.replace(f"'{own}'", "..").replace(str(folder), "..")
        print(name, *(f"{w}: {each.verdict}" for w, each in found[name].items()), flush=True)
    return found


VERDICTS = ("right", "refused", "WRONG", "TRACEBACK")


def counts(found: dict[str, dict[str, Cell]], cells: Iterable[str]) -> dict[str, int]:
    """How many of some cells of all models have each verdict, and how many there are."""
    chosen = [row[name].verdict for row in found.values() for name in cells if name in row]
    return {verdict: chosen.count(verdict) for verdict in VERDICTS} | {"of": len(chosen)}


def reasons(found: dict[str, dict[str, Cell]]) -> list[dict[str, str]]:
    """Every reason that cells are not right, with the cells, and the models that share both."""
    models: dict[tuple[str, str], list[str]] = {}
    for name, row in found.items():
        for reason in dict.fromkeys(str(each) for each in row.values() if each.verdict != "right"):
            cells = ", ".join(which for which, each in row.items() if str(each) == reason)
            models.setdefault((reason, cells), []).append(name)
    return [
        {"models": ", ".join(names), "cells": cells, "reason": reason}
        for (reason, cells), names in models.items()
    ]


def groups(found: dict[str, dict[str, Cell]]) -> list[dict[str, str]]:
    """The models that share all verdicts, those with most right first."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for name, row in found.items():
        alike.setdefault(tuple(each.verdict for each in row.values()), []).append(name)
    rows = []
    for verdicts, names in sorted(alike.items(), key=lambda item: -item[0].count("right")):
        row = {"models": ", ".join(names)}
        for verdict in VERDICTS:
            cells = zip(found[names[0]], verdicts, strict=True)
            row[verdict] = ", ".join(which for which, one in cells if one == verdict)
        rows.append(row)
    return rows


def rows_of(found: dict[str, dict[str, Cell]]) -> dict[str, list[dict[str, Any]]]:
    """The rows of results/data/zoo.json."""
    models = [
        {"model": name, "class": MODELS[name].kind}
        | {which: each.verdict for which, each in row.items()}
        for name, row in found.items()
    ]
    totals = [
        {"cells": name, **counts(found, cells)}
        for name, cells in (("trainings", OBJECTIVES), ("all cells", CELLS))
    ]
    rows = {"models": models, "groups": groups(found), "reasons": reasons(found)}
    return {**rows, "totals": totals}


def table(rows: dict[str, list[dict[str, Any]]], cells: Iterable[str]) -> list[str]:
    """The rows as text."""
    lines = [f"{'':20}" + " ".join(f"{name:>13}" for name in cells)]
    for row in rows["models"]:
        lines.append(f"{row['model']:20}" + " ".join(f"{row[name]:>13}" for name in cells))
    lines += ["", *(f"{row['models']} [{row['cells']}] {row['reason']}" for row in rows["reasons"])]
    for row in rows["totals"]:
        shown = ", ".join(f"{row[verdict]} {verdict}" for verdict in VERDICTS)
        lines.append(f"{row['cells']}: {shown} of {row['of']}")
    return lines


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(MODELS), metavar="MODEL")
    parser.add_argument("--cells", nargs="+", choices=list(CELLS), metavar="CELL")
    parser.add_argument("--out", type=Path, help="also write the table here")
    parser.add_argument("--json", type=Path, help="also write the rows of a record here")
    given = parser.parse_args(arguments)
    quiet()
    torch.set_num_threads(1)
    began = time.perf_counter()
    cells = given.cells or list(CELLS)
    with tempfile.TemporaryDirectory() as work, patch.dict("os.environ", LOOKAROUND_CACHE=work):
        found = tried(given.only or MODELS, cells, Path(work))
    rows = rows_of(found)
    spent = {name: sum(row[name].seconds for row in found.values()) for name in cells}
    lines = [
        *table(rows, cells),
        "seconds: " + ", ".join(f"{name} {taken:.0f}" for name, taken in spent.items()),
        f"{len(found)} models, {time.perf_counter() - began:.0f} s",
    ]
    print("\n".join(["", *lines]))
    if given.out:
        given.out.write_text("\n".join(lines) + "\n")
    if given.json:
        write_record(given.json, rows)
    return int(any(row["WRONG"] + row["TRACEBACK"] for row in rows["totals"]))


if __name__ == "__main__":
    raise SystemExit(main())
