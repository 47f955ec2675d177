"""Files in, picture out: the whole story of a run."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np

import nst_tf
from nst_tf import images, machine, parameters, pyramid, storage
from nst_tf.config import Config, portable, to_yaml
from nst_tf.errors import InputError, MachineError, NumericalError, StoppedError

if TYPE_CHECKING:
    from nst_tf.objective import Losses
    from nst_tf.style_transfer import Picture, Result


@dataclass(frozen=True)
class _Inputs:
    """What a run works on, read once and found good."""

    content: "Picture"
    styles: "list[Picture]"
    start: "Picture | None"
    weights: parameters.Parameters
    levels: tuple[pyramid.Level, ...]


def run(config: Config, *, overwrite: bool = False) -> None:
    """Reads the pictures, stylises, saves the result and the record of the run.

    Args:
        config: All settings, with the content and style pictures given.
        overwrite: Whether a file at `output_image` may be replaced that nst_tf did not write.

    Raises:
        InputError: A picture, a size or the weights are wrong; nothing was written.
        MachineError: A file cannot be written, or the memory does not suffice.
        NumericalError: The loss is not finite; the best picture was saved.
        StoppedError: A signal asked for the end; the best picture was saved.
    """
    began = time.monotonic()
    output = config.output_image
    _check_output_is_free(config, overwrite)
    inputs = _read(config)
    folder = output.with_suffix(".run")
    storage.prepare_folder(folder)
    storage.publish(folder / "config.yaml", to_yaml(config).encode())

    settings = json.dumps({"nst_tf": nst_tf.__version__, **portable(config)})
    result, stop_signal = _stylize(inputs, config, folder, settings)

    pixels = images.to_uint8(result.picture)
    storage.publish(output, images.encode(pixels, output.suffix, settings))
    saved = images.read(output, config.max_pixels)
    losses = result.losses if np.array_equal(saved, pixels) else result.evaluate(saved)
    record = _record(config, inputs, result, losses, time.monotonic() - began)
    storage.publish(folder / "run.json", (json.dumps(record, indent=2) + "\n").encode())
    if stop_signal is not None:
        raise StoppedError(stop_signal, output)
    if result.failure:
        raise NumericalError(
            "the loss is not finite",
            f"{result.failure} at evaluation {result.evaluations}",
            f"lower the weights; the best picture so far is in {output}",
        )
    print(
        f"saved {os.path.relpath(output)}: loss {losses.total:.5g}, "
        f"{result.iterations} iterations, {record['seconds']:.0f} s; {result.stop_reason}"
    )


def _check_output_is_free(config: Config, overwrite: bool) -> None:
    """Refuses an output that cannot be written as named, or that would cost somebody a file."""
    output = config.output_image
    images.check_output(output)
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

    def read(path: Path) -> "Picture":
        return images.read(path, config.max_pixels)

    if config.content_image is None:
        raise InputError("no content picture", "content_image is not set", "give --content_image")
    content = read(config.content_image)
    styles = [read(path) for path in config.style_image]
    start = None if config.init_file is None else read(config.init_file)
    levels = pyramid.plan(content.shape[:2], [style.shape[:2] for style in styles], config)
    images.check_output(config.output_image, levels[-1].shape)
    weights = parameters.load(config.weights, config.weights_sha256)
    return _Inputs(content, styles, start, weights, levels)


def _stylize(
    inputs: _Inputs, config: Config, folder: Path, settings: str
) -> "tuple[Result, int | None]":
    """Stylises under the eyes of the listeners; returns the result and the signal that ended it."""
    with machine.quiet():  # what TensorFlow prints as it starts would bury what a run has to say
        from nst_tf import report
        from nst_tf.style_transfer import device, precision, stylize

        print(report.opening(inputs.levels, f"{precision(config)} on {device()}"), flush=True)
    total = sum(level.num_iterations for level in inputs.levels)
    trace = report.Trace(folder / "trace.csv")
    snapshots = report.Snapshots(folder, config.save_iter, total, settings)
    with _stop_signals() as signals, report.display(config.print_iter, total) as display:
        result = stylize(
            inputs.content,
            inputs.styles,
            config,
            start=inputs.start,
            weights=inputs.weights.arrays,
            preview=snapshots.first,
            listener=report.together([display, trace, snapshots, lambda _: bool(signals)]),
        )
    trace.save()
    return result, (signals[0] if signals else None)


@contextlib.contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Collects the signals that ask for the end, so that a run can save what it has."""
    received: list[int] = []

    def receive(number: int, _: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, before[signal.Signals(number)])

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, receive)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _record(
    config: Config, inputs: _Inputs, result: "Result", losses: "Losses", seconds: float
) -> dict[str, Any]:
    """Gathers the figures of a run; the losses are those of the saved file."""
    height, width = result.picture.shape[:2]
    return {
        "loss": losses.total,
        "content_loss": losses.content,
        "style_loss": losses.style,
        "tv_loss": losses.tv,
        "iterations": result.iterations,
        "evaluations": result.evaluations,
        "seconds": round(seconds, 3),
        "seconds_stylizing": round(result.seconds, 3),
        "seconds_evaluating": round(result.seconds_evaluating, 3),
        "peak_memory_bytes": machine.peak_memory(),
        "stop_reason": str(result.stop_reason),
        "precision": result.precision,
        "device": result.device,
        "weights_sha256": inputs.weights.sha256,
        "versions": {"nst_tf": nst_tf.__version__, **machine.versions()},
        "seed": config.seed,
        "image_size": [width, height],
    }
