"""Files in, picture out: the whole story of a run."""

import contextlib
import itertools
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nst_tf
from nst_tf import system
from nst_tf.cli import signals
from nst_tf.config.files import portable, to_yaml
from nst_tf.config.schema import Config, require_files
from nst_tf.engine import pyramid
from nst_tf.errors import InputError, MachineError, NumericalError, StoppedError, warn
from nst_tf.image import masks
from nst_tf.image.arrays import ImageArray, quantize
from nst_tf.io import files, images
from nst_tf.jobs import checkpoint, estimate
from nst_tf.jobs.checkpoint import Checkpoint, Identity, Position
from nst_tf.models import weights as parameters

if TYPE_CHECKING:
    from nst_tf.engine.stylize import Result
    from nst_tf.jobs.callbacks import Checkpoints, Snapshots
    from nst_tf.objective.terms import Losses


@dataclass(frozen=True)
class _Inputs:
    """What a run works on, read once and found good."""

    content: ImageArray
    styles: list[ImageArray]
    content_masks: list[masks.Mask]
    style_masks: list[masks.Mask]
    start: ImageArray | None
    profile: bytes | None
    weights: parameters.Parameters
    levels: tuple[pyramid.Level, ...]

    def identity(self, config: Config) -> Identity:
        """Tells what the run is made of."""
        pictures: dict[str, ImageArray | None] = {"content_image": self.content}
        for name, several in (
            ("style_image", self.styles),
            ("content_masks", self.content_masks),
            ("style_masks", self.style_masks),
        ):
            pictures |= {f"{name} {number}": one for number, one in enumerate(several, 1)}
        pictures["the start"] = self.start
        return checkpoint.identity(config, pictures, self.weights.sha256)


def run(config: Config, *, overwrite: bool = False, resume: bool = False) -> None:
    """Reads the pictures, stylises, saves the result and the record of the run.

    Args:
        config: All settings, with the content and style pictures given.
        overwrite: Whether a file at `output_image` may be replaced that nst_tf did not write.
        resume: Whether to go on with a run of the same settings that was interrupted.

    Raises:
        InputError: A picture, a size or the weights are wrong, or there is nothing to resume;
            nothing was written.
        MachineError: A file cannot be written, another run writes there, or the memory does not
            suffice.
        NumericalError: The numbers gave out; the best picture was saved.
        StoppedError: A signal asked for the end; the best picture was saved.
    """
    began = time.monotonic()
    with signals.collected() as received:
        _check_output(config, overwrite)
        system.check_versions()
        inputs = _read(config)
        needs = estimate.needs(inputs.levels, config)
        estimate.check_memory(needs, inputs.levels, config)
        folder = _folder_of(config)
        identity = inputs.identity(config)
        before = _interrupted(folder, identity, config) if resume else None
        if resume and before is None:
            return
        with files.lock_directory(folder, config.output_image):
            if before is None:
                _mention_unfinished(folder, identity)
            replace = overwrite or config.output_image.exists()  # if it exists, it is our own
            _Run(config, inputs, identity, needs, before, replace, began, received).go()


