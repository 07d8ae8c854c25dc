"""What rows, tasks and evaluation need of a tokenizer, for text and for pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lookaround.objectives.contract import Vocabulary


class Codec(Protocol):
    """Turns inputs into token ids and back: texts by a `TextTokenizer`, pictures by a `PatchCodec`.

    vocabulary: number of tokens, the mask token and the special tokens.
    size: number of token ids.
    bos: the token that every document starts with.
    eos: the token that ends a document; None: nothing does.
    pad: the token that fills rows up; None: BOS does.
    unit: what `units` counts: "byte" for text, or "token" where the tokenizer loses much of it;
        "pixel" for pictures.
    grid: rows and columns of the tokens of a picture behind its BOS; None: they stand in a line.
    units: of each token, (size,) int64; 0 for special tokens. Bytes of text say how those of a
        document lie in it (`Split.bytes`).
    """

    vocabulary: Vocabulary
    size: int
    bos: int
    eos: int | None
    pad: int | None
    unit: str
    units: np.ndarray

    @property
    def grid(self) -> tuple[int, int] | None: ...

    @property
    def notes(self) -> list[str]:
        """What coding means for results, one sentence each."""

    @property
    def fingerprint(self) -> str:
        """A hash of everything that decides how inputs are encoded."""

    def encode(self, inputs: Sequence[Any], /) -> list[list[int]]:
        """Ids of each input, without special tokens."""

    def decode(self, ids: Sequence[int], /) -> Any:
        """The input of ids; special tokens are left out."""

    def save(
        self, folder: Path, /, *, mask: bool = False, named: bool = True, length: int | None = None
    ) -> None:
        """Writes the files that it is loaded from; options are those of a `TextTokenizer`."""
