"""Finds the state of a job that was interrupted, and whether it may be continued."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nst_tf.errors import InputError, warn
from nst_tf.jobs import checkpoint
from nst_tf.jobs.checkpoint import Checkpoint
from nst_tf.jobs.provenance import Facts, differences


def find_interrupted(folder: Path, fingerprint: Facts, environment: Facts) -> Checkpoint | None:
    """Finds the checkpoint that a job continues from.

    Args:
        folder: The run folder.
        fingerprint: Of the job.
        environment: Of this process; a warning names what differs from that of the checkpoint.

    Returns:
        The newest checkpoint; None where the job is finished already.

    Raises:
        InputError: There is nothing to resume, or it is another job.
    """
    found = checkpoint.newest(folder)
    if found is None:
        record = read_record(folder)
        if not record.get("finished"):
            raise InputError(
                "there is nothing to resume",
                "the folder has no checkpoint",
                "start without --resume",
                where=folder,
            )
        # Records before version 0.2 say "identity".
        _check_same(record.get("fingerprint", record.get("identity", {})), fingerprint, folder)
        return None
    _check_same(found.fingerprint, fingerprint, folder)
    if changed := differences(found.environment, environment):
        warn(f"the continuation will not be bit-identical: {changed} changed")
    return found


def warn_of_unfinished(folder: Path, fingerprint: Facts) -> None:
    """Warns where a new job could have continued an interrupted one.

    Args:
        folder: The run folder.
        fingerprint: Of the job.
    """
    with contextlib.suppress(InputError):
        found = checkpoint.newest(folder)
        if found is not None and not differences(found.fingerprint, fingerprint):
            warn(f"beginning anew; --resume would go on after {found.iterations} iterations")


def next_number(folder: Path) -> int:
    """Returns a number for the next checkpoint, higher than that of all checkpoints there are."""
    with contextlib.suppress(InputError):
        if last := checkpoint.newest(folder):
            return last.number + 1
    return 0


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


def _check_same(saved: Facts, fingerprint: Facts, folder: Path) -> None:
    if changed := differences(saved, fingerprint):
        raise InputError(
            "this is not the run that was interrupted",
            f"it differs in {changed}",
            "give the same settings and files, or start without --resume",
            where=folder,
        )
