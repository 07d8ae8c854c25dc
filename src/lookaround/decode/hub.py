"""Several tokens per pass from within transformers: `model.generate(...)`, by a callable or by a
folder that is trusted.
"""

from __future__ import annotations

import json
import warnings
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from lookaround.decode.speculative import Speculator
from lookaround.decode.tree import Tree
from lookaround.decode.verify import make_verifier
from lookaround.model.export import load, load_heads
from lookaround.support.errors import UserError

SPECULATION_FILE = "speculation.json"

GENERATE = '''"""Several tokens per pass; needs `pip install lookaround`.

The output is what plain generation gives.
"""

from lookaround.decode.hub import generate

'''


class Described(NamedTuple):
    """What `speculation.json` says: trees by number of sequences, the tokens that are drafted, the
    precision both were timed in.

    None for the trees is a chain, None for the tokens all of them.
    """

    trees: dict[int, Tree] | None = None
    shortlist: list[int] | None = None
    precision: torch.dtype = torch.float32


def read_description(folder: Path | None, vocabulary: int) -> Described:
    """The description of a folder, the defaults where it has none; raises UserError for what is not
    ours or of another model.
    """
    if folder is None or not (file := folder / SPECULATION_FILE).is_file():
        return Described()
    try:
        told = json.loads(file.read_text())
        trees = {
            int(batch): Tree.from_json(paths, str(file)) for batch, paths in told["trees"].items()
        }
        size = int(told["vocabulary"])
        shortlist = told.get("shortlist")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file}: truncated or not ours ({error})") from None
    if not trees:
        raise UserError(f"{file}: holds no tree")
    if size != vocabulary:
        raise UserError(f"{file}: is of a model with {size} tokens, this one has {vocabulary}")
    if shortlist is not None:
        whole = isinstance(shortlist, list) and all(
            type(t) is int and 0 <= t < size for t in shortlist
        )
        if not whole or not shortlist or shortlist != sorted(set(shortlist)):
            raise UserError(
                f"{file}: shortlist must be token ids below {size} in rising order, or null"
            )
    return Described(
        trees, shortlist, torch.bfloat16 if told.get("precision") == "bfloat16" else torch.float32
    )


def load_speculator(folder: Path, lm: Any = None) -> Speculator:
    """The model of a folder with its heads and trees;

    `lm`: a model already loaded from there, which is used as it is.

    Raises UserError where there are no heads, or they belong to another model.
    """
    backbone = load(folder) if lm is None else load_heads(folder, lm)
    if backbone is None or not len(backbone.heads):
        raise UserError(
            f"{folder}: has no heads that look ahead (heads.safetensors); make them with "
            "lookaround speculate"
        )
    backbone.heads.to(backbone.device, backbone.dtype)
    backbone.eval()
    told = read_description(folder, backbone.unembedding.weight.shape[0])
    return Speculator(backbone, told.trees, shortlist=told.shortlist)


def generate(
    inputs: torch.Tensor | None = None,
    generation_config: Any = None,
    *,
    model: Any,
    input_ids: Any = None,
    stopping_criteria: Any = None,
    stop_strings: Any = None,
    tokenizer: Any = None,
    streamer: Any = None,
    **arguments: Any,
) -> Any:
    """`model.generate` of a folder with heads: transformers prepares everything, the loop is ours.

    For `AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)`.
    """
    from transformers import StoppingCriteriaList, StopStringCriteria

    speculator = getattr(model, "_lookaround_speculator", None)
    if speculator is None:
        speculator = load_speculator(Path(model.name_or_path), model)
        model._lookaround_speculator = speculator
    # transformers drops the tokenizer, and the streamer, on the way to a callable
    if stop_strings is not None:
        if tokenizer is None:
            raise UserError(
                "stop_strings: need the tokenizer; give generate(..., tokenizer=tokenizer)"
            )
        stopping_criteria = StoppingCriteriaList(stopping_criteria or [])
        stopping_criteria.append(StopStringCriteria(tokenizer, stop_strings))
    return type(model).generate(
        model,
        inputs if inputs is not None else input_ids,
        generation_config=generation_config,
        stopping_criteria=stopping_criteria,
        custom_generate=custom_generate(speculator, streamer=streamer),
        **arguments,
    )


def custom_generate(speculator: Speculator, *, rule: str = "exact", streamer: Any = None) -> Any:
    """The callable for `model.generate(ids, custom_generate=custom_generate(speculator))`; needs no
    trust.

    rule: "exact" (greedy or sampling, as the configuration says; the output does not change) or
        "typical".
    streamer: of transformers, for one sequence. The statistics of the last call are
        `speculator.last`.
    """
    return partial(_decode, speculator=speculator, rule=rule, streamer=streamer)


