"""Path-star graphs: which of several arms leads to the goal?"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace

import numpy as np

from lookaround.studies.synthetic.tasks.base import GOLDEN, Drawn, Task, uniform
from lookaround.support.randomness import mix64

MOST_LABELS = 10_000


@dataclass(frozen=True)
class PathStar(Task):
    """The path-star graph G(degree, length) (Bachmann & Nagarajan 2024, arXiv 2403.06963).

    `degree` arms leave a start node; a path has `length` nodes with the start, so that there are
    degree (length - 1) edges and as many nodes beside the start. A row reads
    `a,b|c,d|..|y,z/start,goal=start,n2,..,goal`, where commas are not tokens; edges point away from
    the start. The second node of the answer is the decision: which arm leads to the goal.

    labels: how many labels nodes are drawn from; None is two for each node.
    query: "after" the edges, or "before": `start,goal/` stands in front of them.
    edges: "shuffled", or "arm": arm by arm, with the arms shuffled.
    hop: the answer ends with the decision, a control that leaves nothing else to learn.
    """

    degree: int
    length: int
    _: KW_ONLY
    labels: int | None = None
    query: str = "after"
    edges: str = "shuffled"
    hop: bool = False

    name = "pathstar"
    about = (
        "Several arms leave a node, and the answer is the way to the end of one of them. All but "
        "one of its tokens can be copied, each from the one before it; the second takes looking "
        "ahead to the goal. A model trained to say the next token learns to copy first, and then "
        "nothing in its loss says which arm (Bachmann and Nagarajan 2024)."
    )
    decision = 1
    copied = True
    larger = "give it more labels"

    def __post_init__(self) -> None:
        self.require(
            self.degree >= 2, "degree", "2 or more: with one arm there is nothing to choose"
        )
        self.require(
            self.length >= 2, "length", "2 or more: it counts the nodes of a path with the start"
        )
        self.require(self.query in ("after", "before"), "query", "'after' or 'before'")
        self.require(self.edges in ("shuffled", "arm"), "edges", "'shuffled' or 'arm'")
        enough = self.labels is None or self.nodes <= self.labels <= MOST_LABELS
        self.require(enough, "labels", f"{self.nodes} (its nodes) to {MOST_LABELS}")

    @property
    def nodes(self) -> int:
        return self.degree * (self.length - 1) + 1

    @property
    def symbols(self) -> int:
        """How many labels nodes are drawn from."""
        return max(2 * self.nodes, 4) if self.labels is None else self.labels

    @property
    def title(self) -> str:
        return "G" + self.spec.removeprefix(self.name)

    @property
    def control(self) -> PathStar | None:
        return None if self.hop else replace(self, hop=True)

    @property
    def chance(self) -> float:
        return 1 / self.degree

    @property
    def prompt(self) -> int:
        return 3 * (self.nodes - 1) + 3

    @property
    def answer(self) -> int:
        return 2 if self.hop else self.length

    @property
    def words(self) -> tuple[str, ...]:
        return (*map(str, range(self.symbols)), "|", "=", "/")

    def draw(self, seed: int, number: np.ndarray, attempt: int) -> Drawn:
        edges, labels = self.nodes - 1, self.symbols
        drawn = uniform(seed, number, attempt, labels + edges + 1)
        nodes = np.argsort(drawn[:, :labels], axis=1, kind="stable")[:, : self.nodes]
        start = nodes[:, :1]
        arms = nodes[:, 1:].reshape(-1, self.degree, self.length - 1)
        paths = np.concatenate([np.broadcast_to(start[:, :, None], (*arms.shape[:2], 1)), arms], 2)
        pairs = np.stack([paths[:, :, :-1], arms], -1)  # (B, degree, length - 1, 2)
        if self.edges == "shuffled":
            order = np.argsort(drawn[:, labels : labels + edges], axis=1, kind="stable")
            pairs = np.take_along_axis(pairs.reshape(-1, edges, 2), order[:, :, None], 1)
        # labels are drawn at random, so that the arms already stand in random order
        goal_arm = (drawn[:, -1] * self.degree).astype(np.int64)
        path = np.take_along_axis(paths, goal_arm[:, None, None], 1)[:, 0]
        bar, equals, slash = range(labels, labels + 3)
        triples = np.full((len(number), edges, 3), bar)
        triples[:, :, :2] = pairs.reshape(-1, edges, 2)
        listed = triples.reshape(len(number), -1)
        asked = np.concatenate([path[:, :1], path[:, -1:]], 1)
        column = np.ones((len(number), 1), dtype=np.int64)
        prompt = [listed[:, :-1], slash * column, asked]
        parts = prompt if self.query == "after" else prompt[::-1]
        parts += [equals * column, path[:, : self.answer]]
        return Drawn(np.concatenate(parts, 1), _star_key(start[:, 0], arms))


def _star_key(start: np.ndarray, arms: np.ndarray) -> np.ndarray:
    """A hash of the graph: its start and the set of its arms, whatever their order."""
    with np.errstate(over="ignore"):
        key = np.zeros(arms.shape[:2], dtype=np.uint64)
        for place in range(arms.shape[2]):
            key = mix64(key * GOLDEN + arms[:, :, place].astype(np.uint64) + np.uint64(1))
        return mix64(key.sum(1) + mix64(start.astype(np.uint64) + np.uint64(0x632BE59BD9B4E019)))
