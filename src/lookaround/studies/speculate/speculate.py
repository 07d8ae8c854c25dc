"""Several tokens per pass for a model that exists: train heads, build the tree, measure, write a
folder that transformers loads.

    model --> samples of its own --> heads --> ranks on held-out text --> tree, by timing this device --> measured folder

Everything but the measurement resumes: a stage that is on disk is not made again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from lookaround import __version__
from lookaround.data.rows import Rows
from lookaround.data.shards import Split
from lookaround.decode.cache import require_rewindable
from lookaround.decode.calibrate import (
    BUDGETS,
    Cost,
    accuracies,
    choose_trees,
    draft_ranks,
    frequent_tokens,
)
from lookaround.decode.hub import GENERATE, SPECULATION_FILE
from lookaround.decode.sampling import filter_logits
from lookaround.decode.speculative import Speculator
from lookaround.decode.stats import Stats
from lookaround.decode.tree import Tree, expected_tokens, grow_from_ranks
from lookaround.decode.verify import ExactSampling, Greedy
from lookaround.evaluation.bits_per_byte import bits_per_byte, chain_rule_bits, scored_tokens
from lookaround.evaluation.own_text import lossless_rows, own_text
from lookaround.model.backbone import Backbone
from lookaround.model.export import export
from lookaround.model.fingerprint import model_fingerprint
from lookaround.model.heads import LookAhead
from lookaround.model.lora import add_lora, merge_lora, require_peft
from lookaround.model.readable import Readable, open_run
from lookaround.objectives import MTP
from lookaround.objectives.contract import Mode
from lookaround.settings import GenerationConfig, Settings
from lookaround.studies.events import Event, Report, report_step, silent
from lookaround.studies.folder import StudyFolder
from lookaround.studies.jobs import STOPPED
from lookaround.support.errors import Interrupted, UserError
from lookaround.support.machine import local_device
from lookaround.support.storage import make_folder, whole_file
from lookaround.train import checkpoint
from lookaround.train.budget import parse_budget
from lookaround.train.loop import StopSignal, Trainer, autocast_dtype, default_learning_rate
from lookaround.train.parallel import World
from lookaround.train.run import plan_for, schedule_for

__all__ = ["Speculation", "open_speculation", "speculate"]

STATE_FILE = "speculate.yaml"
CHUNK = 64  # samples made at a time
Tell = Callable[..., None]  # stage, done, total, note


@dataclass(frozen=True)
class Speculation:
    """What `speculate` works on: the model, its own heads or the kind to train, and token sequences
    by use.

    train: documents to train on, from BOS;
    calibrate, measure: prompts of equal length, from documents that are not trained on.
    """

    settings: Settings
    source: Path
    run: Readable
    kind: str | None
    train: list[np.ndarray]
    calibrate: list[list[int]]
    measure: list[list[int]]
    test: list[str]
    corpus: str

    @property
    def objective(self) -> MTP:
        """What heads beyond the LM head learn: the tokens 2 to K + 1 ahead, weighed by 0.8^k (Cai
        et al. 2024, equation 1).
        """
        chosen = self.settings.speculate
        weights = (0.0, *(chosen.decay**k for k in range(1, chosen.depths + 1)))
        return MTP(n=chosen.depths + 1, heads=self.kind or "medusa", weights=weights, through=0.0)


def open_speculation(settings: Settings, model: Path) -> Speculation:
    """Reads the model and the text; raises UserError for a model that is not causal, has no room
    for prompts, or has no text.
    """
    chosen = settings.speculate
    if parse_budget(chosen.budget).unit == "seconds":
        raise UserError(
            f"speculate.budget {chosen.budget}: give tokens or FLOPs; seconds would not be the "
            "same when resumed"
        )
    if chosen.lora and not chosen.joint:
        raise UserError("speculate.lora: adapters are trained in joint training; add --joint")
    if chosen.lora:
        require_peft()
    run = open_run(model)
    if run.modes[-1].attention != "causal" and not any(
        mode == Mode("causal", 1) for mode in run.modes
    ):
        raise UserError(
            f"{model}: is read both ways ({run.modes[-1]}); several tokens per pass need a causal "
            "model"
        )
    require_rewindable(run.backbone.lm)
    own = [head for head in run.backbone.heads if isinstance(head, LookAhead)]
    kind = chosen.heads if chosen.heads is not None or own else "hydra"
    limit = run.backbone.limit
    window = min(limit, max(run.context, chosen.prompt_tokens + chosen.new_tokens))
    if chosen.prompt_tokens + chosen.new_tokens > limit:
        raise UserError(
            f"speculate: {chosen.prompt_tokens} prompt and {chosen.new_tokens} new tokens are "
            f"more than the {limit} positions of "
            f"{model}; set speculate.prompt_tokens or speculate.new_tokens lower"
        )
    run = dataclasses.replace(run, context=window)
    text = own_text(run, settings.data)
    run.backbone.eval()
    if text is None:
        if kind is not None and not chosen.samples:
            raise UserError(
                "speculate.samples: 0 leaves heads nothing to learn from; give --corpus TEXT"
            )
        held = _free_prompts(settings, run)
        return Speculation(
            settings, model, run, kind, [], held[0::2], held[1::2], [], "samples of its own"
        )
    parts = {"train": text.train, "validation": text.validation, "test": text.test}
    tokens = {name: list(run.tokenizer.documents(documents)) for name, documents in parts.items()}
    prompts = {
        name: _prompts(tokens[name], chosen.prompt_tokens, chosen.prompts) for name in tokens
    }
    for name, found in prompts.items():
        if not found:
            raise UserError(
                f"{text.name}: no {name} document has {chosen.prompt_tokens} tokens to prompt "
                "with; set "
                "speculate.prompt_tokens lower"
            )
    return Speculation(
        settings,
        model,
        run,
        kind,
        tokens["train"],
        prompts["validation"],
        prompts["test"],
        text.test,
        text.name,
    )


def _free_prompts(settings: Settings, run: Readable) -> list[list[int]]:
    """Prompts for calibrating and measuring that a model begins itself, where there is no text."""
    chosen = settings.speculate
    generator = torch.Generator().manual_seed(settings.seed + 1)
    found: list[list[int]] = []
    for _ in range(4 * -(-2 * chosen.prompts // CHUNK)):
        made = _sample(
            run,
            [[run.tokenizer.bos]] * CHUNK,
            chosen.prompt_tokens - 1,
            chosen.sample_temperature,
            generator,
        )
        found += [
            text
            for text in made
            if len(text) == chosen.prompt_tokens and text[-1] != run.tokenizer.eos
        ]
        if len(found) >= 2 * chosen.prompts:
            return found[: 2 * chosen.prompts]
    raise UserError(
        f"the model ends its own texts before {chosen.prompt_tokens} tokens; give --corpus TEXT, "
        "or set speculate.prompt_tokens lower"
    )


def _sample(
    run: Readable,
    prompts: list[list[int]],
    new: int,
    temperature: float,
    generator: torch.Generator,
) -> list[list[int]]:
    """Prompts with what the model makes of them, EOS included."""
    verifier = ExactSampling(generator, sampled=False) if temperature > 0 else Greedy()
    made = Speculator(run.backbone, Tree(), checked=True).generate(
        prompts,
        max_new_tokens=new,
        eos=run.tokenizer.eos,
        verifier=verifier,
        process=partial(filter_logits, config=GenerationConfig(temperature=temperature)),
    )
    return [[*prompt, *text] for prompt, text in zip(prompts, made.tokens, strict=True)]


def _prompts(documents: Sequence[np.ndarray], length: int, count: int) -> list[list[int]]:
    """Windows of `length` tokens (without EOS), spread over the documents, the first token of each
    document kept in front.
    """
    places = [(ids, at) for ids in documents for at in range(1, len(ids) - length, length)]
    spread = places[:: max(1, len(places) // count)][:count]
    return [[int(ids[0]), *map(int, ids[at : at + length - 1])] for ids, at in spread]


# ------------------------------------------------------------------------------------------- stages


def speculate(
    plan: Speculation, out: Path, *, stop: StopSignal | None = None, report: Report = silent
) -> dict[str, Any]:
    """Does it all into `out`; returns what was measured.

    The same call goes on where another was stopped.

    Raises UserError where `out` belongs to another model, text or settings or another process is at
    work in it; Interrupted after saving when `stop` is set.
    """
    folder = StudyFolder(out, STATE_FILE, "made by speculate", _identity(plan))
    with folder.opened() as before:
        if before.get("status") != "finished":
            folder.save(status="running")
            folder.save(
                status="finished", result=_speculate(plan, folder, stop or StopSignal(), report)
            )
            shutil.rmtree(out / "work", ignore_errors=True)
        return folder.state["result"]


def _speculate(
    plan: Speculation, folder: StudyFolder, stop: StopSignal, report: Report
) -> dict[str, Any]:
    """What was measured, once the model is in the folder."""

    def tell(stage: str, done: int, total: int, note: str = "") -> None:
        """Reports, and ends where asked to."""
        report(Event(stage, done, total, note))
        if stop.set:
            raise Interrupted(f"{folder.path}: {STOPPED}")

    work = folder.path / "work"
    make_folder(work)
    backbone = plan.run.backbone
    spent: dict[str, float] = {}
    quality = {"bits_per_byte": _bits_per_byte(plan, backbone)}
    samples: list[tuple[np.ndarray, int]] = []
    if plan.kind is not None:
        clock = time.monotonic()
        samples = _samples(plan, work, tell)
        spent["sampling"] = time.monotonic() - clock
        clock = time.monotonic()
        backbone = _train_heads(plan, samples, work, stop, report)
        spent["training"] = time.monotonic() - clock
    backbone.eval()
    backbone.requires_grad_(False)
    if plan.settings.speculate.joint:
        quality = {
            "bits_per_byte_before": quality["bits_per_byte"],
            "bits_per_byte": _bits_per_byte(plan, backbone),
        }
    dtype = (
        autocast_dtype(plan.settings.model.precision, backbone.width, backbone.device)
        or torch.float32
    )
    weights = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    backbone.to(dtype)  # the precision that is timed and measured
    clock = time.monotonic()
    found = _calibrate(plan, backbone, _shortlist(plan, samples), tell)
    spent["calibration"] = time.monotonic() - clock
    speculator = Speculator(backbone, found.trees, shortlist=found.shortlist, checked=True)
    clock = time.monotonic()
    result = _measure(plan, speculator, tell)
    spent["measurement"] = time.monotonic() - clock
    result = {
        "lookaround": __version__,
        "model": str(plan.source),
        "corpus": plan.corpus,
        "heads": {"kind": backbone.head_specs[0].kind, "depths": speculator.depths},
        "drafted_tokens": None if found.shortlist is None else len(found.shortlist),
        **result,
        **quality,
        "expected_tokens_per_forward": found.expected,
        "trees": {str(batch): len(tree) for batch, tree in found.trees.items()},
        "accuracies": np.round(found.accuracies, 4).tolist(),
        "costs": [dataclasses.asdict(cost) for cost in found.costs],
        "spent": spent,
    }
    backbone.to(torch.float32).load_state_dict(weights)  # what is saved has lost nothing
    folder.publish(lambda into: _write_model(into, plan, backbone, found, result))
    return result


def _identity(plan: Speculation) -> dict[str, Any]:
    """What must be the same for a folder to go on: the model's weights, the text in its tokens, and
    settings.
    """
    digest = hashlib.sha256(json.dumps(plan.test).encode())
    for ids in (*plan.train, *(plan.calibrate + plan.measure if plan.train else ())):
        digest.update(np.asarray(ids, dtype=np.int64).tobytes() + b"\0")
    return {
        "model": model_fingerprint(str(plan.source)),
        "corpus": digest.hexdigest(),
        "context": plan.run.context,
        "settings": plan.settings.identity("seed", "data", "model.precision", "train", "speculate"),
    }


def _samples(plan: Speculation, work: Path, tell: Tell) -> list[tuple[np.ndarray, int]]:
    """(tokens, tokens of the prompt) of texts the model continues itself, from starts of the
    training documents.
    """
    chosen = plan.settings.speculate
    run = plan.run
    given = chosen.prompt_tokens if plan.train else 1
    new = run.context - given
    rounds = -(-chosen.samples // (CHUNK * new)) if chosen.samples else 0
    starts = _prompts(plan.train, given, rounds * CHUNK) if plan.train else [[run.tokenizer.bos]]
    made: list[tuple[np.ndarray, int]] = []
    began, tokens = time.monotonic(), 0
    for number in range(rounds):
        file = work / f"samples-{number:05d}.npz"
        if not file.is_file():
            prompts = [starts[(number * CHUNK + i) % len(starts)] for i in range(CHUNK)]
            generator = torch.Generator().manual_seed(plan.settings.seed * 1_000_003 + number)
            whole = _sample(run, prompts, new, chosen.sample_temperature, generator)
            with whole_file(file) as out:
                np.savez(out, tokens=np.concatenate(whole), length=[len(ids) for ids in whole])
            tokens += sum(len(text) - given for text in whole)
        try:
            with np.load(file, allow_pickle=False) as saved:
                parts = np.split(saved["tokens"], np.cumsum(saved["length"])[:-1])
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{file}: truncated or foreign ({error}); delete it and give the command again"
            ) from None
        made += [(ids, given) for ids in parts]
        rate = tokens / max(time.monotonic() - began, 1e-9)
        tell(
            "samples of the model",
            number + 1,
            rounds,
            f"{rate:,.0f} tokens/s" if tokens else "found",
        )
    return made


def _train_heads(
    plan: Speculation,
    samples: list[tuple[np.ndarray, int]],
    work: Path,
    stop: StopSignal,
    report: Report,
) -> Backbone:
    """Heads on the model, which stays as it is, then with `joint` both together (Medusa-1,
    Medusa-2).
    """
    chosen, settings = plan.settings.speculate, plan.settings
    documents = [ids for ids, _ in samples]
    prompts = [prompt for _, prompt in samples]
    if plan.train and (chosen.text or not samples):
        documents, prompts = documents + plan.train, prompts + [0] * len(plan.train)
    length = np.array([len(ids) for ids in documents], dtype=np.int64)
    split = Split(
        (np.concatenate(documents),), np.zeros_like(length), length.cumsum() - length, length
    )
    rows = Rows(split, plan.run.context, plan.run.tokenizer, prompts=np.array(prompts))
    objective = plan.objective
    torch.manual_seed(settings.seed)
    backbone = Backbone(
        plan.run.backbone.lm, objective.head_specs(), own_rows=plan.run.backbone.own_rows
    )
    stages = [("training the heads", objective, False, 1.0)]
    if chosen.joint:
        weights = (1.0, *(chosen.joint_weight * weight for weight in objective.weights[1:]))  # type: ignore[index]
        both = dataclasses.replace(objective, weights=weights, through=1.0)
        stages = [(stages[0][0], objective, False, 0.5), ("training both", both, True, 0.5)]
    budget = parse_budget(chosen.budget)
    for number, (name, stage, joint, share) in enumerate(stages):
        backbone.lm.requires_grad_(joint and not chosen.lora)
        if joint and chosen.lora:
            add_lora(backbone.lm, chosen.lora, seed=settings.seed)
        trainer = _stage_trainer(settings, backbone, stage, rows, number, joint)
        steps = plan_for(trainer, stage, budget.times(share), chosen.budget)
        folder = work / f"stage-{number}"
        make_folder(folder)
        latest = checkpoint.latest_checkpoint(folder)
        if latest is not None:
            trainer.restore_from(latest)
        trainer.run(
            steps.total,
            steps,
            schedule_for(settings, steps.total),
            folder=folder,
            fill=lambda path: None,
            keep=frozenset({steps.total}),
            stop=stop,
            report=partial(report_step, report, name),
        )
    if chosen.lora and chosen.joint:
        merge_lora(backbone.lm)
    backbone.to(torch.float32)
    return backbone


def _stage_trainer(
    settings: Settings, backbone: Backbone, objective: MTP, rows: Rows, number: int, joint: bool
) -> Trainer:
    """A trainer of one stage; in joint training heads learn at four times the model's rate (Cai et
    al. 2024).
    """
    rate = settings.train.learning_rate or 2 * default_learning_rate(backbone.width)
    train = settings.train.model_copy(update={"head_rate": 4.0} if joint else {})
    return Trainer(
        backbone,
        objective,
        rows,
        settings=train,
        seed=settings.seed + number,
        learning_rate=rate / 4 if joint else rate,
        precision=settings.model.precision,
        world=World(device=local_device()),
    )


@dataclass(frozen=True)
class Calibration:
    """Trees by number of sequences and the largest grown, what was timed, accuracies (K, ranks),
    and expected tokens per step.
    """

    trees: dict[int, Tree]
    largest: Tree
    shortlist: list[int] | None
    costs: list[Cost]
    accuracies: np.ndarray
    expected: float


def _shortlist(plan: Speculation, samples: list[tuple[np.ndarray, int]]) -> list[int] | None:
    """The tokens that are drafted: those that make up most of the samples and of the training
    text.
    """
    counts = np.zeros(plan.run.backbone.output.weight.shape[0], dtype=np.int64)
    for ids in [ids for ids, _ in samples] + plan.train:
        counts += np.bincount(ids, minlength=len(counts))
    return frequent_tokens(counts, plan.settings.speculate.coverage)


def _calibrate(
    plan: Speculation, backbone: Backbone, shortlist: list[int] | None, tell: Tell
) -> Calibration:
    """Follows the model's own greedy text on held-out prompts, grows trees, and times them on this
    device.
    """
    chosen, run = plan.settings.speculate, plan.run
    plain = Speculator(backbone, Tree(), shortlist=shortlist, checked=True)
    texts: list[list[int]] = []
    for begin in range(0, len(plan.calibrate), CHUNK):
        prompts = plan.calibrate[begin : begin + CHUNK]
        made = plain.generate(
            prompts, max_new_tokens=chosen.new_tokens, eos=run.tokenizer.eos
        ).tokens
        texts += [[*prompt, *text] for prompt, text in zip(prompts, made, strict=True)]
        tell(
            "accuracies on held-out prompts",
            min(begin + CHUNK, len(plan.calibrate)),
            len(plan.calibrate),
            "",
        )
    ranks = draft_ranks(plain, texts, [len(prompt) for prompt in plan.calibrate])
    grown = grow_from_ranks(ranks, BUDGETS)
    trees, costs = choose_trees(
        plain,
        grown,
        plan.calibrate,
        chosen.batches,
        report=lambda done, total: tell("timing trees on this device", done, total, ""),
    )
    expected, _ = expected_tokens(trees[min(trees)], ranks)
    return Calibration(trees, grown[BUDGETS[-1]][0], shortlist, costs, accuracies(ranks), expected)


# ---------------------------------------------------------------------------------------- measuring


def _bits_per_byte(plan: Speculation, backbone: Backbone) -> float | None:
    """Of the next token on the held-out text; None where the tokenizer loses text, so that bytes
    cannot be counted.
    """
    run, settings = plan.run, plan.settings.evaluate
    if not plan.test:
        return None
    try:
        rows = lossless_rows(run, plan.test)
    except UserError:
        return None
    scored = scored_tokens(rows, settings)
    return bits_per_byte(chain_rule_bits(backbone, rows, scored, Mode("causal", 1)), scored)[0]


def transformers_generate(
    lm: Any, prompts: Sequence[Sequence[int]], new: int, eos: int | None
) -> list[list[int]]:
    """Greedy `model.generate` on prompts of equal length: the new tokens of each, up to its EOS."""
    ids = torch.tensor([list(prompt) for prompt in prompts], device=lm.device)
    made = lm.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=new,
        do_sample=False,
        use_cache=True,
        eos_token_id=eos,
        pad_token_id=0 if eos is None else eos,
    )
    texts = made[:, ids.shape[1] :].tolist()
    return [text[: text.index(eos) + 1] if eos in text else text for text in texts]


def _tokens_per_forward(stats: Sequence[Stats]) -> float:
    """Tokens per sequence and pass after the prompt's, of several generations."""
    return sum(part.stepped for part in stats) / max(sum(part.steps for part in stats), 1)


