"""The time-lapse of a job: small frames in the run folder, and the animation made of them."""

import contextlib
import hashlib
import io
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageCms

from nst_tf.config import Config
from nst_tf.engine.pyramid import Level
from nst_tf.errors import InputError, MachineError
from nst_tf.events import Event, Iteration
from nst_tf.image.arrays import ImageArray, quantize
from nst_tf.image.resize import resize, resized_shape
from nst_tf.io import ffmpeg, files
from nst_tf.jobs.output import check_folder, numbered
from nst_tf.jobs.provenance import input_files

FRAMES = "timelapse"
"""The folder of the frames in the run folder."""

_LARGEST_SIDE = 640
"""Pixels of the longer side of frames."""

_RATE = 15
_MOST_FRAMES = 240
"""Frames that are kept for a second of the animation, and in all."""

_HOLD_SECONDS = 2.0
"""How long the last image is shown."""

_QUALITY = 90
_TICKS = {".webp": 100, ".gif": 100, ".mp4": 30}
"""Units of time in a second: GIF counts hundredths, and an MP4 file has frames of equal length."""

_ANOTHER = "choose another --timelapse"
_MOST_NUMBERS = 10_000
_MARK = "nst_tf time-lapse"


def check(config: Config) -> None:
    """Refuses a time-lapse that could not be written after the run.

    Args:
        config: All settings.

    Raises:
        InputError: It is the file of the result or of an input.
        MachineError: Its folder cannot be written, or a package for its format is missing.
    """
    path = config.timelapse
    if path is None:
        return
    kept = {**dict.fromkeys(input_files(config), "an input"), config.output_image: "the result"}
    for file, what in kept.items():
        if files.is_same(path, file):
            raise InputError(
                f"the time-lapse would replace {what}", f"both are {file}", _ANOTHER, where=path
            )
    if path.is_dir():
        raise MachineError("cannot write the time-lapse", "it is a folder", _ANOTHER, where=path)
    check_folder(path.parent, _ANOTHER)
    if path.suffix.lower() == ".mp4":
        ffmpeg.program()


def remove_frames(run_folder: Path) -> None:
    """Removes the frames of an earlier run.

    Args:
        run_folder: The run folder.
    """
    folder = run_folder / FRAMES
    for path in folder.glob("*.webp"):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # there is none, or somebody keeps other files there
        folder.rmdir()


