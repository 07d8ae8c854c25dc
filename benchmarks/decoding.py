"""Several tokens per pass: what it costs in training and what it brings in decoding, beside what
transformers offers.

    lookaround pretrain --model mini --set data.vocabulary=4096 --set model.context=256 \\
        --set train.batch=8 --learning-rate 0.0015 --budget 4M --out runs/mini-python
    lookaround speculate runs/mini-python --out runs/mini-python-fast
    lookaround speculate LLAMA_FOLDER --heads medusa-own --out runs/stories-fast
    python -m benchmarks.decoding --model runs/mini-python-fast --model runs/stories-fast \\
        --json results/data/decoding.json

20 minutes on one core, 15, 2 and about 20.

Training: gradients of one depth at a time against the plain sum (float64), the largest live logits,
and seconds of a step of `mtp(n=4, matched=True)` against `ar`, which has as many parameters.
Decoding, for each folder: greedy text token for token against `model.generate` on all prompts in
float64, flips in the precision that was timed, tokens per forward, and tokens per second of every
way of generating the same text, in turns; medians. Prompts are the held-out ones that `speculate`
measures on.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.records import write_record
from lookaround.decode.hub import load_speculator, read_description
from lookaround.decode.speculative import Speculator, set_precision
from lookaround.decode.tree import Tree
from lookaround.model.backbone import Backbone, build
from lookaround.model.heads import depth_states
from lookaround.objectives import Batch, Objective, Vocabulary, parse
from lookaround.objectives.contract import View
from lookaround.objectives.heads import LOOK_AHEAD_KINDS
from lookaround.settings import Settings
from lookaround.studies.speculate.reference import open_reference, transformers_generate
from lookaround.studies.speculate.request import open_speculation
from lookaround.train.loss import ObjectiveLoss

NEW = 64  # tokens that each prompt is continued by


def random_rows(count: int, width: int, vocabulary: int) -> Batch:
    tokens = torch.randint(
        4, vocabulary, (count, width), generator=torch.Generator().manual_seed(0)
    )
    tokens[:, 0] = 1
    return Batch(
        tokens, torch.arange(count), Vocabulary(vocabulary, 3, (0, 1, 2, 3)), None, tokens != 1
    )


def model_for(objective: Objective, preset: str, vocabulary: int, context: int) -> Backbone:
    return build(
        preset=preset,
        vocabulary=vocabulary,
        context=context,
        special={},
        heads=objective.head_specs(),
    )


# ----------------------------------------------------------------------------------------- training


def plain_loss(model: Backbone, view: View) -> torch.Tensor:
    """All depths in one graph, with the framework's own cross-entropy."""
    trunk, output = model.trunk(view.shown), model.unembedding.weight
    parts = [(trunk.last, (view.pairs.head == 0).nonzero().flatten(), output)]
    for head in model.heads:
        for depth, states in depth_states(
            head, getattr(trunk, head.reads), model.embedding.weight, view.shown
        ):
            chosen = ((view.pairs.head == 1) & (view.pairs.offset == depth + 1)).nonzero().flatten()
            own = head.unembedding(depth)
            parts.append((states, chosen, output if own is None else own))
    losses = [
        torch.nn.functional.cross_entropy(
            states.flatten(0, 1)[view.pairs.state[chosen]] @ table.T,
            view.pairs.target[chosen],
            reduction="none",
        )
        @ view.pairs.weight[chosen].to(output.dtype)
        for states, chosen, table in parts
    ]
    return sum(losses, torch.zeros((), dtype=output.dtype))


