"""Runs a job in this process: from image files to an image file and its run folder."""

import json
import math
import shutil
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nst_tf import system
from nst_tf.config import Config
from nst_tf.config.files import to_yaml
from nst_tf.errors import MachineError, NstError, warn
from nst_tf.events import Callback, Failed, Losses, Planned, PlannedLevel, Saved
from nst_tf.image.arrays import quantize
from nst_tf.io import files
from nst_tf.jobs import checkpoint, output
from nst_tf.jobs.callbacks import CallbackList, RunFolderWriter
from nst_tf.jobs.checkpoint import Checkpoint
from nst_tf.jobs.estimate import ResourceEstimate, check_memory, estimate
from nst_tf.jobs.inputs import Inputs, check_output, load_weights, read_inputs
from nst_tf.jobs.provenance import Facts, environment, fingerprint
from nst_tf.jobs.record import make_record
from nst_tf.jobs.result import JobResult, Status
from nst_tf.jobs.resume import find_interrupted, next_number, read_record, warn_of_unfinished
from nst_tf.models.backend import check_backend
from nst_tf.models.weights import Parameters
from nst_tf.optimizers.result import StopReason

if TYPE_CHECKING:
    from nst_tf.engine.stylizer import Result, Stylizer

_STOPPED_EARLY = JobResult(None, {}, None, "stopped")


def run(
    config: Config,
    *,
    overwrite: bool = False,
    resume: bool = False,
    callbacks: Iterable[Callback] = (),
    should_stop: Callable[[], bool] | None = None,
) -> JobResult:
    """Reads the images, stylizes, and saves the result, its record and its checkpoints.

    Nothing is printed, and no signal handlers are installed; warnings go to the logger "nst_tf".

    Args:
        config: All settings, with content and style images.
        overwrite: Whether a file at `output_image` may be replaced that nst_tf did not write.
        resume: Whether to continue a job of the same settings that was interrupted.
        callbacks: Called with each event of `nst_tf.events`. One that raises is reported by a
            warning and not called again; a true answer to an `Iteration` stops the job.
        should_stop: Called after every evaluation; a true answer stops the job.

    Returns:
        What became of the job: also where it was stopped or failed numerically, which saves the
        best image so far.

    Raises:
        InputError: An image, a size or the weights are wrong, or there is nothing to resume;
            nothing was written.
        MachineError: A file cannot be written, another job writes there, or memory does not
            suffice.

    Example:
        >>> from nst_tf import Config, jobs
        >>> config = Config(content_image="a.jpg", style_image=["b.jpg"], output_image="o.png")
        >>> jobs.run(config).status  # doctest: +SKIP
        'finished'
    """
    began = time.monotonic()
    notify = CallbackList(callbacks)
    try:
        with ThreadPoolExecutor(1, "nst_tf weights") as executor:
            return _run(config, overwrite, resume, notify, should_stop, began, executor)
    except NstError as error:
        notify(Failed(error))
        raise


def _run(
    config: Config,
    overwrite: bool,
    resume: bool,
    notify: CallbackList,
    should_stop: Callable[[], bool] | None,
    began: float,
    executor: ThreadPoolExecutor,
) -> JobResult:
    """Checks the job, takes the run folder for it, and runs it."""
    check_output(config, overwrite)
    system.check_versions()
    check_backend()
    inputs = read_inputs(config)
    expected = estimate(inputs.levels, config)
    check_memory(expected, config)
    sha256, weights = load_weights(config, executor)
    facts = fingerprint(config, inputs.by_name(), sha256)
    folder = config.output_image.with_suffix(".run")
    before = find_interrupted(folder, facts, environment(config)) if resume else None
    if resume and before is None:
        return JobResult(config.output_image, read_record(folder), None, "nothing to do")
    with files.lock_directory(folder, config.output_image):
        if before is None:
            warn_of_unfinished(folder, facts)
        replace_output = overwrite or config.output_image.exists()  # nst_tf wrote it
        job = _Job(
            config, inputs, weights, facts, expected, before, replace_output, began,
            notify, should_stop or (lambda: False), folder,
        )  # fmt: skip
        return job.run()


