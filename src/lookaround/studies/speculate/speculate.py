"""Several tokens per pass for a trained model: train heads, build the tree, measure, export.

    model --> its own samples --> heads --> ranks on held-out text --> tree --> measured folder

Everything but the measurement resumes: a stage that is on disk is not made again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lookaround import __version__
from lookaround.decode.hub import GENERATE, SPECULATION_FILE
from lookaround.decode.speculative import Speculator
from lookaround.model.backbone import Backbone
from lookaround.model.export import export
from lookaround.model.fingerprint import model_fingerprint
from lookaround.objectives.contract import Mode
from lookaround.report.schema import SpeculationResults
from lookaround.studies.events import Event, Report, silent
from lookaround.studies.folder import StudyFolder
from lookaround.studies.speculate.heads import train_heads
from lookaround.studies.speculate.measure import (
    Calibration,
    calibrate,
    frequent_shortlist,
    measure,
    next_token_bits,
)
from lookaround.studies.speculate.request import Speculation
from lookaround.studies.speculate.samples import own_samples
from lookaround.support.errors import Interrupted
from lookaround.support.storage import make_folder
from lookaround.train.loop import StopSignal, autocast_dtype, stop_on_signals

STATE_FILE = "speculate.yaml"


def speculate(
    request: Speculation, out: Path, *, stop: StopSignal | None = None, report: Report = silent
) -> SpeculationResults:
    """Trains, measures and exports into `out`; returns what was measured.

    The same call resumes a stopped one.

    Raises UserError where `out` belongs to another model, text or settings or another process is at
    work in it; Interrupted after saving when `stop` is set.
    """
    folder = StudyFolder(out, STATE_FILE, "made by speculate", _identity(request))
    with folder.opened() as before, stop_on_signals() as signals:
        if before.get("status") != "finished":
            folder.save(status="running")
            result = _speculate(request, folder, stop or signals, report)
            folder.save(status="finished", result=result)
            shutil.rmtree(out / "work", ignore_errors=True)
        return SpeculationResults.of(folder.state["result"])


def _speculate(
    request: Speculation, folder: StudyFolder, stop: StopSignal, report: Report
) -> dict[str, Any]:
    """What was measured, once the model is in the folder."""

    def tell(stage: str, done: int, total: int, note: str = "") -> None:
        """Reports; raises Interrupted where asked to stop."""
        report(Event(stage, done, total, note))
        if stop.set:
            raise Interrupted(
                f"{folder.path}: stopped in {stage}; the same command goes on from there"
            )

    work = folder.path / "work"
    make_folder(work)
    backbone = request.run.backbone
    spent: dict[str, float] = {}
    quality = {"bits_per_byte": next_token_bits(request, backbone)}
    samples: list[tuple[np.ndarray, int]] = []
    if request.kind is not None:
        clock = time.monotonic()
        samples = own_samples(request.settings, request.run, request.train, work, tell)
        spent["sampling"] = time.monotonic() - clock
        clock = time.monotonic()
        backbone = train_heads(request, samples, work, stop, report)
        spent["training"] = time.monotonic() - clock
    backbone.eval()
    backbone.requires_grad_(False)
    if request.settings.speculate.joint:
        quality = {
            "bits_per_byte_before": quality["bits_per_byte"],
            "bits_per_byte": next_token_bits(request, backbone),
        }
    dtype = (
        autocast_dtype(request.settings.model.precision, backbone.width, backbone.device)
        or torch.float32
    )
    weights = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    backbone.to(dtype)  # the precision that is timed and measured
    clock = time.monotonic()
    calibration = calibrate(request, backbone, frequent_shortlist(request, samples), tell)
    spent["calibration"] = time.monotonic() - clock
    speculator = Speculator(
        backbone, calibration.trees, shortlist=calibration.shortlist, checked=True
    )
    clock = time.monotonic()
    result = measure(request, speculator, tell)
    spent["measurement"] = time.monotonic() - clock
    result = {
        "lookaround": __version__,
        "model": str(request.source),
        "corpus": request.corpus,
        "heads": {"kind": backbone.head_specs[0].kind, "depths": speculator.depths},
        "drafted_tokens": None if calibration.shortlist is None else len(calibration.shortlist),
        **result,
        **quality,
        "expected_tokens_per_forward": calibration.expected,
        "trees": {str(batch): len(tree) for batch, tree in calibration.trees.items()},
        "accuracies": np.round(calibration.accuracies, 4).tolist(),
        "costs": [dataclasses.asdict(cost) for cost in calibration.costs],
        "spent": spent,
    }
    backbone.to(torch.float32).load_state_dict(weights)  # saved in full precision
    folder.publish(lambda into: _write_model(into, request, backbone, calibration, result))
    return result


def _identity(request: Speculation) -> dict[str, Any]:
    """What must stay the same for a folder to resume: weights, text and settings."""
    digest = hashlib.sha256(json.dumps(request.test).encode())
    for ids in (*request.train, *(request.calibrate + request.measure if request.train else ())):
        digest.update(np.asarray(ids, dtype=np.int64).tobytes() + b"\0")
    return {
        "model": model_fingerprint(str(request.source)),
        "corpus": digest.hexdigest(),
        "context": request.run.context,
        "settings": request.settings.identity(
            "seed", "data", "model.precision", "train", "speculate"
        ),
    }


def _write_model(
    folder: Path,
    request: Speculation,
    backbone: Backbone,
    calibration: Calibration,
    result: dict[str, Any],
) -> None:
    export(backbone, folder, (Mode("causal", 1),), mask=request.run.tokenizer.vocabulary.mask)
    _copy_tokenizer(request, folder)
    described = {
        "trees": {
            str(batch): [list(path) for path in tree.paths]
            for batch, tree in calibration.trees.items()
        },
        "largest": [list(path) for path in calibration.largest.paths],
        "shortlist": calibration.shortlist,
        "vocabulary": backbone.unembedding.weight.shape[0],
        "expected_tokens_per_forward": calibration.expected,
        "precision": result["precision"],
        "source": str(request.source),
        "settings": request.settings.model_dump(),
    }
    (folder / SPECULATION_FILE).write_text(json.dumps(described, indent=1) + "\n")
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(GENERATE)


def _copy_tokenizer(request: Speculation, folder: Path) -> None:
    """Copies the tokenizer's files unchanged, without tokens that were added for training."""
    for name in (
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "vocab.json",
        "merges.txt",
        "tokenizer.model",
    ):
        if (request.source / name).is_file():
            shutil.copyfile(request.source / name, folder / name)
