"""Runs a job in this process: from image files to an image file and its run folder."""

import json
import math
import shutil
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nst_tf import system
from nst_tf.config import Config
from nst_tf.errors import MachineError, NstError, warn
from nst_tf.events import Callback, Event, Failed, Losses, Planned, PlannedLevel, Saved, Scoring
from nst_tf.image.arrays import quantize
from nst_tf.io import files
from nst_tf.io.encoding import is_lossless
from nst_tf.jobs import loss_plot, output, places, timelapse
from nst_tf.jobs.callbacks import CallbackList, RunFolderWriter
from nst_tf.jobs.estimate import ResourceEstimate
from nst_tf.jobs.inputs import Inputs
from nst_tf.jobs.places import Place
from nst_tf.jobs.planning import check
from nst_tf.jobs.provenance import environment, fingerprint
from nst_tf.jobs.record import make_record
from nst_tf.jobs.result import JobResult, Resume, Status
from nst_tf.jobs.resume import Plan, find, next_number
from nst_tf.models.backend import import_keras
from nst_tf.models.weights import Parameters
from nst_tf.optimizers.result import StopReason

if TYPE_CHECKING:
    from nst_tf.engine.stylizer import Result, Stylizer

_STOPPED_EARLY = JobResult(None, {}, None, "stopped")

_largest_job = 0
"""What the jobs of this process took at most, as it was estimated, in bytes."""


