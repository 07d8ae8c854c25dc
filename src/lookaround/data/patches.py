"""Pictures as tokens: the codec of grey levels and of codebooks of patches.

A picture is BOS and its patches' codes, row by row. N pictures, H x W pixels, P codes of a picture,
K codes in all, p pixels a side of a patch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from lookaround.objectives.contract import Vocabulary
from lookaround.support.errors import UserError

CODEBOOK_FILE = "codebook.safetensors"
GREY_LEVELS = 16  # where patches are single pixels and more levels are in use
EXACT_LEVELS = 64  # so many different grey levels are codes as they are
CODES = 128  # of a codebook of patches
FITTED_PATCHES = 200_000  # that k-means is fitted on, at most
CHUNK = 1 << 16  # patches that are coded at a time


class PatchCodec:
    """The codec of pictures of one size: each patch is the nearest of K (data/codec.py).

    codebook: (K, p * p) float32, grey values from 0 to 255. Ids 0 to K - 1 are codes, K is BOS, K +
        1 the mask; no token ends a picture.
    height, width: pixels of a picture; patch: pixels a side of a patch.
    rows: ids in all, as `size`; of text 1 + the largest that a text can hold.
    lost: share of the variance of the training pictures that coding alone loses.
    """

    unit = "pixel"
    eos: int | None = None
    pad: int | None = None

    def __init__(
        self, codebook: np.ndarray, height: int, width: int, patch: int, lost: float = 0.0
    ) -> None:
        self.codebook, self.lost = codebook, lost
        self.height, self.width, self.patch = height, width, patch
        self.bos = len(codebook)
        mask = self.bos + 1
        self.size = self.rows = mask + 1
        self.vocabulary = Vocabulary(self.size, mask, (self.bos, mask))
        self.units = np.full(self.size, patch * patch, dtype=np.int64)
        self.units[[self.bos, mask]] = 0

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.height // self.patch, self.width // self.patch

    @property
    def length(self) -> int:
        """Tokens of a picture with its BOS."""
        rows, columns = self.grid
        return rows * columns + 1

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides how pictures are coded."""
        sizes = f"{self.height} {self.width} {self.patch} {self.codebook.shape}"
        return hashlib.sha256(sizes.encode() + self.codebook.tobytes()).hexdigest()

    @property
    def notes(self) -> list[str]:
        """What coding means for results, one sentence each."""
        rows, columns = self.grid
        each = f"{self.patch} x {self.patch} pixels" if self.patch > 1 else "one pixel"
        count = len(self.codebook)
        kind = f"a k-means codebook of {count}" if self.patch > 1 else f"{count} grey levels"
        what = (
            f"A picture is {rows} x {columns} codes of {each} each ({kind}), in rows from the top."
        )
        if self.lost > 1e-6:
            what += f" Coding alone loses {self.lost:.1%} of the variance of the pixels."
        return [what]

    def codes(self, pixels: np.ndarray) -> np.ndarray:
        """Ids (N, P) int64 of pictures (N, H, W); among patches equally near the first."""
        patches = cut(pixels, self.patch)
        found = np.empty(len(patches), dtype=np.int64)
        squares = (self.codebook**2).sum(1)
        for begin in range(0, len(patches), CHUNK):
            part = patches[begin : begin + CHUNK].astype(np.float32)
            found[begin : begin + CHUNK] = (squares - 2 * part @ self.codebook.T).argmin(1)
        return found.reshape(len(pixels), -1)

    def tokens(self, pixels: np.ndarray, dtype: Any = np.int64) -> np.ndarray:
        """Tokens (N, T) of pictures (N, H, W), BOS first."""
        tokens = np.full((len(pixels), self.length), self.bos, dtype=dtype)
        tokens[:, 1:] = self.codes(pixels)
        return tokens

    def encode(self, inputs: Sequence[np.ndarray]) -> list[list[int]]:
        """Ids (P,) of each picture (H, W) uint8, without BOS."""
        return self.codes(np.stack(inputs)).tolist() if len(inputs) else []

    def decode(self, ids: Sequence[int]) -> np.ndarray:
        """The picture (H, W) uint8 of its first ids; what they leave out is black."""
        rows, columns = self.grid
        codes = [token for token in ids if token < self.bos][: rows * columns]
        patches = np.zeros((rows * columns, self.patch**2), dtype=np.float32)
        patches[: len(codes)] = self.codebook[codes]
        return (
            np.rint(joined(patches[None], self.grid, self.patch)[0]).clip(0, 255).astype(np.uint8)
        )

    def save(
        self, folder: Path, *, mask: bool = False, named: bool = True, length: int | None = None
    ) -> None:
        """Writes the codebook; the other arguments are those of text (data/text.py)."""
        sizes = {"height": self.height, "width": self.width, "patch": self.patch}
        told = {"pictures": json.dumps(sizes), "lost": repr(self.lost)}
        save_file({"codebook": self.codebook}, folder / CODEBOOK_FILE, metadata=told)


