"""Model cards: what the README.md of an exported folder says of it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lookaround.data.patches import CODEBOOK_FILE
from lookaround.model.export import HEADS_FILE
from lookaround.objectives.contract import Mode

CARD_FILE = "README.md"
# {attention kind: how such a model reads a text}
READS = {
    "causal": "from left to right",
    "bidirectional": "both ways",
    "prefix": "the first part both ways, the rest from left to right",
}
LICENCE = (
    "None is set. Who publishes the model chooses one, as its text and the model that it was made "
    "of allow, and adds it above as `license`."
)


def write_card(
    folder: Path,
    *,
    corpus: str | None = None,
    fingerprint: str | None = None,
    figures: Mapping[str, float | str | None],
) -> None:
    """Writes the model card of a folder that holds all else of an export.

    corpus: name of the text; of a path on this machine only the last part is shown.
    fingerprint: of that text.
    figures: {what was spent or measured: how much}; None is left out.
    """
    config = json.loads((folder / "config.json").read_text())
    told = config["lookaround"]
    modes = [Mode(*mode) for mode in told["modes"]]
    pictures = (folder / CODEBOOK_FILE).is_file()
    task, code, notes = (_of_pictures if pictures else _reading)(config, modes)
    notes += [
        f"The end of the training left this out: {_meaning(mode)}."
        for mode in modes
        if list(mode) not in told["final_modes"]
    ]
    if (folder / "custom_generate").is_dir():
        code = _code(
            "AutoModelForCausalLM",
            "model = AutoModelForCausalLM.from_pretrained(folder)",
            "# several tokens per pass, where lookaround is installed",
            "model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)",
        )
    elif (folder / HEADS_FILE).is_file():
        notes.append(f"Nothing but lookaround reads `{HEADS_FILE}`, its heads beyond the LM head.")
    kind = "pictures" if pictures else "text"
    rows = {
        "objective": told["objective"],
        kind: Path(corpus).name if corpus and Path(corpus).exists() else corpus,
        f"fingerprint of the {kind}": fingerprint and fingerprint[:12],
        **figures,
    }
    table = [
        f"| {escaped(name)} | {escaped(value)} |"
        for name, value in rows.items()
        if value is not None
    ]
    parts = [
        f"---\nlibrary_name: transformers\npipeline_tag: {task}\ntags:\n- lookaround\n---",
        f"# {escaped(told['objective'] or 'A model with heads that look ahead')}",
        f"Made with lookaround {escaped(told['version'])}. It reads "
        + ("a picture, its patches row by row" if pictures else "a text"),
        "\n".join(f"* {_meaning(mode)}" for mode in modes),
        "\n".join(["| | |", "|---|---|", *table]),
        "## Loading",
        f"```python\n{code}\n```",
        *(["## What to know", "\n".join(f"* {note}" for note in notes)] if notes else []),
        "## Licence",
        LICENCE,
    ]
    (folder / CARD_FILE).write_text("\n\n".join(parts) + "\n")


def escaped(value: Any) -> str:
    """A value as a line of Markdown that means nothing but itself; numbers as readers have them."""
    if isinstance(value, float):
        value = f"{value:.4g}"
    elif isinstance(value, int):
        value = f"{value:,}"
    return re.sub(r"([\\`*_{}\[\]<>#|~&$])", r"\\\1", " ".join(str(value).split()))


def _meaning(mode: Mode) -> str:
    """A mode in words."""
    if mode.attention == "bidirectional":
        state = {0: "at a mask", 1: "before a mask"}.get(
            mode.shift, f"{mode.shift} places before a mask"
        )
        return f"both ways; the state {state} predicts the token that the mask hides"
    ahead = "the next one" if mode.shift == 1 else f"the one {mode.shift} places on"
    return f"{READS[mode.attention]}; the state at a token predicts {ahead}"


def _code(classes: str, *lines: str) -> str:
    return "\n".join(
        [f"from transformers import {classes}", "", 'folder = "path/to/this/folder"', *lines]
    )


def _of_pictures(config: Mapping[str, Any], modes: Sequence[Mode]) -> tuple[str, str, list[str]]:
    """`_reading` of a model of pictures."""
    masked = config["model_type"] == "eurobert"
    kind = "AutoModelForMaskedLM" if masked else "AutoModelForCausalLM"
    both = config.get("is_causal") is False
    code = "\n".join(
        [
            "from safetensors import safe_open",
            f"from transformers import {kind}",
            "",
            'folder = "path/to/this/folder"',
            f"model = {kind}.from_pretrained(folder)" + "  # reads both ways" * both,
            f'with safe_open(f"{{folder}}/{CODEBOOK_FILE}", "pt") as file:',
            '    codebook = file.get_tensor("codebook")  # (codes, pixels of a patch), 0 to 255',
        ]
    )
    notes = [
        f"A picture is BOS (token {config['bos_token_id']}) and the nearest code of each patch. "
        "Positions are two-dimensional through `rope_parameters`.",
    ]
    notes += [
        f"A mask is token {config['lookaround']['mask_token_id']}; `logits[:, i - {mode.shift}]` "
        "are those of the code that a mask at `i` hides."
        for mode in modes
        if mode.attention == "bidirectional"
    ]
    causal = any(mode.attention == "causal" for mode in modes)
    return "unconditional-image-generation" if causal else "image-feature-extraction", code, notes


def _reading(config: Mapping[str, Any], modes: Sequence[Mode]) -> tuple[str, str, list[str]]:
    """(pipeline tag, code that loads it, what a reader has to know) of an export."""
    masked = [mode for mode in modes if mode.attention == "bidirectional"]
    eurobert = config["model_type"] == "eurobert"
    misread = (
        '`pipeline("text-generation")`, `generate`, lm-evaluation-harness and transformers before '
        "5 misread it as a causal model, without a word."
    )
    refused = "What writes from left to right refuses it."
    places = " and ".join(
        f"`logits[:, i - {mode.shift}]`" if mode.shift else "`logits[:, i]`" for mode in masked
    )
    at_masks = (
        f"A mask is token {config['lookaround']['mask_token_id']}; {places} are those of the token "
        "that a mask at `i` hides."
    )
    if config["architectures"][0].endswith("ForMaskedLM"):
        code = _code("pipeline", 'fill = pipeline("fill-mask", model=folder)')
        return "fill-mask", code, [refused if eurobert else misread]
    if config.get("is_causal") is False:
        line = "model = AutoModelForCausalLM.from_pretrained(folder)  # reads both ways"
        return "feature-extraction", _code("AutoModelForCausalLM", line), [at_masks, misread]
    if eurobert:
        code = _code(
            "AutoModel, AutoModelForMaskedLM",
            "model = AutoModel.from_pretrained(folder)  # states",
            "model = AutoModelForMaskedLM.from_pretrained(folder)  # logits",
        )
        notes = [
            at_masks,
            'Its tokenizer names no mask token, so that `pipeline("fill-mask")`, which would take '
            "the logits at the mask, refuses it.",
            "A loss that takes the logits at the mask (the usual one, with "
            "`DataCollatorForLanguageModeling`) misreads it.",
            refused,
        ]
        return "feature-extraction", code, notes
    notes = [
        f"transformers reads it from left to right. `lookaround generate --mode {kind}` reads it "
        f"{READS[kind]}."
        for kind in dict.fromkeys(mode.attention for mode in modes)
        if kind != "causal"
    ]
    if not any(mode.shift == 1 for mode in modes if mode.attention != "bidirectional"):
        line = "model = AutoModelForCausalLM.from_pretrained(folder)"
        notes.append("`generate` takes its logits for those of the next token, which they are not.")
        return "feature-extraction", _code("AutoModelForCausalLM", line), notes
    code = _code("pipeline", 'write = pipeline("text-generation", model=folder)')
    return "text-generation", code, notes