def gradient_difference() -> float:
    """The largest difference of any gradient between one depth at a time and the plain sum,
    float64.
    """
    worst = 0.0
    for heads in LOOK_AHEAD_KINDS:
        for n in (1, 2, 4, 8):
            objective = parse(f'mtp(n={n}, heads="{heads}")')
            model = model_for(objective, "nano", 300, 64).double()
            (view,) = objective.view(random_rows(4, 32, 300), 0, 0)
            ObjectiveLoss(model)(objective.components(), (view,), (1.0,))[0].backward()
            ours = [p.grad for p in model.parameters()]
            model.zero_grad(set_to_none=True)
            plain_loss(model, view).backward()
            for parameter, grad in zip(model.parameters(), ours, strict=True):
                if parameter.grad is not None and grad is not None:
                    worst = max(worst, float((parameter.grad - grad).abs().max()))
    return worst


class LargestLive(TorchDispatchMode):
    """Follows tensors whose last axis is the vocabulary; `peak` is the most bytes that lived at
    once.
    """

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.vocabulary, self.live, self.peak = vocabulary, 0, 0
        self.known: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if (
                isinstance(tensor, torch.Tensor)
                and tensor.ndim >= 2
                and tensor.shape[-1] == self.vocabulary
            ):
                storage = tensor.untyped_storage()
                key = storage.data_ptr()
                if key and key not in self.known:
                    self.known[key] = storage.nbytes()
                    self.live += storage.nbytes()
                    self.peak = max(self.peak, self.live)
                    import weakref

                    weakref.finalize(storage, self._gone, key)
        return out

    def _gone(self, key: int) -> None:
        self.live -= self.known.pop(key, 0)


def logits_memory(vocabulary: int = 32_000) -> dict[str, float]:
    """Peak bytes of live logits of a step: n = 1, n = 4, and n = 4 the plain way."""
    found = {}
    for name, spec, plainly in (
        ("n=1", "ar", False),
        ("n=4", "mtp", False),
        ("n=4, plain sum", "mtp", True),
    ):
        objective = parse(spec)
        model = model_for(objective, "tiny", vocabulary, 64)
        (view,) = objective.view(random_rows(8, 64, vocabulary), 0, 0)
        with LargestLive(vocabulary) as watch:
            loss = (
                plain_loss(model, view)
                if plainly
                else ObjectiveLoss(model)(objective.components(), (view,), (1.0,))[0]
            )
            loss.backward()
        found[name] = float(watch.peak)
    return found


def step_seconds(preset: str, vocabulary: int, rounds: int = 5) -> dict[str, float]:
    """Median seconds of forward and backward: `ar`, and `mtp(n=4)` on a trunk with three layers
    fewer.
    """
    sides = {}
    for name, spec in (("ar", "ar"), ("mtp", "mtp(n=4, matched=True)")):
        objective = parse(spec)
        model = model_for(objective, preset, vocabulary, 128)
        (view,) = objective.view(random_rows(8, 128, vocabulary), 0, 0)
        sides[name] = (model, objective, view)
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds + 1):
        for name, (model, objective, view) in sides.items():
            clock = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16):
                ObjectiveLoss(model)(objective.components(), (view,), (1.0,))[0].backward()
            times[name].append(time.perf_counter() - clock)
            model.zero_grad(set_to_none=True)
    return {name: median(found[1:]) for name, found in times.items()}


# ----------------------------------------------------------------------------------------- decoding


