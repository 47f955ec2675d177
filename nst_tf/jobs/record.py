"""The record of a job, `run.json`."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nst_tf
from nst_tf import system
from nst_tf.config import Config
from nst_tf.events import Losses
from nst_tf.jobs.estimate import ResourceEstimate
from nst_tf.jobs.provenance import Facts

if TYPE_CHECKING:
    from nst_tf.engine.stylizer import Result


def read_record(folder: Path) -> Mapping[str, Any]:
    """Reads the record of the last job in a run folder.

    Args:
        folder: The run folder.

    Returns:
        The content of `run.json`; empty where there is none that can be read.
    """
    with contextlib.suppress(OSError, ValueError):
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        if isinstance(record, dict):
            return record
    return {}


def make_record(
    config: Config,
    result: "Result",
    losses: Losses,
    *,
    scored: bool,
    finished: bool,
    seconds: float,
    seconds_checkpointing: float,
    estimate: ResourceEstimate,
    fingerprint: Facts,
    output_sha256: str,
) -> dict[str, Any]:
    """Collects the figures of a job.

    Args:
        config: All settings.
        result: What the optimization gave.
        losses: Of the result.
        scored: Whether they are computed of the saved file, and not taken from the last evaluation.
        finished: Whether the job ran to its end.
        seconds: Time of the whole job.
        seconds_checkpointing: The part of it spent on checkpoints.
        estimate: What the job was expected to take.
        fingerprint: What the result depends on.
        output_sha256: The SHA-256 of the image file, by which it is recognized.

    Returns:
        Plain values, as JSON holds them.
    """
    height, width = result.image.shape[:2]
    return {
        "finished": finished,
        "loss": losses.total,
        "content_loss": losses.content,
        "style_loss": losses.style,
        "grain_loss": losses.grain,
        "tv_loss": losses.tv,
        "loss_of": "the saved image, in float32" if scored else "the last evaluation",
        "iterations": result.iterations,
        "evaluations": result.evaluations,
        "seconds": round(seconds, 3),
        "seconds_stylizing": round(result.seconds, 3),
        "seconds_evaluating": round(result.seconds_evaluating, 3),
        "seconds_checkpointing": round(seconds_checkpointing, 3),
        "peak_memory_bytes": system.peak_memory(),
        "peak_memory_bytes_expected": estimate.memory_bytes,
        "tile_size": estimate.tile_size,
        "stop_reason": str(result.stop_reason),
        "precision": result.precision,
        "device": result.device,
        "weights_sha256": fingerprint["weights"],
        "versions": {"nst_tf": nst_tf.__version__, **system.versions()},
        "processor": system.processor(),
        "seed": config.seed,
        "image_size": [width, height],
        "output_sha256": output_sha256,
        "fingerprint": dict(fingerprint),
    }