@dataclass(frozen=True)
class _Run:
    """A run whose folder is its own, from the first byte written to the last.

    Attributes:
        config: All settings.
        inputs: What it works on.
        identity: What it is made of.
        needs: What it was expected to take.
        before: Where it was interrupted, if it goes on from there.
        replace: Whether the output may be replaced.
        began: When it began, by the monotonic clock.
        received: The signals that ask for its end, as they come.
    """

    config: Config
    inputs: _Inputs
    identity: Identity
    needs: estimate.Needs
    before: Checkpoint | None
    replace: bool
    began: float
    received: list[int]

    @property
    def _output(self) -> Path:
        return self.config.output_image

    @property
    def _folder(self) -> Path:
        return _folder_of(self.config)

    @property
    def _settings(self) -> str:
        """What is written into pictures, so that they can be made again."""
        return json.dumps({"nst_tf": nst_tf.__version__, **portable(self.config)})

    def go(self) -> None:
        """Stylises, saves and records."""
        self._warn_of_many_snapshots()
        files.atomic_write(self._folder / "config.yaml", to_yaml(self.config).encode())
        result, checkpoints, snapshots = self._stylize()
        config, profile = self.config, self.inputs.profile
        pixels = quantize(result.picture, config.bit_depth)
        suffix = self._output.suffix
        data = images.encode(
            pixels, suffix, self._settings, quality=config.quality, profile=profile
        )
        try:
            saved = self._save(data)
        except MachineError as error:
            checkpoints.save()
            last = f"; the last snapshot is {snapshots.latest}" if snapshots.latest else ""
            raise MachineError(
                "the result could not be saved",
                f"{error}{last}",
                "then go on with --resume, which begins at the last checkpoint",
            ) from error
        unfinished = bool(self.received) or bool(result.failure)
        if unfinished:
            checkpoints.save()
        losses = result.evaluate(self._read_back(saved, pixels.shape))
        record = self._record(result, losses, checkpoints.seconds, finished=not unfinished)
        files.atomic_write(
            self._folder / "run.json", (json.dumps(record, indent=2) + "\n").encode()
        )
        self._tell(result, losses, saved, record["seconds"])

    def _warn_of_many_snapshots(self) -> None:
        most, every = self.config.max_snapshots, self.config.save_iter
        total = sum(level.num_iterations for level in self.inputs.levels)
        number = total // every if every else 0
        height, width = self.inputs.levels[-1].shape
        size = 3 * height * width * (min(number, most) if most else number)
        free = shutil.disk_usage(self._folder).free
        if size > free:
            warn(
                f"{number} snapshots take up to {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are "
                "free; --max_snapshots=N keeps the last N only"
            )

    def _stylize(self) -> "tuple[Result, Checkpoints, Snapshots]":
        """Stylises under the eyes of the listeners."""
        config, inputs, before = self.config, self.inputs, self.before
        # What TensorFlow prints as it starts would bury what a run has to say.
        with system.quiet():
            system.prepare_tensorflow(config.threads, config.deterministic)
            from nst_tf.engine.stylize import device, precision, stylize
            from nst_tf.jobs import callbacks as report

            where = f"{precision(config)} on {device()}"
        report.say(report.opening(inputs.levels, where, estimate.describe(self.needs)))
        if before is not None:
            report.say(f"going on after {len(before.trace)} iterations")
        if self.received:
            raise StoppedError(self.received[0], "nothing was done yet", "start again")
        number = itertools.count(self._next_number())
        total = sum(level.num_iterations for level in inputs.levels)
        trace = report.Trace(self._folder / "trace.csv", () if before is None else before.trace)
        snapshots = report.Snapshots(
            self._folder,
            config.save_iter,
            config.max_snapshots,
            total,
            lambda pixels: images.encode(pixels, ".png", self._settings, profile=inputs.profile),
        )
        environment = checkpoint.environment(config)

        def describe(position: Position) -> Checkpoint:
            return Checkpoint(next(number), self.identity, environment, trace.rows, position)

        checkpoints = report.Checkpoints(self._folder, config.checkpoint_seconds, describe)
        with _memory_told_of(), report.display(config.print_iter, total) as display:
            result = stylize(
                inputs.content,
                inputs.styles,
                config,
                content_masks=inputs.content_masks,
                style_masks=inputs.style_masks,
                start=inputs.start,
                weights=inputs.weights.arrays,
                preview=snapshots.first,
                listener=report.together([display, trace, snapshots, checkpoints]),
                stop=lambda: bool(self.received),
                resume=None if before is None else before.position,
            )
        report.attempt(trace.save)
        return result, checkpoints, snapshots

    def _next_number(self) -> int:
        """Counts on from what is there, so that the newest checkpoint always has the most."""
        if self.before is not None:
            return self.before.number + 1
        with contextlib.suppress(InputError):
            last = checkpoint.newest(self._folder)
            return 0 if last is None else last.number + 1
        return 0

    def _save(self, data: bytes) -> Path:
        """Writes the picture; beside what meanwhile appeared under its name and is not ours."""
        path, number = self._output, 0
        while True:
            try:
                files.atomic_write(path, data, replace=self.replace)
            except FileExistsError:
                number += 1
                path = self._output.with_stem(f"{self._output.stem}-{number}")
            else:
                return path

    def _read_back(self, saved: Path, shape: tuple[int, ...]) -> ImageArray:
        """Reads the picture as whoever opens the file will see it."""
        try:
            found = images.read(saved, self.config.max_pixels, self.inputs.profile)
        except InputError as error:
            raise _unreadable(saved, str(error)) from error
        if found.shape != shape:
            raise _unreadable(saved, f"it has shape {found.shape}, not {shape}")
        return found

    def _record(
        self, result: "Result", losses: "Losses", seconds_checkpointing: float, *, finished: bool
    ) -> dict[str, Any]:
        """Gathers the figures of a run; the losses are those of the saved file."""
        height, width = result.picture.shape[:2]
        return {
            "finished": finished,
            "loss": losses.total,
            "content_loss": losses.content,
            "style_loss": losses.style,
            "tv_loss": losses.tv,
            "iterations": result.iterations,
            "evaluations": result.evaluations,
            "seconds": round(time.monotonic() - self.began, 3),
            "seconds_stylizing": round(result.seconds, 3),
            "seconds_evaluating": round(result.seconds_evaluating, 3),
            "seconds_checkpointing": round(seconds_checkpointing, 3),
            "peak_memory_bytes": system.peak_memory(),
            "peak_memory_bytes_expected": self.needs.bytes,
            "stop_reason": str(result.stop_reason),
            "precision": result.precision,
            "device": result.device,
            "weights_sha256": self.inputs.weights.sha256,
            "versions": {"nst_tf": nst_tf.__version__, **system.versions()},
            "processor": system.processor(),
            "seed": self.config.seed,
            "image_size": [width, height],
            "identity": self.identity,
        }

    def _tell(self, result: "Result", losses: "Losses", saved: Path, seconds: float) -> None:
        """Says how the run ended."""
        from nst_tf.jobs import callbacks as report

        if saved != self._output:
            report.say(f"{os.path.relpath(self._output)} appeared meanwhile and was left alone")
        if self.received:
            saves = self.config.checkpoint_seconds and result.iterations
            raise StoppedError(
                self.received[0],
                "the best picture was saved",
                "go on with --resume" if saves else "start again",
                where=saved,
            )
        if result.failure:
            what, _, why = result.failure.partition(": ")
            raise NumericalError(
                what,
                f"{why}, at evaluation {result.evaluations}",
                f"check the weights; the best picture so far is in {saved}",
            )
        checkpoint.remove(self._folder)
        report.say(
            f"saved {os.path.relpath(saved)}: loss {losses.total:.5g}, "
            f"{result.iterations} iterations, {seconds:.0f} s; {result.stop_reason}"
        )