def decoding(folder: Path, rounds: int, most_prompts: int) -> dict[str, Any]:
    """Every way of generating greedily from the model of a folder that `speculate` made."""
    told = json.loads((folder / "speculation.json").read_text())
    settings = Settings.model_validate(told["settings"])
    plan = open_speculation(settings, Path(told["source"]))
    speculator = load_speculator(folder)
    own = read_description(folder, speculator.backbone.unembedding.weight.shape[0]).precision
    set_precision(speculator.backbone, own)
    lm, eos = open_reference(folder, speculator.backbone, own), plan.run.eos
    prompts = plan.measure[:most_prompts]
    largest = Tree.from_json(told["largest"])

    def ours(tree: Tree | None) -> Callable[[list[int]], int]:
        return lambda prompt: (
            speculator.generate([prompt], max_new_tokens=NEW, eos=eos, tree=tree).stats.tokens
        )

    def theirs(**options: Any) -> Callable[[list[int]], int]:
        def run(prompt: list[int]) -> int:
            ids = torch.tensor([prompt])
            made = lm.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=NEW,
                do_sample=False,
                eos_token_id=list(eos) or None,
                pad_token_id=eos[0] if eos else 0,
                **options,
            )
            return made.shape[1] - ids.shape[1]

        return run

    layers = lm.config.num_hidden_layers
    ways = {
        "transformers": theirs(),
        "transformers, prompt lookup": theirs(prompt_lookup_num_tokens=4),
        f"transformers, early exit at {max(1, layers // 3)}": theirs(
            assistant_early_exit=max(1, layers // 3)
        ),
        "ours, no drafts": ours(Tree()),
        f"ours, tree of {len(speculator.tree_for(1))}": ours(None),
        f"ours, tree of {len(largest)}": ours(largest),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    few = prompts[:: max(1, len(prompts) // 12)][:12]
    for _ in range(rounds):
        for name, way in ways.items():
            way(few[0])
            clock = time.perf_counter()
            tokens = sum(way(prompt) for prompt in few)
            rates[name].append(tokens / (time.perf_counter() - clock))
    result: dict[str, Any] = {
        "tokens_per_second": {name: median(found) for name, found in rates.items()}
    }
    for name, tree in (("timed", speculator.tree_for(1)), ("largest", largest)):
        result[name] = equality(speculator, lm, tree, prompts, eos, own) | {"nodes": len(tree)}
    result["precision"] = str(own).removeprefix("torch.")
    result["expected_tokens_per_forward"] = told["expected_tokens_per_forward"]
    return result


def equality(
    speculator: Speculator,
    lm: Any,
    tree: Tree,
    prompts: list[list[int]],
    eos: tuple[int, ...],
    own: torch.dtype,
) -> dict[str, Any]:
    """Tokens per forward, flips in its own precision, and whether float64 text is that of
    `model.generate`, token for token.
    """
    found: dict[str, Any] = {"prompts": len(prompts)}
    for dtype in (torch.float64, own):
        set_precision(speculator.backbone, dtype)
        set_precision(lm, dtype)
        differ, stepped, steps = 0, 0, 0
        for begin in range(0, len(prompts), 25):
            some = prompts[begin : begin + 25]
            expected = transformers_generate(lm, some, NEW, eos)
            made = speculator.generate(some, max_new_tokens=NEW, eos=eos, tree=tree)
            differ += sum(a != b for a, b in zip(made.tokens, expected, strict=True))
            stepped, steps = stepped + made.stats.stepped, steps + made.stats.steps
        key = "different_in_float64" if dtype == torch.float64 else "flips"
        found |= {key: differ, "tokens_per_forward": stepped / steps}
    return found


def rows(result: dict[str, Any], folders: list[Path]) -> dict[str, list[dict[str, Any]]]:
    """The rows of the record: of two folders at most, the first as `mini`, the second as
    `stories`.
    """
    names = ("mini", "stories")
    ways: dict[int, dict[str, Any]] = {}
    counted: dict[str, dict[str, Any]] = {}
    sequences: dict[int, dict[str, Any]] = {}
    for side, folder in zip(names, folders, strict=False):
        found = result[str(folder)]
        rates = found["tokens_per_second"]
        for place, (way, rate) in enumerate(rates.items()):
            entry = ways.setdefault(place, {"way": way})
            entry[side] = rate
            entry[f"{side}_of_peer"] = rate / rates["transformers"]
            entry[f"{side}_of_loop"] = rate / rates["ours, no drafts"]
        for name in ("timed", "largest"):
            told, tree = found[name], f"{name} tree"
            expected = f" (expected {found['expected_tokens_per_forward']:.2f})"
            cells = {
                f"nodes, {tree}": str(told["nodes"]),
                f"tokens per forward, {tree}": f"{told['tokens_per_forward']:.2f}"
                + (expected if name == "timed" else ""),
                f"texts that differ from `generate` in float64, {tree}": (
                    f"{told['different_in_float64']} of {told['prompts']}"
                ),
                f"texts that differ in the precision that was timed, {tree}": (
                    f"{told['flips']} ({found['precision']})"
                ),
            }
            for what, cell in cells.items():
                counted.setdefault(what, {"what": what})[side] = cell
        speculation = json.loads((folder / "speculation.json").read_text())
        for entry in speculation["by_batch"]:
            row = sequences.setdefault(entry["batch"], {"sequences": entry["batch"]})
            if side == names[0]:
                row |= {
                    "nodes": entry["nodes"],
                    "tokens_per_forward": entry["tokens_per_forward"],
                    "peer": entry["plain_tokens_per_second"],
                    "loop": entry["loop_tokens_per_second"],
                    "drafts": entry["speculative_tokens_per_second"],
                    "ratio": entry["speedup"],
                }
            else:
                row["stories_ratio"] = entry["speedup"]
    return {
        "one sequence": list(ways.values()),
        "counted": list(counted.values()),
        "sequences": list(sequences.values()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model",
        type=Path,
        action="append",
        default=[],
        help="a folder that speculate made; repeatable",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the record here")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompts", type=int, default=200)
    given = parser.parse_args()
    torch.set_num_threads(torch.get_num_threads() if torch.cuda.is_available() else 2)
    result: dict[str, Any] = {"gradient_difference": gradient_difference()}
    print(
        "gradients, one depth at a time - plain sum, float64: "
        f"{result['gradient_difference']:.1e} (target 1e-10)"
    )
    memory = result["logits_bytes"] = logits_memory()
    print(
        "largest live logits, vocabulary 32,000: "
        f"{', '.join(f'{k} {v / 2**20:.0f} MiB' for k, v in memory.items())}"
    )
    print(
        f"  n=4 / n=1: {memory['n=4'] / memory['n=1']:.2f} (target 1.15); plain sum "
        f"{memory['n=4, plain sum'] / memory['n=1']:.2f}"
    )
    result["step_seconds"] = {}
    for preset, vocabulary in (("mini", 1024), ("mini", 4096), ("small", 1024), ("small", 4096)):
        seconds = result["step_seconds"][f"{preset}, {vocabulary}"] = step_seconds(
            preset, vocabulary
        )
        print(
            f"step of {preset}, vocabulary {vocabulary}: ar {seconds['ar'] * 1e3:.0f} ms, "
            "mtp(n=4, matched) "
            f"{seconds['mtp'] * 1e3:.0f} ms: {seconds['mtp'] / seconds['ar']:.2f} (target 1.22)"
        )
    for folder in given.model:
        found = result[str(folder)] = decoding(folder, given.rounds, given.prompts)
        rates = found["tokens_per_second"]
        base, loop = rates["transformers"], rates["ours, no drafts"]
        print(f"\n{folder}")
        for name, rate in rates.items():
            print(
                f"  {name:<32}{rate:8.0f} tokens/s   x{rate / base:.2f} of transformers   "
                f"x{rate / loop:.2f} of ours, no drafts"
            )
        for name in ("timed", "largest"):
            tree = found[name]
            print(
                f"  tree of {tree['nodes']}: {tree['tokens_per_forward']:.2f} tokens per forward; "
                f"of {tree['prompts']} texts "
                f"{tree['different_in_float64']} differ from generate in float64, {tree['flips']} "
                f"in {found['precision']}"
            )
        print(f"  expected of the timed tree: {found['expected_tokens_per_forward']:.2f}")
    if given.json:
        write_record(given.json, rows(result, given.model), seeds=1, measured=result)


if __name__ == "__main__":
    main()