def load_patches(folder: Path) -> PatchCodec:
    """The codec that a folder holds; raises UserError for a damaged one."""
    file = folder / CODEBOOK_FILE
    try:
        with safe_open(file, "np") as handle:
            told, codebook = handle.metadata() or {}, handle.get_tensor("codebook")
        sizes, lost = json.loads(told["pictures"]), float(told["lost"])
        height, width, patch = (sizes[name] for name in ("height", "width", "patch"))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise UserError(f"{file}: truncated or foreign file ({reason})") from None
    whole = all(type(size) is int and size > 0 for size in (height, width, patch))
    if (
        not whole
        or height % patch
        or width % patch
        or codebook.dtype != np.float32
        or codebook.ndim != 2
        or codebook.shape[1] != patch * patch
        or len(codebook) < 2
        or not ((codebook > -1) & (codebook < 256)).all()
        or not 0 <= lost <= 1e9
    ):
        raise UserError(
            f"{file}: no codebook of patches: {codebook.dtype} {codebook.shape} for pictures of "
            f"{height} x {width} in patches of {patch}"
        )
    return PatchCodec(codebook, height, width, patch, lost)


def cut(pixels: np.ndarray, patch: int) -> np.ndarray:
    """The patches (N * P, p * p) of pictures (N, H, W), row by row."""
    count, height, width = pixels.shape
    parts = pixels.reshape(count, height // patch, patch, width // patch, patch)
    return parts.transpose(0, 1, 3, 2, 4).reshape(-1, patch * patch)


def joined(patches: np.ndarray, grid: tuple[int, int], patch: int) -> np.ndarray:
    """Pictures (N, H, W) of patches (N, P, p * p)."""
    rows, columns = grid
    parts = patches.reshape(-1, rows, columns, patch, patch)
    return parts.transpose(0, 1, 3, 2, 4).reshape(-1, rows * patch, columns * patch)


def default_patch(height: int, width: int) -> int:
    """1 for small pictures, else the largest of 4, 2 and 1 that divides both sides."""
    if height * width <= 16 * 16:
        return 1
    return next(side for side in (4, 2, 1) if height % side == 0 and width % side == 0)


def require_patch(height: int, width: int, patch: int, name: str) -> None:
    """Raises UserError for patches that do not divide the pictures, or make one token of them."""
    if height % patch or width % patch or height * width <= patch * patch:
        sides = [s for s in _divisors(height, width) if height * width > s * s]
        if not sides:
            raise UserError(
                f"{name}: pictures of {height} x {width} pixels are no row of tokens; give larger "
                "ones"
            )
        raise UserError(
            f"{name}: pictures of {height} x {width} pixels do not divide into patches of {patch}; "
            f"give data.patch {' or '.join(map(str, sides))}"
        )


def _divisors(height: int, width: int) -> Iterator[int]:
    return (side for side in range(1, 33) if height % side == 0 and width % side == 0)


def fitted(
    pixels: np.ndarray, patch: int, codes: int | None, *, seed: int, name: str
) -> PatchCodec:
    """The codec fitted on training pictures (N, H, W) uint8, the same for the same seed.

    Single pixels: the grey levels in use where they are few, else `codes` levels (16) evenly
    spread. Patches: k-means of `codes` (128).

    Raises UserError for patches that do not divide the pictures, and for fewer different patches
    than codes.
    """
    _, height, width = pixels.shape
    require_patch(height, width, patch, name)
    if patch == 1:
        levels = np.unique(pixels)
        if codes is not None and codes > len(levels):
            raise UserError(
                f"{name}: its training pictures have {len(levels):,} grey levels, fewer than the "
                f"{codes:,} codes of data.vocabulary; leave that out"
            )
        if codes is not None or len(levels) > EXACT_LEVELS:
            wanted = codes or GREY_LEVELS
            levels = np.linspace(0, 255, wanted) if len(levels) > wanted else levels
        codebook = levels.astype(np.float32)[:, None]
    else:
        codebook = _k_means(cut(pixels, patch), codes or CODES, seed, name)
    if codes == 1:
        raise UserError(f"data.vocabulary: {codes} code says nothing of pictures; give 2 or more")
    if len(codebook) < 2:
        raise UserError(f"{name}: all training pictures are of one grey level; nothing to predict")
    codec = PatchCodec(codebook, height, width, patch)
    codec.lost = _lost(codec, pixels)
    return codec


def _k_means(patches: np.ndarray, codes: int, seed: int, name: str) -> np.ndarray:
    """Centres (K, p * p) of patches, brightest last."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    generator = np.random.default_rng(seed)
    if len(patches) > FITTED_PATCHES:
        patches = patches[np.sort(generator.permutation(len(patches))[:FITTED_PATCHES])]
    different = len(np.unique(patches, axis=0))
    if different < codes:
        raise UserError(
            f"{name}: its training pictures have {different:,} different patches, fewer than the "
            f"codebook of {codes}; give data.vocabulary {max(2, different // 2)} or smaller, or "
            "more pictures"
        )
    with threadpool_limits(1):  # sums of several threads differ, and so would centres
        found = KMeans(codes, n_init=1, max_iter=50, random_state=seed)
        found.fit(patches.astype(np.float32))
    centres = found.cluster_centers_.astype(np.float32)
    return centres[np.argsort(centres.mean(1), kind="stable")]


def _lost(codec: PatchCodec, pixels: np.ndarray) -> float:
    """The share of the variance of pixels that coding loses, of 10,000 pictures at most."""
    some = pixels[:: -(-len(pixels) // 10_000)]
    shown = codec.codebook[codec.codes(some).ravel()]
    error = float(((shown - cut(some, codec.patch)) ** 2).mean())
    return error / max(float(some.var()), 1e-9)
