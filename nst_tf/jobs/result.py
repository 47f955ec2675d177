"""The result of a job, as plain data."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nst_tf.events import Losses

Resume = bool | Literal["same"]
"""Whether a job goes on with a run that is there already: False, True, or "same" for only a run of
the very same settings and inputs, beside which others do not matter."""

Status = Literal["finished", "stopped", "failed", "nothing to do"]


@dataclass(frozen=True)
class JobResult:
    """What became of a job.

    Attributes:
        path: The image file; None where the job was stopped before there was an image.
        record: The content of `run.json`; empty where the job was stopped before there was an
            image.
        losses: The losses of the file as it is read back, in float32; None where nothing was
            computed.
        status: "finished"; "stopped" on request and "failed" numerically, both with the best image
            so far; "nothing to do" where the job to resume was finished before.
        failure: What failed numerically; empty otherwise.
    """

    path: Path | None
    record: Mapping[str, Any]
    losses: Losses | None
    status: Status
    failure: str = ""