class Frames:
    """Keeps small images of a run, evenly spaced over its work, of which there are a few hundred.

    Work is iterations times pixels. Each frame is a file named after the work done by then, so that
    a run that is continued, also with more iterations, goes on with those of its beginning.

    Args:
        folder: The run folder.
        levels: The plan of the run.
        seconds: The length of the animation.
    """

    def __init__(self, folder: Path, levels: Sequence[Level], seconds: float) -> None:
        height, width = levels[-1].shape
        side = min(_LARGEST_SIDE, max(height, width))
        # Sides are even, as videos need them.
        self._shape = tuple(max(2, side // 2 * 2) for side in resized_shape((height, width), side))
        self._total = sum(level.num_iterations * math.prod(level.shape) for level in levels)
        self._spacing = max(1, round(self._total / min(_MOST_FRAMES, _RATE * seconds)))
        self._folder = folder / FRAMES
        self._done = 0
        self._kept: list[int] = []
        for work in sorted(int(path.stem) for path in self._folder.glob("[0-9]*.webp")):
            if self._is_due(work):
                self._kept.append(work)
            else:
                self._path(work).unlink(missing_ok=True)

    def __call__(self, event: Event) -> None:
        """Keeps the image of an `Iteration` when one is due."""
        if not isinstance(event, Iteration):
            return
        work = self._done = round(event.done * self._total)
        while self._kept and self._kept[-1] >= work:  # the optimizer continues from earlier
            self._path(self._kept.pop()).unlink(missing_ok=True)
        if not self._is_due(work):
            return
        data = io.BytesIO()
        Image.fromarray(self.frame(event.image)).save(data, "WEBP", quality=_QUALITY)
        self._folder.mkdir(exist_ok=True)
        files.atomic_write(self._path(work), data.getvalue())
        self._kept.append(work)

    def frame(self, image: ImageArray) -> npt.NDArray[np.uint8]:
        """Makes a frame of an image.

        Args:
            image: RGB [H, W, 3] in [0, 255].

        Returns:
            RGB [h, w, 3], of the size that all frames have.
        """
        height, width = self._shape
        return quantize(resize(image, (height, width))).astype(np.uint8)

    def read(self) -> Iterator[npt.NDArray[np.uint8]]:
        """Reads the frames that were kept, in their order."""
        for work in self._kept:
            with Image.open(self._path(work)) as image:
                yield np.asarray(image.convert("RGB"))

    def durations(self, seconds: float) -> list[float]:
        """Returns how long each frame is shown, in proportion to the work until the next one.

        Args:
            seconds: The sum over all but the last.

        Returns:
            The seconds of each frame, and how long the last image is held.
        """
        works = np.array([*self._kept, max([self._done, *(work + 1 for work in self._kept)])])
        shares = np.diff(works) / max(1, works[-1] - works[0])
        return [*(seconds * shares).tolist(), _HOLD_SECONDS]

    def _is_due(self, work: int) -> bool:
        return not self._kept or work // self._spacing > self._kept[-1] // self._spacing

    def _path(self, work: int) -> Path:
        return self._folder / f"{work:015d}.webp"


def write(
    path: Path,
    frames: Iterable[npt.NDArray[np.uint8]],
    durations: Sequence[float],
    of: Path,
    profile: bytes | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Writes an animation; the time-lapse of another image and other files are kept.

    Args:
        path: The file; its suffix decides the format.
        frames: RGB [h, w, 3] of one size.
        durations: The seconds that each is shown.
        of: The image that the run made: only its own time-lapse is replaced, and where there is
            another file, the next free number is used.
        profile: The ICC profile of the pixels; None for sRGB.
        overwrite: Whether any file but that image may be replaced.

    Returns:
        The file that was written.

    Raises:
        MachineError: It cannot be written.
    """
    mark = f"{_MARK} {hashlib.sha256(os.fsencode(of.name)).hexdigest()[:16]}"
    files.prepare_folder(path.parent, _ANOTHER)
    shown = [_in_srgb(Image.fromarray(frame), profile) for frame in frames]
    for number in range(1, _MOST_NUMBERS):
        found = numbered(path, number)
        may_replace = overwrite and number == 1 and not files.is_same(found, of)
        replace = found.exists() and (_has_mark(found, mark) or may_replace)
        if found.exists() and not replace:
            continue
        with contextlib.suppress(FileExistsError):  # another program wrote it meanwhile
            _save(found, shown, durations, mark, replace=replace)
            return found
    raise MachineError(
        "there is no free name for the time-lapse",
        f"all numbers up to {_MOST_NUMBERS} are in use",
        _ANOTHER,
        where=path,
    )


def _save(
    path: Path,
    frames: Sequence[Image.Image],
    durations: Sequence[float],
    mark: str,
    *,
    replace: bool,
) -> None:
    suffix = path.suffix.lower()
    ticks = _ticks(durations, _TICKS[suffix])
    if suffix == ".mp4":
        repeated = (
            np.asarray(frame)
            for frame, count in zip(frames, ticks, strict=True)
            for _ in range(count)
        )
        rate = Fraction(_TICKS[suffix])
        ffmpeg.encode(path, repeated, rate, comment=mark, replace=replace)
        return
    shown = [(frame, count) for frame, count in zip(frames, ticks, strict=True) if count]
    (first, *others), counts = zip(*shown, strict=True)
    settings = {
        "append_images": others,
        "duration": [1000 * count // _TICKS[suffix] for count in counts],
        "loop": 0,
        "save_all": True,
    }
    if suffix == ".gif":
        settings["comment"] = mark.encode()
    else:
        exif = Image.Exif()
        exif[ExifTags.Base.Software] = mark
        settings |= {"exif": exif.tobytes(), "quality": _QUALITY}
    data = io.BytesIO()
    first.save(data, "GIF" if suffix == ".gif" else "WEBP", **settings)
    files.atomic_write(path, data.getvalue(), replace=replace)


def _ticks(durations: Sequence[float], per_second: int) -> list[int]:
    """Rounds the times at which frames follow one another, so that the sum has no error."""
    times = np.rint(np.cumsum([0.0, *durations]) * per_second).astype(int)
    found: list[int] = np.diff(times).tolist()
    return found


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    if profile is None:
        return image
    srgb = ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, io.BytesIO(profile), srgb, outputMode="RGB")
    return image if converted is None else converted


def _has_mark(path: Path, mark: str) -> bool:
    """Whether a file is the time-lapse with a mark, which stands near its beginning or its end."""
    with path.open("rb") as file:
        start = file.read(2**16)
        file.seek(-min(path.stat().st_size, 2**16), io.SEEK_END)
        return mark.encode() in start + file.read()
