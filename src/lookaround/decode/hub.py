"""Several tokens per pass from within transformers: `model.generate(...)`, by a callable or by a
folder that is trusted.
"""

from __future__ import annotations

import copy
import os
import re
import warnings
from collections.abc import Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import AfterValidator, Field

from lookaround.decode.speculative import Speculator, set_precision
from lookaround.decode.tree import Tree
from lookaround.decode.verify import make_verifier
from lookaround.model.backbone import Backbone
from lookaround.model.export import HEADS_FILE, load, load_heads
from lookaround.model.foreign import Source, last_step
from lookaround.support.errors import UserError
from lookaround.support.records import Count, Stored, read_record

SPECULATION_FILE = "speculation.json"

GENERATE = '''"""Several tokens per pass; needs `pip install lookaround`.

The output is what plain generation gives.
"""

from lookaround.decode.hub import loaded


def __getattr__(name):
    """Asked for `generate` whenever a model is loaded: a relative name is one from there."""
    if name == "generate":
        return loaded()
    raise AttributeError(name)
'''


def _batches(trees: dict[str, Any]) -> dict[str, Any]:
    """Trees by number of sequences; raises ValueError for other keys."""
    if trees and all(re.fullmatch("[1-9][0-9]{0,5}", batch) for batch in trees):
        return trees
    raise ValueError("a tree for each number of sequences")


Trees = Annotated[dict[str, list[Any]], AfterValidator(_batches)]


class StoredSpeculation(Stored):
    """What decoding reads of speculation.json (studies/speculate/speculate.py, _publish)."""

    trees: Trees
    vocabulary: Count
    shortlist: list[Count] | None = Field(None, min_length=1)
    precision: Literal["float32", "bfloat16", "float64"] | None = None


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
    told = read_record(file, StoredSpeculation)
    trees = {int(batch): Tree.from_json(paths, str(file)) for batch, paths in told.trees.items()}
    if told.vocabulary != vocabulary:
        raise UserError(
            f"{file}: is of a model with {told.vocabulary} tokens, this one has {vocabulary}"
        )
    tokens = told.shortlist
    if tokens is not None and (tokens != sorted({*tokens}) or tokens[-1] >= vocabulary):
        raise UserError(
            f"{file}: shortlist must be token ids below {vocabulary} in rising order, or null"
        )
    ranks = vocabulary if tokens is None else len(tokens)
    if any(max(path) >= ranks for tree in trees.values() for path in tree.paths):
        raise UserError(f"{file}: a tree has a rank beyond the {ranks} tokens that are drafted")
    dtype = torch.bfloat16 if told.precision == "bfloat16" else torch.float32
    return Described(trees, tokens, dtype)


def load_speculator(folder: Path, lm: Any = None) -> Speculator:
    """The model of a folder with its heads and trees;

    `lm`: a model already loaded from there, which is used as it is.

    Raises UserError where there are no heads, or they belong to another model.
    """
    if lm is None:
        backbone: Backbone | None = load(folder)
    else:
        transforms, scale, cap = last_step(lm, f"model '{folder}'")
        source = Source(dtype=lm.dtype, transforms=transforms, scale=scale, cap=cap)
        backbone = load_heads(folder, lm, source)
    if backbone is None or backbone.look_ahead is None:
        raise UserError(
            f"{folder}: has no heads that look ahead (heads.safetensors); make them with "
            "lookaround speculate"
        )
    backbone.heads.to(backbone.device)
    set_precision(backbone.heads, backbone.dtype)
    backbone.eval()
    told = read_description(folder, backbone.unembedding.weight.shape[0])
    return Speculator(backbone, told.trees, shortlist=told.shortlist)


def loaded() -> Any:
    """`generate` for a model that is being loaded from here: a relative folder stays that one."""
    return partial(generate, here=os.getcwd())


def _folder_of(model: Any, here: str) -> Path:
    """The folder a model was loaded from, or where the files of its name on the hub are.

    Raises UserError where they can be found neither on this machine nor on the hub.
    """
    name = model.name_or_path
    folder = Path(here, name)
    if folder.is_dir():
        return folder
    from transformers.utils import cached_file

    # the files of the commit whose weights were loaded
    commit = {"revision": revision} if (revision := model.config._commit_hash) else {}
    try:
        for file in (SPECULATION_FILE, HEADS_FILE):
            found = cached_file(name, file, **commit)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{name}: its heads cannot be found ({str(error).splitlines()[0][:120]}); give a "
            "folder or a name that lookaround speculate made"
        ) from None
    return Path(str(found)).parent


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
    here: str = "",
    **arguments: Any,
) -> Any:
    """`model.generate` of a folder with heads: transformers prepares everything, the loop is ours.

    For `AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)`, of a folder or of a
    name on the hub.

    here: the folder that the model was loaded in, which a relative name is one of.
    """
    from transformers import StoppingCriteriaList, StopStringCriteria

    speculator = getattr(model, "_lookaround_speculator", None)
    if speculator is None:
        speculator = load_speculator(_folder_of(model, here), model)
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


