"""Several tokens per pass for a trained model: train heads, build the tree, measure, export.

    model --> its own samples --> heads --> ranks on held-out text --> tree --> measured folder

A stage that is on disk is not made again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import ValidationError, model_validator

from lookaround import __version__
from lookaround.decode.hub import GENERATE, SPECULATION_FILE
from lookaround.decode.speculative import Speculator, set_precision
from lookaround.model.backbone import Backbone
from lookaround.model.card import write_card
from lookaround.model.export import export
from lookaround.model.fingerprint import model_fingerprint
from lookaround.objectives.contract import Mode
from lookaround.report.schema import SpeculationResults
from lookaround.studies.events import Report, silent
from lookaround.studies.folder import KINDS, StudyFolder
from lookaround.studies.speculate.calibration import (
    Calibration,
    StoredCalibration,
    calibrate,
    frequent_shortlist,
)
from lookaround.studies.speculate.heads import train_heads
from lookaround.studies.speculate.measure import (
    StoredSpeed,
    StoredTexts,
    compare_texts,
    measure_speed,
    next_token_bits,
    same_in_float64,
)
from lookaround.studies.speculate.reference import (
    copy_tokenizer,
    open_reference,
    require_same_export,
)
from lookaround.studies.speculate.request import Speculation
from lookaround.studies.speculate.samples import own_samples
from lookaround.studies.speculate.stages import Stages
from lookaround.support.errors import Interrupted, UserError
from lookaround.support.records import Amount, Stored, amiss
from lookaround.support.storage import remove_folder, write_folder
from lookaround.train.loop import StopSignal, autocast_dtype, stop_on_signals


class StoredState(Stored):
    """What speculate.yaml says besides the identity."""

    status: Literal["running", "finished"]
    result: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _finished_has_a_result(self) -> Self:
        try:
            if self.status == "finished":
                SpeculationResults.of(self.result or {})
        except ValidationError as error:
            raise ValueError(f"result: {amiss(SpeculationResults, error)}") from None
        return self


def speculate(
    request: Speculation, out: Path, *, stop: StopSignal | None = None, report: Report = silent
) -> SpeculationResults:
    """Trains, measures and exports into `out`; returns what was measured.

    The same call resumes a stopped one.

    Raises UserError where `out` belongs to another model, text or settings or another process is at
    work in it; Interrupted after saving when `stop` is set.
    """
    folder = StudyFolder(out, *KINDS["speculate"], _identity(request), StoredState)
    with folder.opened() as before, stop_on_signals() as signals:
        if before.get("status") != "finished":
            folder.save(status="running")
            stages = Stages(out / "work", stop or signals, report)
            try:
                result = _speculate(request, folder, stages)
            except KeyboardInterrupt:
                raise Interrupted(
                    f"{out}: stopped{stages.at and f' in {stages.at}'}; the same command goes on "
                    "from there"
                ) from None
            folder.save(status="finished", result=result)
        remove_folder(out / "work")
        _require_measured(folder, request)
        return SpeculationResults.of(folder.state["result"])


def _require_measured(folder: StudyFolder, request: Speculation) -> None:
    """Raises UserError where a finished folder was measured in another way than asked for."""
    asked = request.settings.speculate.measure
    found = folder.state["result"].get("measure", "full")
    if found != asked:
        raise UserError(
            f"{folder.path}: is finished, measured '{found}'; give --measure {found}, or another "
            f"--out to measure '{asked}'"
        )


def _speculate(request: Speculation, folder: StudyFolder, stages: Stages) -> dict[str, Any]:
    """What was measured, once the model is in the folder."""
    settings, work, tell = request.settings, stages.folder, stages.tell
    backbone = request.run.backbone
    with stages.timed("bits"):
        bits = stages.kept("bits", [], Amount | None, partial(next_token_bits, request, backbone))
        quality = {"bits_per_byte": bits}
    samples: list[tuple[np.ndarray, int]] = []
    if request.kind is not None:
        with stages.timed("sampling"):
            samples = own_samples(settings, request.run, request.train, work, tell)
        clock = time.monotonic()
        backbone = train_heads(request, samples, work, stages.stop, stages.report)
        stages.seconds["training"] = time.monotonic() - clock
    backbone.eval()
    backbone.requires_grad_(False)
    if settings.speculate.joint:
        with stages.timed("bits"):
            after = stages.kept(
                "bits-joint", [], Amount | None, partial(next_token_bits, request, backbone)
            )
            quality = {"bits_per_byte_before": bits, "bits_per_byte": after}
    written = work / "model"
    # what it is compared with: its source, as transformers alone loads it
    source = None if settings.speculate.joint else request.reference
    with stages.timed("export"):
        _write_model(written, request, backbone)
        require_same_export(written, source, backbone, request.measure[:8])
    dtype = (
        autocast_dtype(settings.model.precision, backbone.width, backbone.device) or torch.float32
    )
    set_precision(backbone, dtype)  # that is timed and measured
    prompts, batches = request.asked(request.measure), request.batches
    depends = [settings.speculate.measure, batches, settings.speculate.rounds, str(dtype)]

    def calibrated() -> dict[str, Any]:
        shortlist = frequent_shortlist(request, samples)
        return calibrate(request, backbone, shortlist, tell).as_json()

    with stages.timed("calibration"):
        calibration = Calibration.of_json(
            stages.kept("calibration", depends, StoredCalibration, calibrated)
        )
    speculator = Speculator(
        backbone, calibration.trees, shortlist=calibration.shortlist, checked=True
    )
    with stages.timed("measurement"):
        reference = open_reference(source or written, backbone, dtype)
        measured = (request, speculator, reference, tell)
        by_batch = [
            stages.kept(
                f"speed-{batch}", depends, StoredSpeed, partial(measure_speed, *measured, batch)
            )
            for batch in batches
        ]
        texts = stages.kept("texts", depends, StoredTexts, partial(compare_texts, *measured))
        same = texts["flips"] == 0
        if not request.own_precision:
            same = stages.kept("float64", depends, bool, partial(same_in_float64, *measured))
    precision = str(dtype).removeprefix("torch.")
    paying = [entry["batch"] for entry in by_batch if (entry["interval"] or [0])[0] > 1]
    result = {
        "lookaround": __version__,
        "model": request.source,
        "corpus": request.corpus,
        "heads": {"kind": backbone.look_ahead.kind, "depths": speculator.depths},
        "drafted_tokens": None if calibration.shortlist is None else len(calibration.shortlist),
        "plain": {"tokens_per_second": by_batch[0]["plain_tokens_per_second"]},
        "speculative": {
            **texts,
            "tokens_per_second": by_batch[0]["speculative_tokens_per_second"],
            "identical": same,
            "precision_compared": precision if request.own_precision else "float64",
            "own_precision": request.own_precision or None,
        },
        "precision": precision,
        "prompts": len(prompts),
        "new_tokens": settings.speculate.new_tokens,
        "measure": settings.speculate.measure,
        "by_batch": by_batch,
        "pays_up_to_batch": max(paying, default=None),
        **quality,
        "expected_tokens_per_forward": calibration.expected,
        "trees": {str(batch): len(tree) for batch, tree in calibration.trees.items() if len(tree)},
        "accuracies": calibration.accuracies,
        "costs": [dataclasses.asdict(cost) for cost in calibration.costs],
        "spent": stages.seconds,
    }
    figures = {
        "tokens per forward": f"{texts['tokens_per_forward']:.2f}",
        f"times transformers, {batches[0]} at a time": f"{by_batch[0]['speedup']:.2f}",
        "bits per byte of the next token": quality["bits_per_byte"],
    }

    def fill(into: Path) -> None:
        _publish(into, written, request, calibration, precision)
        write_card(
            into, corpus=request.corpus, fingerprint=folder.identity["corpus"], figures=figures
        )

    folder.publish(fill)
    return result


def _identity(request: Speculation) -> dict[str, Any]:
    """What must stay the same for a folder to resume: weights, text and settings."""
    digest = hashlib.sha256(json.dumps(request.test).encode())
    for ids in (*request.train, *(request.calibrate + request.measure if request.train else ())):
        digest.update(np.asarray(ids, dtype=np.int64).tobytes() + b"\0")
    return {
        "model": model_fingerprint(request.source),
        "corpus": digest.hexdigest(),
        "context": request.run.context,
        "settings": request.settings.identity(
            "seed", "data", "model.precision", "train", "speculate"
        ),
    }


def _write_model(folder: Path, request: Speculation, backbone: Backbone) -> None:
    """Writes the model, its heads and its tokenizer, as the source has it, into a new folder."""

    def fill(into: Path) -> None:
        mask = request.run.codec.vocabulary.mask
        export(backbone, into, (Mode("causal", 1),), mask=mask, context=request.context)
        copy_tokenizer(request.source, into)

    write_folder(folder, fill)


def _publish(
    into: Path, written: Path, request: Speculation, calibration: Calibration, precision: str
) -> None:
    """Fills a folder with the written model, its trees, and what transformers asks to use them."""
    shutil.copytree(written, into, dirs_exist_ok=True)
    trees = {str(batch): tree.paths for batch, tree in calibration.trees.items()}
    described = {
        "trees": trees,
        "largest": calibration.largest.paths,
        "shortlist": calibration.shortlist,
        "vocabulary": request.run.backbone.unembedding.weight.shape[0],
        "expected_tokens_per_forward": calibration.expected,
        "precision": precision,
        "source": request.source,
        "settings": request.settings.model_dump(),
    }
    (into / SPECULATION_FILE).write_text(json.dumps(described, indent=1) + "\n")
    (into / "custom_generate").mkdir()
    (into / "custom_generate" / "generate.py").write_text(GENERATE)
