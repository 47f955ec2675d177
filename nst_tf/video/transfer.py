"""Stylizes a video: frame by frame, each from the one before, into a run folder and a file.

M. Ruder, A. Dosovitskiy and T. Brox, "Artistic Style Transfer for Videos" (GCPR 2016), sections 4.1
(initialization by the frame before, moved along the optical flow) and 4.2 (temporal loss).
"""

import csv
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

import nst_tf
from nst_tf import system
from nst_tf.config import Config
from nst_tf.config.files import to_yaml
from nst_tf.engine import pyramid
from nst_tf.errors import InputError, MachineError, NumericalError, warn
from nst_tf.image.arrays import ImageArray, from_integers, quantize
from nst_tf.image.flow import Trust, optical_flow, trusted, warp_image
from nst_tf.image.resize import reduce, resized_shape
from nst_tf.io import ffmpeg, files, images
from nst_tf.jobs.callbacks import CallbackList
from nst_tf.jobs.estimate import ResourceEstimate, check_memory, estimate
from nst_tf.jobs.inputs import load_weights
from nst_tf.jobs.output import check_folder, run_folder
from nst_tf.jobs.provenance import Facts, differences, fingerprint
from nst_tf.jobs.record import read_record
from nst_tf.models.backend import check_backend, import_keras
from nst_tf.models.weights import Parameters
from nst_tf.optimizers.result import StopReason
from nst_tf.video import frames as video_frames
from nst_tf.video.frames import FrameFolder, VideoInfo
from nst_tf.video.settings import VideoSettings

if TYPE_CHECKING:
    from nst_tf.engine.stylizer import Result, Stylizer

_LEAST_TRUST = 0.3
"""The share of trusted pixels below which a frame shows another scene."""

_LARGEST_DIFFERENCE = 40.0
"""The mean difference in gray levels, after the motion, above which a frame shows another scene."""

_ANOTHER = "choose another --output_video"
_COLUMNS = ("frame", "scene_begins", "trusted", "iterations", "seconds", "loss", "flicker")


class VideoPlanned(NamedTuple):
    """A video was checked and is about to be stylized.

    Attributes:
        shape: Height and width of the result.
        rate: Frames per second.
        frames: The number of frames that the file tells.
        frames_done: Those that are finished from an earlier run.
        memory_bytes: Expected peak memory.
        notes: What there is to say of the beginning, one line each.
    """

    shape: tuple[int, int]
    rate: float
    frames: int
    frames_done: int
    memory_bytes: int
    notes: tuple[str, ...]


class FrameDone(NamedTuple):
    """A frame is finished and saved in the run folder.

    Attributes:
        number: From 1.
        frames: The number of frames that the file tells.
        scene_begins: Whether it begins anew, as the first frame and those after a cut.
        trusted: The share of its pixels that follow from the frame before.
        seconds: Time that it took.
        seconds_left: Time that the others are expected to take.
        flicker: The mean difference to the frame before on trusted pixels, after the motion, in
            gray levels of 255; 0 where a scene begins.
    """

    number: int
    frames: int
    scene_begins: bool
    trusted: float
    seconds: float
    seconds_left: float
    flicker: float


class VideoSaved(NamedTuple):
    """The video is at its final place.

    Attributes:
        path: The file.
        frames: The number of its frames.
        scenes: The number of its scenes.
        flicker: The mean of that of all frames that follow another one.
        seconds: Time of the run.
    """

    path: Path
    frames: int
    scenes: int
    flicker: float
    seconds: float


VideoEvent = VideoPlanned | FrameDone | VideoSaved


class VideoResult(NamedTuple):
    """What became of a video.

    Attributes:
        path: The file; None where the run was stopped.
        frames: The number of finished frames.
        status: "finished", "stopped" on request, or "nothing to do" where it was finished before.
    """

    path: Path | None
    frames: int
    status: Literal["finished", "stopped", "nothing to do"]