def custom_generate(
    speculator: Speculator,
    *,
    rule: str = "exact",
    streamer: Any = None,
    stateless: Sequence[type] = (),
) -> Any:
    """The callable for `model.generate(ids, custom_generate=custom_generate(speculator))`; needs no
    trust.

    rule: "exact" (greedy or sampling, as the configuration says; the output does not change) or
        "typical".
    streamer: of transformers, for one sequence. The statistics of the last call are
        `speculator.last`.
    stateless: your own classes of logits processors whose result depends on the text and the logits
        alone. Others but those of transformers are refused.
    """
    return partial(
        _decode, speculator=speculator, rule=rule, streamer=streamer, stateless=tuple(stateless)
    )


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
    stateless: tuple[type, ...] = (),
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
    asked = [name for name in EXTRAS if getattr(config, name, None)]
    if config.return_dict_in_generate and asked:
        raise UserError(
            f"custom_generate: {', '.join(asked)}: not kept where several tokens are written per "
            "pass; leave it out, or generate plainly"
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
    process, looking = _divided(logits_processor or (), rows, stateless)
    if streamer is not None:
        if rows > 1:
            raise UserError("custom_generate: a streamer takes one sequence at a time")
        streamer.put(input_ids.cpu())
    made: list[list[int]] = [[] for _ in given]
    cut_short = False
    steps = speculator.steps(
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
    )
    for step in chain.from_iterable(steps):
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


# what `generate` can be asked to return beside the tokens
EXTRAS = ("output_scores", "output_logits", "output_attentions", "output_hidden_states")
# processors of transformers that look at the logits alone, not at the text so far
PLAIN = (
    "TemperatureLogitsWarper",
    "TopKLogitsWarper",
    "TopPLogitsWarper",
    "TopHLogitsWarper",
    "MinPLogitsWarper",
    "TypicalLogitsWarper",
    "EpsilonLogitsWarper",
    "EtaLogitsWarper",
    "LogitNormalization",
    "SuppressTokensLogitsProcessor",
    "InfNanRemoveLogitsProcessor",
)
# those that look at the text too, and at nothing else
LOOKING = (
    "MinLengthLogitsProcessor",
    "MinNewTokensLengthLogitsProcessor",
    "RepetitionPenaltyLogitsProcessor",
    "EncoderRepetitionPenaltyLogitsProcessor",
    "NoRepeatNGramLogitsProcessor",
    "EncoderNoRepeatNGramLogitsProcessor",
    "SequenceBiasLogitsProcessor",
    "NoBadWordsLogitsProcessor",
    "PrefixConstrainedLogitsProcessor",
    "ForcedBOSTokenLogitsProcessor",
    "ForcedEOSTokenLogitsProcessor",
    "ExponentialDecayLengthPenalty",
    "SuppressTokensAtBeginLogitsProcessor",
    "WatermarkLogitsProcessor",
)


def _divided(processors: Any, rows: int, stateless: tuple[type, ...]) -> tuple[Any, Any]:
    """(what processes logits alone, what looks at the text too), as `Speculator.steps` takes them.

    Processors run in their order: where one looks at the text, all run at the places of a walk,
    each sequence by itself. A walk may visit several places of a sequence, and some of its texts
    hold drafts that do not stand, so that a processor must depend on text and logits alone.

    Raises UserError naming a processor of which that is not known.
    """
    from transformers import LogitsProcessorList

    both = LogitsProcessorList(processors)
    if not both:
        return None, None
    names = {type(processor).__name__ for processor in both if type(processor) not in stateless}
    for name in sorted(names - {*PLAIN, *LOOKING}):
        raise UserError(
            f"custom_generate: {name} may remember what it is shown, and is shown drafts that do "
            "not stand; leave it out, or vouch for one of your own by custom_generate(stateless="
            "[..])"
        )
    if any(type(processor).__name__ not in PLAIN for processor in both):
        own = [LogitsProcessorList(_of_row(each, row) for each in both) for row in range(rows)]
        return None, lambda text, logits, row: own[row](text, logits)

    def process(logits: torch.Tensor) -> torch.Tensor:
        flat = logits.flatten(0, -2).float()
        none: Any = torch.zeros(len(flat), 0, dtype=torch.int64, device=flat.device)
        return both(none, flat).view(logits.shape)

    return process, None


def _of_row(processor: Any, row: int) -> Any:
    """A processor for one sequence of a batch, where it holds something for each of them."""
    own, name = copy.copy(processor), type(processor).__name__
    if name == "PrefixConstrainedLogitsProcessor":
        asked = processor._prefix_allowed_tokens_fn
        own._prefix_allowed_tokens_fn = lambda _, ids: asked(row, ids)
    elif name == "RepetitionPenaltyLogitsProcessor":
        if isinstance(processor.prompt_ignore_length, torch.Tensor):  # of left padding
            own.prompt_ignore_length = processor.prompt_ignore_length[row : row + 1]
    elif name == "EncoderRepetitionPenaltyLogitsProcessor":
        own.encoder_input_ids = processor.encoder_input_ids[row : row + 1]
    elif name == "EncoderNoRepeatNGramLogitsProcessor":
        own.batch_size, own.generated_ngrams = 1, [processor.generated_ngrams[row]]
    return own