@dataclass(frozen=True)
class _Job:
    """A job that holds its run folder.

    Attributes:
        config: All settings.
        inputs: The input images.
        weights: The network's weights, as soon as they are read.
        fingerprint: What the result depends on.
        expected: What the job will take.
        before: The checkpoint to continue from, or None.
        replace_output: Whether the output file may be replaced.
        began: When the job began, by the monotonic clock.
        notify: Passes events to the callbacks.
        should_stop: Whether the job is to end.
        folder: The run folder.
    """

    config: Config
    inputs: Inputs
    weights: Future[Parameters]
    fingerprint: Facts
    expected: ResourceEstimate
    before: Checkpoint | None
    replace_output: bool
    began: float
    notify: CallbackList
    should_stop: Callable[[], bool]
    folder: Path

    def run(self) -> JobResult:
        """Stylizes, saves and records."""
        self._warn_of_many_snapshots()
        files.atomic_write(self.folder / "config.yaml", to_yaml(self.config).encode())
        if self.should_stop():
            return _STOPPED_EARLY
        system.prepare_tensorflow(self.config.threads, self.config.deterministic)
        from nst_tf.engine.stylizer import Stylizer

        stylizer = Stylizer(self.config, weights=self.weights.result())
        self.notify(self._planned(stylizer))
        if self.should_stop():
            return _STOPPED_EARLY
        writer = self._writer()
        result = self._stylize(stylizer, writer)
        stopped = self.should_stop() or result.stop_reason is StopReason.STOPPED
        status: Status = "stopped" if stopped else "failed" if result.failure else "finished"
        path = self._save(result, writer)
        if status != "finished":
            writer.checkpoints.save()
        losses = self._losses(stylizer, result, path)
        return self._finish(status, path, result, losses, writer)

    def _warn_of_many_snapshots(self) -> None:
        """Warns where snapshots could fill the disk."""
        keep, every = self.config.max_snapshots, self.config.save_iter
        number = self.inputs.num_iterations // every if every else 0
        size = 3 * math.prod(self.inputs.shape) * (min(number, keep) if keep else number)
        free = shutil.disk_usage(self.folder).free
        if size > free:
            warn(
                f"{number} snapshots take up to {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are "
                "free; --max_snapshots=N keeps the last N only"
            )

    def _planned(self, stylizer: "Stylizer") -> Planned:
        levels = tuple(
            PlannedLevel(*level.shape, level.num_iterations) for level in self.inputs.levels
        )
        done = self.before.iterations if self.before else 0
        return Planned(levels, stylizer.precision, stylizer.device, *self.expected, done)

    def _writer(self) -> RunFolderWriter:
        """Sets up what is written to the run folder during the optimization."""
        config, before = self.config, self.before
        return RunFolderWriter(
            self.folder,
            config.reporting,
            self.inputs.num_iterations,
            self.fingerprint,
            environment(config),
            lambda pixels: output.encode(pixels, ".png", config, self.inputs.profile),
            self.notify,
            first_number=before.number + 1 if before else next_number(self.folder),
            iterations_done=before.iterations if before else 0,
        )

    def _stylize(self, stylizer: "Stylizer", writer: RunFolderWriter) -> "Result":
        inputs = self.inputs
        return stylizer(
            inputs.content,
            inputs.styles,
            content_masks=inputs.content_masks,
            style_masks=inputs.style_masks,
            initial=inputs.initial,
            callbacks=[writer],
            should_stop=self.should_stop,
            state=self.before.state if self.before else None,
        )

    def _save(self, result: "Result", writer: RunFolderWriter) -> Path:
        """Saves the image; a checkpoint where that fails."""
        config = self.config
        pixels = quantize(result.image, config.bit_depth)
        data = output.encode(
            pixels, config.output_image.suffix, config, self.inputs.profile, config.quality
        )
        try:
            return output.save(config.output_image, data, replace=self.replace_output)
        except MachineError as error:
            writer.checkpoints.save()
            latest = writer.snapshots.latest
            raise MachineError(
                "the result could not be saved",
                f"{error}; the last snapshot is {latest}" if latest else str(error),
                "then go on with --resume, which begins at the last checkpoint",
            ) from error

    def _losses(self, stylizer: "Stylizer", result: "Result", path: Path) -> Losses:
        """Evaluates the file as it is read back, in float32."""
        inputs = self.inputs
        saved = output.read_back(path, result.image.shape, self.config, inputs.profile)
        if np.array_equal(saved, quantize(result.image)):
            return result.losses  # of the same 8-bit image
        return stylizer.losses(
            saved,
            inputs.content,
            inputs.styles,
            content_masks=inputs.content_masks,
            style_masks=inputs.style_masks,
        )

    def _finish(
        self, status: Status, path: Path, result: "Result", losses: Losses, writer: RunFolderWriter
    ) -> JobResult:
        """Writes the record and reports the end."""
        finished = status == "finished"
        seconds = time.monotonic() - self.began
        record = make_record(
            self.config,
            result,
            losses,
            finished=finished,
            seconds=seconds,
            seconds_checkpointing=writer.checkpoints.seconds,
            estimate=self.expected,
            fingerprint=self.fingerprint,
        )
        files.atomic_write(self.folder / "run.json", (json.dumps(record, indent=2) + "\n").encode())
        if finished:
            checkpoint.remove(self.folder)
        reason = str(result.stop_reason)
        self.notify(Saved(path, losses, result.iterations, seconds, reason, finished))
        failure = f"{result.failure}, at evaluation {result.evaluations}"
        return JobResult(path, record, losses, status, failure if status == "failed" else "")