def _folder_of(config: Config) -> Path:
    """Names the folder that stands beside the output."""
    return config.output_image.with_suffix(".run")


@contextlib.contextmanager
def _memory_told_of() -> Iterator[None]:
    """Turns what TensorFlow and NumPy raise where memory runs out into one line."""
    import tensorflow as tf

    try:
        yield
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        raise MachineError(
            "memory ran out",
            str(error).partition("\n")[0][:100] or "there is none left",
            "take a smaller --image_size, or free some memory and go on with --resume",
        ) from error


def _check_output(config: Config, overwrite: bool) -> None:
    """Refuses an output that cannot be written as named, or that would cost somebody a file."""
    output = config.output_image
    images.check_output(output, bit_depth=config.bit_depth)
    inputs = [config.content_image, *config.style_image, config.init_file]
    for path in inputs:
        if path is not None and path.exists() and output.exists() and path.samefile(output):
            raise InputError(
                "the output would replace an input",
                f"both are {path}",
                "choose another --output_image",
                where=output,
            )
    if output.exists() and not overwrite and images.settings_of(output) is None:
        raise MachineError(
            "the output exists",
            "nst_tf did not write that file",
            "choose another --output_image, or replace it with --overwrite",
            where=output,
        )


def _read(config: Config) -> _Inputs:
    """Reads all input, and finds all that is wrong with it before TensorFlow's slow import."""
    require_files(config)

    profile = None
    if config.color_profile == "keep" and config.content_image is not None:
        profile = images.profile_of(config.content_image)

    def read(path: Path) -> ImageArray:
        return images.read(path, config.max_pixels, profile)

    content, *styles = map(read, filter(None, (config.content_image, *config.style_image)))
    content_masks = [_mask(path, config) for path in config.content_masks]
    style_masks = [_mask(path, config) for path in config.style_masks]
    start = None if config.init_file is None else read(config.init_file)
    shapes = [style.shape[:2] for style in styles]
    levels = pyramid.plan(content.shape[:2], shapes, config)
    masks.build_regions(
        content_masks, style_masks, config.style_blend_weights, content.shape[:2], shapes
    )
    images.check_output(config.output_image, levels[-1].shape, config.bit_depth)
    weights = parameters.load(config.weights, config.weights_sha256)
    return _Inputs(content, styles, content_masks, style_masks, start, profile, weights, levels)


def _mask(path: Path, config: Config) -> masks.Mask:
    return masks.mask_from_image(images.read(path, config.max_pixels))


def _interrupted(folder: Path, identity: Identity, config: Config) -> Checkpoint | None:
    """Finds where an interrupted run stood; None, and a word, where it is finished already."""
    found = checkpoint.newest(folder)
    if found is None:
        record = _record_of(folder)
        if not record.get("finished"):
            raise InputError(
                "there is nothing to resume",
                "the folder has no checkpoint",
                "start without --resume",
                where=folder,
            )
        _check_same(record.get("identity", {}), identity, folder)
        print("nothing to do: the run is finished")
        return None
    _check_same(found.identity, identity, folder)
    if changed := checkpoint.differences(found.environment, checkpoint.environment(config)):
        warn(f"the continuation will not be bit-identical: {changed} changed")
    return found


def _check_same(saved: Identity, asked_for: Identity, folder: Path) -> None:
    if changed := checkpoint.differences(saved, asked_for):
        raise InputError(
            "this is not the run that was interrupted",
            f"it differs in {changed}",
            "give the same settings and files, or start without --resume",
            where=folder,
        )


def _mention_unfinished(folder: Path, identity: Identity) -> None:
    """Tells of a run of the same settings that could have been gone on with."""
    with contextlib.suppress(InputError):
        found = checkpoint.newest(folder)
        if found is not None and not checkpoint.differences(found.identity, identity):
            warn(f"beginning anew; --resume would go on after {len(found.trace)} iterations")


def _record_of(folder: Path) -> Mapping[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        found = json.loads((folder / "run.json").read_text())
        if isinstance(found, dict):
            return found
    return {}


def _unreadable(path: Path, why: str) -> MachineError:
    return MachineError(
        "the result cannot be read back", why, "check the disk and run again", where=path
    )
