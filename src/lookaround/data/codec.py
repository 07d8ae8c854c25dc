"""What rows, tasks and evaluation need to know of tokens; text is one kind of them, images another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lookaround.objectives.contract import Vocabulary

__all__ = ["Codec"]


class Codec(Protocol):
    """Turns inputs (texts, images) into token ids and back. `TextTokenizer` is the one for text."""

    @property
    def vocabulary(self) -> Vocabulary:
        """Its size, its mask token and its special tokens."""
        ...

    @property
    def size(self) -> int:
        """Number of token ids."""
        ...

    @property
    def bos(self) -> int:
        """The token that every document starts with."""
        ...

    @property
    def eos(self) -> int | None:
        """The token that ends a document, if there is one."""
        ...

    @property
    def pad(self) -> int | None:
        """The token that fills rows up; None: BOS does."""
        ...

    @property
    def unit(self) -> str:
        """What `units` counts: "byte" of text."""
        ...

    @property
    def units(self) -> np.ndarray:
        """Units that each token stands for, (size,) int64; 0 for special tokens."""
        ...

    @property
    def fingerprint(self) -> str:
        """A hash of everything that decides how inputs are encoded."""
        ...

    def encode(self, inputs: Sequence[Any], /) -> list[list[int]]:
        """Ids of each input, without special tokens."""
        ...

    def decode(self, ids: Sequence[int], /) -> Any:
        """The input of ids; special tokens are left out."""
        ...

    def save(self, folder: Path, /) -> None:
        """Writes the files that it is loaded from."""
        ...
