"""Trackers: they hear the lines of metrics.jsonl, and lie beside them in the run's folder.

They write to the disk alone unless their own environment variables name a server (WANDB_MODE,
MLFLOW_TRACKING_URI). A tracker that fails ends, and the run goes on.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from lookaround.support.errors import UserError
from lookaround.support.text import one_line

Metrics = Mapping[str, float]


class Tracker(Protocol):
    """What hears of a run while it trains; called in the main process, in order of steps."""

    def write(self, metrics: Metrics) -> None:
        """A line of metrics.jsonl: "step" and the numbers of that step."""

    def close(self) -> None:
        """The run has ended, or stops here."""


class _TensorBoard:
    """Event files in FOLDER/tensorboard; points after the step of a resume are left out there."""

    def __init__(self, folder: Path, key: str, step: int, about: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer: Any = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)  # type: ignore[no-untyped-call]

    def write(self, metrics: Metrics) -> None:
        for name, value in metrics.items():
            if name != "step":
                self.writer.add_scalar(name, value, int(metrics["step"]))
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class _Wandb:
    """An offline run in FOLDER/wandb, for `wandb sync`; one id through all resumes."""

    def __init__(self, folder: Path, key: str, step: int, about: Mapping[str, Any]) -> None:
        import wandb

        self.run: Any = wandb.init(
            project="lookaround",
            name=folder.resolve().name,
            id=key,
            resume="allow",
            dir=str(folder),
            config=dict(about),
            mode=os.environ.get("WANDB_MODE", "offline"),  # type: ignore[arg-type]
            settings=wandb.Settings(silent=True, console="off"),
        )

    def write(self, metrics: Metrics) -> None:
        self.run.log(dict(metrics), step=int(metrics["step"]))

    def close(self) -> None:
        self.run.finish()


class _MLflow:
    """A run of the experiment "lookaround" in FOLDER/mlflow.db, the same through all resumes."""

    def __init__(self, folder: Path, key: str, step: int, about: Mapping[str, Any]) -> None:
        from mlflow import MlflowClient

        place = os.environ.get("MLFLOW_TRACKING_URI")
        self.client = MlflowClient(place or f"sqlite:///{folder.resolve() / 'mlflow.db'}")
        known = self.client.get_experiment_by_name("lookaround")
        experiment = known.experiment_id if known else self.client.create_experiment("lookaround")
        found = self.client.search_runs([experiment], f"tags.lookaround = '{key}'")
        run = (
            found[0]
            if found
            else self.client.create_run(
                experiment, tags={"lookaround": key}, run_name=folder.resolve().name
            )
        )
        self.id = run.info.run_id
        if not found:
            for name, value in about.items():
                self.client.log_param(self.id, name, value)

    def write(self, metrics: Metrics) -> None:
        for name, value in metrics.items():
            if name != "step":
                self.client.log_metric(self.id, name, value, step=int(metrics["step"]))

    def close(self) -> None:
        self.client.set_terminated(self.id)


# by the names of their packages
_MADE: dict[str, Callable[[Path, str, int, Mapping[str, Any]], Tracker]] = {
    "tensorboard": _TensorBoard,
    "wandb": _Wandb,
    "mlflow": _MLflow,
}


def installed(package: str) -> bool:
    """Whether a package is there to be imported."""
    return importlib.util.find_spec(package) is not None


def require_trackers(names: Sequence[str]) -> None:
    """Raises UserError for a tracker that is not installed, before any work."""
    for name in names:
        if not installed(name):
            raise UserError(f"pretrain.track: {name} is not installed; pip install {name}")


class Trackers:
    """Some trackers as one. What fails is left out from there on, and told once.

    key: of the run, the same whenever it is resumed.
    step: that it begins at.
    about: settings of the run, plain values by name.
    told: hears in one sentence of a tracker that has failed.
    """

    def __init__(
        self,
        names: Sequence[str],
        folder: Path,
        key: str,
        step: int,
        about: Mapping[str, Any],
        told: Callable[[str], None],
    ) -> None:
        self.told = told
        self.open: dict[str, Tracker] = {}
        for name in names:
            made = self._try(name, lambda n=name: _MADE[n](folder, key, step, about))  # type: ignore[misc]
            if made is not None:
                self.open[name] = made

    def _try(self, name: str, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except Exception as error:  # of a library, a disk or a network: none is worth a run
            self.open.pop(name, None)
            self.told(f"{name}: tracks no more ({one_line(error) or type(error).__name__})")
            return None

    def write(self, metrics: Metrics) -> None:
        """See `Tracker`."""
        for name, tracker in [*self.open.items()]:
            self._try(name, lambda t=tracker: t.write(metrics))  # type: ignore[misc]

    def close(self) -> None:
        """See `Tracker`."""
        for name, tracker in [*self.open.items()]:
            self._try(name, tracker.close)
        self.open = {}