def run(
    config: Config,
    settings: VideoSettings,
    *,
    overwrite: bool = False,
    resume: bool = False,
    callbacks: Iterable[Callable[[VideoEvent], object]] = (),
    should_stop: Callable[[], bool] | None = None,
) -> VideoResult:
    """Stylizes a video, and saves it with the sound and the frame rate of the original.

    Nothing is printed, and no signal handlers are installed; warnings go to the logger "nst_tf".

    Args:
        config: The settings of the frames, with the style images.
        settings: The video files, and how frames follow one another.
        overwrite: Whether a file at `output_video` may be replaced, and the finished frames of an
            interrupted run of other settings be dropped.
        resume: Whether to go on after the frames that an interrupted run of the same settings has
            finished; where there is none, the run begins.
        callbacks: Called with each `VideoEvent`. One that raises is reported by a warning and not
            called again.
        should_stop: Called after every evaluation; a true answer stops the run. The frame that was
            computed is lost, finished ones are kept.

    Returns:
        What became of the video.

    Raises:
        InputError: The video, an image or a size is wrong, or the frames of another run are there.
        MachineError: A package is missing, a file cannot be written, another run writes there, or
            memory does not suffice.
        NumericalError: The loss of a frame is not finite. Finished frames are kept.
    """
    began = time.monotonic()
    source = _checked_source(config, settings)
    _check_output(source, settings.output_video)
    if not overwrite and not resume:
        _check_free(settings.output_video)
    system.check_versions()
    check_backend()
    with ThreadPoolExecutor(1, "nst_tf weights") as executor:
        plan = _plan(config, settings, source)
        sha256, weights = load_weights(config, executor)
        facts = plan.facts(sha256)
        folder = run_folder(settings.output_video)
        files.prepare_folder(settings.output_video.parent, _ANOTHER)
        with files.lock_directory(folder, settings.output_video):
            log = _Log(folder)
            there = _frames_there(folder, log, facts, overwrite=overwrite)
            done = there if resume else 0
            if done and read_record(folder)["finished"] and settings.output_video.exists():
                return VideoResult(settings.output_video, log.count(), "nothing to do")
            if not overwrite:
                _check_free(settings.output_video)
            notes = ("there is nothing to resume: the run begins",) if resume and not done else ()
            if not done:
                if there:
                    warn(f"beginning anew; --resume would go on after {there} frames")
                FrameFolder(folder).clear()
            log.cut(done)
            files.atomic_write(folder / "config.yaml", to_yaml(plan.config).encode())
            _write_record(folder, {"finished": False, "fingerprint": dict(facts)})
            stop = should_stop or (lambda: False)
            notify = CallbackList[VideoEvent](callbacks)
            job = _Job(plan, folder, log, done, notify, stop, began)
            job.notify(
                VideoPlanned(
                    plan.shape, float(plan.info.rate), plan.info.frames, done,
                    plan.expected.memory_bytes, notes,
                )
            )  # fmt: skip
            return job.run(weights.result() if weights else None, facts, overwrite)


@dataclass(frozen=True)
class _Plan:
    """What is computed.

    Attributes:
        config: The settings of a frame that begins a scene.
        settings: Those of the video.
        source: The video to read.
        info: What it tells.
        shape: Height and width of the result, both even, as H.264 needs them.
        styles: The style images.
        initial: The image that `init` names, or None.
        expected: What a frame will take.
    """

    config: Config
    settings: VideoSettings
    source: Path
    info: VideoInfo
    shape: tuple[int, int]
    styles: list[ImageArray]
    initial: ImageArray | None
    expected: ResourceEstimate

    def later(self) -> Config:
        """The settings of a frame that follows another one, whose large shapes it has."""
        return self.config.replace(pyramid="none", num_iterations=self.settings.frame_iterations)

    def facts(self, weights_sha256: str) -> Facts:
        """Returns what the frames depend on, as `nst_tf.jobs.provenance.fingerprint`."""
        styles = {f"style_image {number}": each for number, each in enumerate(self.styles, 1)}
        inputs = {**styles, "the start": self.initial}
        with self.source.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        video = {
            "content_video": digest,
            "temporal_weight": json.dumps(self.settings.temporal_weight),
            "frame_iterations": json.dumps(self.settings.frame_iterations),
        }
        return {**fingerprint(self.config, inputs, weights_sha256), **video}


def _checked_source(config: Config, settings: VideoSettings) -> Path:
    """Returns the video to read, where everything is given that has to be, and nothing else."""
    if settings.content_video is None:
        what, why = "content_video is missing", "it is the video file to stylize"
        raise InputError(what, why, "give --content_video=FILE")
    if not config.style_image:
        what, why = "style_image is missing", "it is the style image file"
        raise InputError(what, why, "give --style_image=FILE")
    if config.content_masks:
        what, why = "content_masks do not go with a video", "regions move from frame to frame"
        raise InputError(what, why, "leave them out")
    return settings.content_video


def _check_output(source: Path, output: Path) -> None:
    ffmpeg.program()
    if output.is_dir():
        raise MachineError("cannot write the video", "it is a folder", _ANOTHER, where=output)
    check_folder(output.parent, _ANOTHER)
    if output.exists() and source.exists() and source.samefile(output):
        raise InputError(
            "the output would replace the input", "both are one file", _ANOTHER, where=output
        )


def _check_free(output: Path) -> None:
    if output.exists():
        raise MachineError(
            "the output exists",
            "a video is replaced only where that is asked for",
            f"{_ANOTHER}, or replace it with --overwrite",
            where=output,
        )