def _measure(plan: Speculation, speculator: Speculator, tell: Tell) -> dict[str, Any]:
    """Plain generation of transformers, ours without drafts and ours with them, in turns, by number
    of sequences; and equality.
    """
    chosen, run = plan.settings.speculate, plan.run
    lm, eos, new = speculator.backbone.lm, run.tokenizer.eos, chosen.new_tokens
    by_batch = []
    for number, batch in enumerate(chosen.batches):
        tree = speculator.tree_for(batch)
        # enough text at small numbers of sequences
        more = max(1, min(len(plan.measure) // batch, 8 // batch))
        groups = [
            [plan.measure[(g * batch + i) % len(plan.measure)] for i in range(batch)]
            for g in range(more)
        ]
        drafts = {"plain": None, "loop": Tree(), "speculative": tree}
        times: dict[str, list[float]] = {way: [] for way in drafts}
        for _ in range(chosen.rounds):
            for way, nodes in drafts.items():
                clock = time.perf_counter()
                if nodes is None:
                    made = [transformers_generate(lm, prompts, new, eos) for prompts in groups]
                    tokens = sum(len(text) for texts in made for text in texts)
                else:
                    stats = [
                        speculator.generate(prompts, max_new_tokens=new, eos=eos, tree=nodes).stats
                        for prompts in groups
                    ]
                    tokens = sum(part.tokens for part in stats)
                times[way].append(tokens / (time.perf_counter() - clock))
        rates = {way: median(found) for way, found in times.items()}
        by_batch.append(
            {
                "batch": batch,
                "nodes": len(tree),
                "tokens_per_forward": _tokens_per_forward(stats),  # of the last round, with drafts
                **{f"{way}_tokens_per_second": rate for way, rate in rates.items()},
                "speedup": rates["speculative"] / rates["plain"],
            }
        )
        tell("measuring speed", number + 1, len(chosen.batches), "")
    flips, identical, found = 0, True, []
    one = speculator.tree_for(1)
    dtype = lm.dtype
    for begin in range(0, len(plan.measure), 32):
        prompts = plan.measure[begin : begin + 32]
        expected = transformers_generate(lm, prompts, new, eos)
        made_here = speculator.generate(prompts, max_new_tokens=new, eos=eos, tree=one)
        flips += sum(
            mine != theirs for mine, theirs in zip(made_here.tokens, expected, strict=True)
        )
        found.append(made_here.stats)
        speculator.backbone.double()
        identical &= speculator.generate(
            prompts, max_new_tokens=new, eos=eos, tree=one
        ).tokens == transformers_generate(lm, prompts, new, eos)
        speculator.backbone.to(dtype)
        tell(
            "comparing with plain generation",
            min(begin + 32, len(plan.measure)),
            len(plan.measure),
            "",
        )
    tried, accepted = (
        np.sum([getattr(part, name) for part in found], 0) for name in ("tried", "accepted")
    )
    first = by_batch[0]
    paying = [entry["batch"] for entry in by_batch if entry["speedup"] > 1]
    return {
        "plain": {"tokens_per_second": first["plain_tokens_per_second"]},
        "speculative": {
            "tokens_per_forward": _tokens_per_forward(found),
            "tokens_per_second": first["speculative_tokens_per_second"],
            "identical": bool(identical),
            "flips": flips,
            "acceptance_by_depth": (accepted[tried > 0] / tried[tried > 0]).tolist(),
        },
        "precision": str(dtype).removeprefix("torch."),
        "prompts": len(plan.measure),
        "new_tokens": new,
        "by_batch": by_batch,
        "pays_up_to_batch": max(paying, default=None),
    }


# --------------------------------------------------------------------------------------- the folder


def _write_model(
    folder: Path, plan: Speculation, backbone: Backbone, found: Calibration, result: dict[str, Any]
) -> None:
    export(backbone, folder, (Mode("causal", 1),), mask=plan.run.tokenizer.vocabulary.mask)
    _copy_tokenizer(plan, folder)
    described = {
        "trees": {
            str(batch): [list(path) for path in tree.paths] for batch, tree in found.trees.items()
        },
        "largest": [list(path) for path in found.largest.paths],
        "shortlist": found.shortlist,
        "vocabulary": backbone.unembedding.weight.shape[0],
        "expected_tokens_per_forward": found.expected,
        "precision": result["precision"],
        "source": str(plan.source),
        "settings": plan.settings.model_dump(),
    }
    (folder / SPECULATION_FILE).write_text(json.dumps(described, indent=1) + "\n")
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(GENERATE)


def _copy_tokenizer(plan: Speculation, folder: Path) -> None:
    """The tokenizer's files as they are: tokens that were added for training are not part of the
    model.
    """
    for name in (
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "vocab.json",
        "merges.txt",
        "tokenizer.model",
    ):
        if (plan.source / name).is_file():
            shutil.copyfile(plan.source / name, folder / name)