def _decode(
    model: Any,
    input_ids: torch.Tensor,
    logits_processor: Any = None,
    stopping_criteria: Any = None,
    generation_config: Any = None,
    synced_gpus: bool = False,
    *,
    speculator: Speculator,
    rule: str,
    streamer: Any = None,
    **arguments: Any,
) -> Any:
    """One decoding loop in the form that transformers calls."""
    from transformers.generation.stopping_criteria import EosTokenCriteria, MaxLengthCriteria

    config = generation_config
    if speculator.backbone.lm is not model:
        raise UserError(
            "custom_generate: these heads belong to another model than the one that generates"
        )
    if (config.num_beams or 1) > 1 or (config.num_return_sequences or 1) > 1:
        raise UserError(
            "custom_generate: beams and several sequences per prompt cannot be drafted for; use "
            "num_beams=1"
        )
    rows, width = input_ids.shape
    mask = arguments.get("attention_mask")
    given = [
        [token for token, real in zip(ids, keep, strict=True) if real]
        for ids, keep in zip(
            input_ids.tolist(), [[1] * width] * rows if mask is None else mask.tolist(), strict=True
        )
    ]
    room = min(
        (c.max_length for c in stopping_criteria or () if isinstance(c, MaxLengthCriteria)),
        default=None,
    )
    room = (config.max_length if room is None else room) - width
    others = [
        c
        for c in stopping_criteria or ()
        if not isinstance(c, MaxLengthCriteria | EosTokenCriteria)
    ]

    def stop(text: list[int]) -> bool:
        ids = torch.tensor([text], device=input_ids.device)
        return any(bool(torch.as_tensor(criterion(ids, None)).any()) for criterion in others)

    generator = None
    if config.do_sample:
        seed = int(torch.randint(1 << 62, ()))  # follows torch.manual_seed, as plain sampling does
        generator = torch.Generator(input_ids.device).manual_seed(seed)
    process, looking = _divided(logits_processor or ())
    if streamer is not None:
        if rows > 1:
            raise UserError("custom_generate: a streamer takes one sequence at a time")
        streamer.put(input_ids.cpu())
    made: list[list[int]] = [[] for _ in given]
    cut_short = False
    for step in speculator.steps(
        given,
        max_new_tokens=room,
        verifier=make_verifier(rule, generator),
        eos=config.eos_token_id,
        process=process,
        looking=looking,
        seen=input_ids.tolist(),
        temperature=float(config.temperature or 1.0),
        generator=generator,
        stop=stop if others else None,
    ):
        made[step.row] += step.tokens
        cut_short |= step.ended == "context"
        if streamer is not None:
            for token in step.tokens:
                streamer.put(torch.tensor([token]))
    if streamer is not None:
        streamer.end()
    if cut_short:
        warnings.warn(
            f"generation ended at the model's context of {speculator.limit} tokens", stacklevel=2
        )
    longest = max(map(len, made), default=0)
    pad = config.pad_token_id if config.pad_token_id is not None else (given[0][0])
    tail = torch.tensor(
        [text + [pad] * (longest - len(text)) for text in made], device=input_ids.device
    )
    sequences = torch.cat([input_ids, tail], 1)
    if config.return_dict_in_generate:
        from transformers.generation.utils import GenerateDecoderOnlyOutput

        return GenerateDecoderOnlyOutput(sequences=sequences)  # type: ignore[arg-type]
    return sequences


# processors of transformers that look at the logits alone, not at the text so far
PLAIN = (
    "TemperatureLogitsWarper",
    "TopKLogitsWarper",
    "TopPLogitsWarper",
    "MinPLogitsWarper",
    "TypicalLogitsWarper",
    "EpsilonLogitsWarper",
    "EtaLogitsWarper",
    "LogitNormalization",
    "SuppressTokensLogitsProcessor",
    "InfNanRemoveLogitsProcessor",
)


def _divided(processors: Any) -> tuple[Any, Any]:
    """(what processes logits alone, what looks at the text too), as `Speculator.steps` takes them.

    Processors run in their order: where one looks at the text, all run at the places of a walk.
    """
    from transformers import LogitsProcessorList

    both = LogitsProcessorList(processors)
    if not both:
        return None, None
    if not all(type(processor).__name__ in PLAIN for processor in both):
        return None, both

    def process(logits: torch.Tensor) -> torch.Tensor:
        flat = logits.flatten(0, -2).float()
        none: Any = torch.zeros(len(flat), 0, dtype=torch.int64, device=flat.device)
        return both(none, flat).view(logits.shape)

    return process, None