def _plan(config: Config, settings: VideoSettings, source: Path) -> _Plan:
    info = video_frames.inspect(source)
    side = config.longer_side(info.shape)
    shape = _even(resized_shape(info.shape, side))
    config = config.replace(image_size=max(shape))

    def read_image(path: Path) -> ImageArray:
        return images.read(path, config.max_pixels, None, config.background_color)

    read = [read_image(path) for path in config.style_image]
    initial = reduce(read_image(config.init_file), shape) if config.init_file else None
    shapes = [(style.shape[0], style.shape[1]) for style in read]
    levels = pyramid.plan(shape, shapes, config)
    expected = estimate(levels, config, max(shape[0] * shape[1], *(h * w for h, w in shapes)))
    check_memory(expected, max(shape), config)
    styles = [
        reduce(style, largest) for style, largest in zip(read, levels[-1].style_shapes, strict=True)
    ]
    return _Plan(
        config.replace(tile_size=expected.tile_size),
        settings,
        source,
        info,
        shape,
        styles,
        initial,
        expected,
    )


def _even(shape: tuple[int, int]) -> tuple[int, int]:
    height, width = (max(2, side // 2 * 2) for side in shape)
    return height, width


def _frames_there(folder: Path, log: "_Log", facts: Facts, *, overwrite: bool) -> int:
    """Returns how many frames of a run are done; refuses to drop those of another run."""
    before = read_record(folder).get("fingerprint")
    finished = min(FrameFolder(folder).count(), log.count())
    if before is None or not finished:
        return 0
    changed = differences(before, facts)
    if changed and not overwrite:
        raise InputError(
            "the frames of another run are there",
            f"it differs in {', '.join(changed)}",
            "go on with its settings and files and --resume, give it up with --overwrite, or "
            f"{_ANOTHER}",
            where=folder,
        )
    return 0 if changed else finished


def _write_record(folder: Path, record: Mapping[str, Any]) -> None:
    files.atomic_write(folder / "run.json", (json.dumps(record, indent=2) + "\n").encode())


class _Log:
    """The table of finished frames in the run folder, `frames.csv`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "frames.csv"

    def rows(self) -> list[dict[str, str]]:
        """Reads all rows."""
        if not self._path.exists():
            return []
        return list(csv.DictReader(self._path.read_text(encoding="utf-8").splitlines()))

    def count(self) -> int:
        """Returns the number of rows."""
        return len(self.rows())

    def cut(self, count: int) -> None:
        """Keeps the first rows only."""
        kept = [",".join(row.values()) for row in self.rows()[:count]]
        text = "\n".join([",".join(_COLUMNS), *kept]) + "\n"
        files.atomic_write(self._path, text.encode())

    def append(self, *values: object) -> None:
        """Adds the row of a frame."""
        files.append_lines(self._path, [",".join(map(str, values))])


class _Follows(NamedTuple):
    """What the frame before leads to.

    Attributes:
        image: The frame that follows from the result before.
        trust: Where that is known.
        scene_begins: Whether nothing follows from it, as after a cut.
    """

    image: ImageArray
    trust: Trust
    scene_begins: bool


def follow(content: ImageArray, before: ImageArray, result_before: ImageArray) -> _Follows:
    """Moves the result before along the optical flow, and finds cuts.

    Args:
        content: The frame, RGB [H, W, 3] in [0, 255].
        before: The frame before.
        result_before: The result of the frame before.

    Returns:
        What follows from it. A scene begins where few pixels are trusted, or where the frame
        before, moved likewise, differs much.
    """
    backward = optical_flow(content, before)
    trust = trusted(backward, optical_flow(before, content))
    difference = float(np.mean(np.abs(warp_image(before, backward) - content)))
    is_cut = float(trust.mean()) < _LEAST_TRUST or difference > _LARGEST_DIFFERENCE
    return _Follows(warp_image(result_before, backward), trust, is_cut)


def flicker(image: ImageArray, expected: ImageArray, trust: Trust) -> float:
    """Measures how much a result differs from what the one before leads to.

    Args:
        image: The result, RGB [H, W, 3] in [0, 255].
        expected: The result before, moved along the flow.
        trust: Where the flow is known, [H, W].

    Returns:
        The mean absolute difference on trusted pixels, in gray levels; 0 where there are none.
    """
    known = trust > 0
    return float(np.mean(np.abs(image - expected)[known])) if known.any() else 0.0


@dataclass(frozen=True)
class _Job:
    """A run that holds the lock on its folder.

    Attributes:
        plan: What is computed.
        folder: The run folder.
        log: The table in it.
        done: How many frames are done.
        notify: Passes events to the callbacks.
        should_stop: Whether the run is to end.
        began: When it began, by the monotonic clock.
    """

    plan: _Plan
    folder: Path
    log: _Log
    done: int
    notify: CallbackList[VideoEvent]
    should_stop: Callable[[], bool]
    began: float

    def run(self, weights: Parameters | None, facts: Facts, overwrite: bool) -> VideoResult:
        """Stylizes the frames that are not done, and writes the video."""
        system.prepare_environment(self.plan.config.deterministic)
        import_keras()
        from nst_tf.engine.stylizer import Stylizer

        first = Stylizer(self.plan.config, weights=weights)
        later = Stylizer(self.plan.later(), weights=weights)
        frames = FrameFolder(self.folder)
        before: ImageArray | None = None
        result_before: ImageArray | None = None
        number = max(0, self.done - 1)
        for content in video_frames.read(self.plan.source, self.plan.shape, number):
            if number < self.done:
                result_before = from_integers(frames.read(number))
            else:
                if self.should_stop():
                    return VideoResult(None, number, "stopped")
                result_before = self._frame(
                    number, content, before, result_before, first, later, frames
                )
            if result_before is None:
                return VideoResult(None, number, "stopped")
            before, number = content, number + 1
        self._finish(number, frames, facts, overwrite)
        return VideoResult(self.plan.settings.output_video, number, "finished")

    def _frame(
        self,
        number: int,
        content: ImageArray,
        before: ImageArray | None,
        result_before: ImageArray | None,
        first: "Stylizer",
        later: "Stylizer",
        frames: FrameFolder,
    ) -> ImageArray | None:
        """Stylizes a frame and saves it; None where the run is stopped before its end."""
        from nst_tf.engine.inputs import Before

        began = time.monotonic()
        styles, initial = self.plan.styles, self.plan.initial
        follows = None
        if before is not None and result_before is not None:
            follows = follow(content, before, result_before)
        if follows is None or follows.scene_begins:
            result = first(content, styles, initial=initial, should_stop=self.should_stop)
            share, difference, begins = 0.0, 0.0, True
        else:
            known = Before(follows.image, follows.trust, self.plan.settings.temporal_weight)
            result = later(
                content, styles, initial=initial, before=known, should_stop=self.should_stop
            )
            share, begins = float(follows.trust.mean()), False
        if result.stop_reason is StopReason.STOPPED:
            return None
        self._check(result, number)
        # What a resumed run reads from the file.
        image = from_integers(quantize(result.image))
        if follows is not None and not begins:
            difference = flicker(image, follows.image, follows.trust)
        frames.save(number, image)
        seconds = time.monotonic() - began
        self.log.append(
            number + 1, int(begins), f"{share:.4f}", result.iterations, f"{seconds:.2f}",
            f"{result.losses.total:.6g}", f"{difference:.4f}",
        )  # fmt: skip
        total = max(self.plan.info.frames, number + 1)
        pace = (time.monotonic() - self.began) / (number + 1 - self.done)
        self.notify(
            FrameDone(
                number + 1, total, begins, share, seconds, pace * (total - number - 1), difference
            )
        )
        return image

    def _check(self, result: "Result", number: int) -> None:
        if result.failure:
            raise NumericalError(
                f"frame {number + 1} could not be stylized",
                result.failure,
                "check the weights and the settings; --resume goes on after the finished frames",
            )

    def _finish(self, count: int, frames: FrameFolder, facts: Facts, overwrite: bool) -> None:
        """Writes the video and the record."""
        plan, output = self.plan, self.plan.settings.output_video
        try:
            ffmpeg.encode(
                output,
                frames.read_all(count),
                plan.info.rate,
                sound_of=plan.source,
                replace=overwrite,
            )
        except FileExistsError as error:
            raise MachineError(
                "the output exists",
                "another program wrote it meanwhile",
                f"{_ANOTHER}, or replace it with --overwrite and --resume",
                where=output,
            ) from error
        rows = self.log.rows()
        measured = [float(row["flicker"]) for row in rows if row["scene_begins"] == "0"]
        scenes = len(rows) - len(measured)
        mean = float(np.mean(measured)) if measured else 0.0
        seconds = time.monotonic() - self.began
        _write_record(
            self.folder,
            {
                "finished": True,
                "frames": count,
                "scenes": scenes,
                "flicker": round(mean, 4),
                "frame_rate": str(plan.info.rate),
                "image_size": [plan.shape[1], plan.shape[0]],
                "seconds": round(seconds, 3),
                "versions": {"nst_tf": nst_tf.__version__, **system.versions()},
                "fingerprint": dict(facts),
            },
        )
        self.notify(VideoSaved(output, count, scenes, mean, seconds))