def run(
    config: Config,
    *,
    overwrite: bool = False,
    resume: Resume = False,
    callbacks: Iterable[Callback] = (),
    should_stop: Callable[[], bool] | None = None,
) -> JobResult:
    """Reads the images, stylizes, and saves the result, its record and its checkpoints.

    Nothing is printed, and no signal handlers are installed; warnings go to the logger "nst_tf".

    Args:
        config: All settings, with content and style images.
        overwrite: Whether any file at `output_image` may be replaced, by a finished image.
            Otherwise an image of other settings gets the next free number, as in "x-2.png".
        resume: Whether to continue a job of the same settings that was interrupted, or one of
            fewer iterations; where there is none, the job begins. "same" is as True where there is
            a job of the very same settings and inputs, interrupted or finished, and as False
            elsewhere.
        callbacks: Called with each event of `nst_tf.events`. One that raises is reported by a
            warning and not called again; a true answer to an `Iteration` stops the job.
        should_stop: Called after every evaluation; a true answer stops the job.

    Returns:
        What became of the job: also where it was stopped or failed numerically, which saves the
        best image so far.

    Raises:
        InputError: An image, a size or the weights are wrong, or the run to resume is another;
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
    notify = CallbackList[Event](callbacks)
    try:
        with ThreadPoolExecutor(1, "nst_tf weights") as executor:
            return _run(config, overwrite, resume, notify, should_stop, began, executor)
    except NstError as error:
        notify(Failed(error))
        raise
    except MemoryError as error:
        failure = MachineError(
            "memory ran out",
            str(error)[:100] or "there is none left",
            "take a smaller --image_size, or free some memory and go on with --resume",
        )
        notify(Failed(failure))
        raise failure from error


def _run(
    config: Config,
    overwrite: bool,
    resume: Resume,
    notify: CallbackList[Event],
    should_stop: Callable[[], bool] | None,
    began: float,
    executor: ThreadPoolExecutor,
) -> JobResult:
    """Checks the job, takes a place for it, and runs it."""
    global _largest_job
    inputs, expected, sha256, weights = check(
        config, executor, overwrite=overwrite, reusable=_reusable_memory()
    )
    facts = fingerprint(config, inputs.by_name(), sha256)
    plan = Plan(config, facts, inputs.levels, expected.tile_size)
    found = None
    if resume:
        occupants = places.occupants(config.output_image)
        found = find(plan, occupants, overwrite=overwrite, same=resume == "same")
    if found is not None and found.is_complete:
        occupant = found.occupant
        return JobResult(occupant.path, occupant.record, None, "nothing to do")
    with places.claim(plan, found, overwrite=overwrite) as place:
        notes = (*place.notes, *inputs.notes)
        if resume is True and found is None:
            notes = ("there is nothing to resume: the run begins", *notes)
        if place.before:
            begun_with = int(place.before.environment.get("tile_size", 0))
            expected = expected._replace(tile_size=begun_with)
        job = _Job(
            place, replace(inputs, levels=place.plan.levels), weights, expected, notes, began,
            notify, should_stop or (lambda: False), overwrite,
        )  # fmt: skip
        _largest_job = max(_largest_job, expected.memory_bytes)
        return job.run()


def _reusable_memory() -> int:
    """Returns what this process holds of an earlier job and a later one uses again, in bytes.

    It is not given back to the system, and so does not count as available. What else a process
    holds, as a notebook does, is no part of it.
    """
    return min(_largest_job, system.memory_in_use())


@dataclass(frozen=True)
class _Job:
    """A job that holds its place.

    Attributes:
        place: Where its files go, and what it continues.
        inputs: The input images and the levels.
        weights: The network's weights, as soon as they are read; None for those of the package,
            which are read where a network is built.
        expected: What the job will take.
        notes: What is told before it begins.
        began: When the job began, by the monotonic clock.
        notify: Passes events to the callbacks.
        should_stop: Whether the job is to end.
        overwrite: Whether any file may be replaced.
    """

    place: Place
    inputs: Inputs
    weights: Future[Parameters] | None
    expected: ResourceEstimate
    notes: tuple[str, ...]
    began: float
    notify: CallbackList[Event]
    should_stop: Callable[[], bool]
    overwrite: bool

    @property
    def config(self) -> Config:
        """All settings, with the name under which the job works."""
        return self.place.config

    def run(self) -> JobResult:
        """Stylizes, saves and records."""
        self._warn_of_many_snapshots()
        if self.should_stop():
            return _STOPPED_EARLY
        system.prepare_environment(self.config.deterministic)
        import_keras()
        from nst_tf.engine.stylizer import Stylizer

        weights = self.weights.result() if self.weights else None
        # Of a lossy file, the pixels that are read back have the loss that counts.
        scored = self.config.score and self._is_lossless()
        config = self.config.replace(tile_size=self.expected.tile_size, score=scored)
        stylizer = Stylizer(config, weights=weights)
        self.notify(self._planned(stylizer))
        if self.should_stop():
            return _STOPPED_EARLY
        self.place.begin()
        writer = self._writer()
        try:
            result = self._stylize(stylizer, writer)
            status = _status(result)
            self._save(result, writer, finished=status == "finished")
            # As computing the loss may take long.
            self._record(status, result, result.losses, writer, scored=scored)
            losses = self._losses(stylizer, result, writer)
        except NstError:
            writer.checkpoints.save()
            raise
        finally:
            system.release_memory()  # of a program that goes on without evaluations
        return self._finish(status, result, losses, writer)

    def _warn_of_many_snapshots(self) -> None:
        """Warns where snapshots could fill the disk."""
        keep, every = self.config.max_snapshots, self.config.save_iter
        number = self.inputs.num_iterations // every if every else 0
        size = 3 * math.prod(self.inputs.shape) * (min(number, keep) if keep else number)
        free = shutil.disk_usage(self.place.folder).free
        if size > free:
            warn(
                f"{number} snapshots take up to {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are "
                "free; --max_snapshots=N keeps the last N only"
            )

    def _planned(self, stylizer: "Stylizer") -> Planned:
        levels = tuple(
            PlannedLevel(*level.shape, level.num_iterations) for level in self.inputs.levels
        )
        done = self.place.before.iterations if self.place.before else 0
        return Planned(
            levels,
            stylizer.precision,
            stylizer.device,
            *self.expected,
            iterations_done=done,
            notes=self.notes,
        )

    def _writer(self) -> RunFolderWriter:
        """Sets up what is written to the run folder during the optimization."""
        config, folder, before = self.config, self.place.folder, self.place.before
        return RunFolderWriter(
            folder,
            config.reporting,
            self.inputs.levels,
            self.place.plan.fingerprint,
            environment(config, self.expected.tile_size),
            lambda pixels: output.encode(pixels, ".png", config, self.inputs.profile),
            self.notify,
            first_number=before.number + 1 if before else next_number(folder),
            iterations_before=before.iterations if before else None,
            read_before=self.place.read_before,
        )

    def _stylize(self, stylizer: "Stylizer", writer: RunFolderWriter) -> "Result":
        inputs = self.inputs
        call = stylizer.__call__  # without it, Python keeps the arguments, and so the state
        return call(
            inputs.content,
            inputs.styles,
            content_masks=inputs.content_masks,
            style_masks=inputs.style_masks,
            initial=inputs.initial,
            callbacks=[writer],
            should_stop=self.should_stop,
            state=self.place.take_state(),
        )

    def _save(self, result: "Result", writer: RunFolderWriter, *, finished: bool) -> None:
        """Encodes and saves the image."""
        profile = self.inputs.profile

        def encode(config: Config) -> bytes:
            pixels = quantize(result.image, config.bit_depth)
            suffix = config.output_image.suffix
            alpha = self.inputs.alpha
            return output.encode(pixels, suffix, config, profile, config.quality, alpha)

        try:
            self.place.save(encode, finished=finished)
        except Exception as error:  # an encoder, too, may raise anything after hours of work
            latest = writer.latest.saved
            why = str(error) if isinstance(error, NstError) else f"{type(error).__name__}: {error}"
            raise MachineError(
                "the result could not be saved",
                f"{why}; the latest image is {latest}" if latest else why,
                "then go on with --resume, which begins at the last checkpoint",
            ) from error

    def _is_lossless(self) -> bool:
        return is_lossless(self.config.output_image.suffix, self.config.quality)

    def _losses(self, stylizer: "Stylizer", result: "Result", writer: RunFolderWriter) -> Losses:
        """Evaluates the file as it is read back, in float32."""
        inputs = self.inputs
        path, shape = self.place.saved, result.image.shape
        saved = output.read_back(path, shape, self.config, inputs.profile)
        if not self.config.score:
            return result.losses
        if self._is_lossless() and np.array_equal(saved, quantize(result.image)):
            return result.losses  # of the same 8-bit image
        writer(Scoring())
        return stylizer.losses(
            saved,
            inputs.content,
            inputs.styles,
            content_masks=inputs.content_masks,
            style_masks=inputs.style_masks,
        )

    def _finish(
        self, status: Status, result: "Result", losses: Losses, writer: RunFolderWriter
    ) -> JobResult:
        """Writes the record and reports the end."""
        writer.latest.save(result.image)
        seconds, record = self._record(status, result, losses, writer, scored=self.config.score)
        finished = status == "finished"
        self._plot_losses()
        animation = self._write_timelapse(result, writer)
        if finished:
            writer.checkpoints.finish(keep=self.config.keep_state)
            if not self.config.keep_state:
                timelapse.remove_frames(self.place.folder)
        else:
            writer.checkpoints.save()
        self.place.settle()
        path, reason = self.place.saved, str(result.stop_reason)
        iterations = result.iterations
        self.notify(Saved(path, losses, iterations, seconds, reason, finished, animation))
        failure = f"{result.failure}, at evaluation {result.evaluations}"
        return JobResult(path, record, losses, status, failure if status == "failed" else "")

    def _plot_losses(self) -> None:
        """Plots the trace in the run folder; a failure is reported by a warning."""
        try:
            loss_plot.write(self.place.folder / "losses.svg", self.place.folder / "trace.csv")
        except Exception as error:  # noqa: BLE001 - the image outweighs its plot
            warn(f"the losses could not be plotted: {error}")

    def _write_timelapse(self, result: "Result", writer: RunFolderWriter) -> Path | None:
        """Writes the animation of the run; a failure is reported by a warning."""
        config, frames = self.config, writer.timelapse
        if config.timelapse is None or frames is None:
            return None
        try:
            return timelapse.write(
                config.timelapse,
                [*frames.read(), frames.frame(result.image)],
                frames.durations(config.timelapse_seconds),
                self.place.saved,
                self.inputs.profile,
                overwrite=self.overwrite,
            )
        except Exception as error:  # noqa: BLE001 - an encoder may raise anything
            warn(f"the time-lapse could not be written: {error}")
            return None

    def _record(
        self,
        status: Status,
        result: "Result",
        losses: Losses,
        writer: RunFolderWriter,
        *,
        scored: bool,
    ) -> tuple[float, dict[str, Any]]:
        """Writes the record of the image that was saved; returns the time and the record."""
        seconds = time.monotonic() - self.began
        record = make_record(
            self.config,
            result,
            losses,
            scored=scored,
            finished=status == "finished",
            seconds=seconds,
            seconds_checkpointing=writer.checkpoints.seconds,
            estimate=self.expected,
            fingerprint=self.place.plan.fingerprint,
            output_sha256=self.place.sha256,
        )
        text = json.dumps(record, indent=2) + "\n"
        files.atomic_write(self.place.folder / "run.json", text.encode())
        return seconds, record


def _status(result: "Result") -> Status:
    if result.stop_reason is StopReason.STOPPED:
        return "stopped"
    return "failed" if result.failure else "finished"
