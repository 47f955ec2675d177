"""The frames of a video file, one by one, and the stylized ones in the run folder."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nst_tf import system
from nst_tf.errors import InputError, MachineError
from nst_tf.image.arrays import ImageArray, from_integers, quantize
from nst_tf.image.flow import opencv
from nst_tf.image.resize import resize
from nst_tf.io import files, images

_FOLDER = "frames"
_LARGEST_DENOMINATOR = 1001
"""That of 30000/1001 frames per second, as of NTSC."""

_RATES = (0.1, 1000.0)
"""Frames per second that a video may have."""


@dataclass(frozen=True)
class VideoInfo:
    """What a video file tells of itself.

    Attributes:
        shape: Height and width of its frames, upright.
        rate: Frames per second, the mean where it varies.
        frames: The number of frames; where the file tells a wrong one, it ends earlier or later.
    """

    shape: tuple[int, int]
    rate: Fraction
    frames: int


def inspect(path: Path) -> VideoInfo:
    """Reads the size, the rate and the length of a video.

    Args:
        path: The file.

    Returns:
        What it tells, after its first frame was decoded.

    Raises:
        InputError: There is no such file, no video in it, or one that cannot be decoded.
        MachineError: OpenCV is not installed.
    """
    cv2 = opencv()
    _check_file(path)
    with _opened(path) as video:
        found, frame = _next(video)
        rate = float(video.get(cv2.CAP_PROP_FPS))
        frames = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    if not found:
        raise _refusal(path, "there is no video in it, or one that this OpenCV cannot decode")
    lowest, highest = _RATES
    if not lowest <= rate <= highest:
        raise _refusal(path, f"its frame rate, {rate:g}, is not from {lowest:g} to {highest:g}")
    height, width = frame.shape[:2]
    exact = Fraction(rate).limit_denominator(_LARGEST_DENOMINATOR)
    return VideoInfo((height, width), exact, max(1, frames))


def read(path: Path, shape: tuple[int, int], first: int = 0) -> Iterator[ImageArray]:
    """Reads the frames of a video, one at a time.

    Args:
        path: The file.
        shape: Height and width to which frames are resampled.
        first: The number, from 0, of the first frame that is wanted.

    Yields:
        RGB [*shape, 3] in [0, 255], upright.

    Raises:
        InputError: It cannot be read.
    """
    cv2 = opencv()
    _check_file(path)
    with _opened(path) as video:
        for _ in range(first):  # positions by number are not reliable in all formats
            if not video.grab():
                return
        while True:
            found, frame = _next(video)
            if not found:
                return
            yield resize(from_integers(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)), shape)


def _next(video: Any) -> tuple[bool, npt.NDArray[np.uint8]]:
    """Decodes a frame; its library prints what it thinks of damage."""
    with system.quiet():
        found, frame = video.read()
    return found, frame


def _check_file(path: Path) -> None:
    if not path.exists():
        raise InputError("cannot read the video", "no such file", "name a video", where=path)
    if not path.is_file():
        raise _refusal(path, "it is a directory" if path.is_dir() else "it is no regular file")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    cv2 = opencv()
    with system.quiet():
        video = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        if not video.isOpened():
            raise _refusal(path, "there is no video in it, or one that this OpenCV cannot decode")
        yield video
    finally:
        video.release()


def _refusal(path: Path, why: str) -> InputError:
    return InputError(
        "cannot read the video", why, "convert it to MP4, as with ffmpeg -i", where=path
    )


class FrameFolder:
    """The stylized frames in a run folder, as PNG files.

    Args:
        run_folder: The run folder.
    """

    def __init__(self, run_folder: Path) -> None:
        self._folder = run_folder / _FOLDER

    def count(self) -> int:
        """Returns how many frames are there from the first one on, without a gap."""
        number = 0
        while self._path(number).exists():
            number += 1
        return number

    def save(self, number: int, image: ImageArray) -> None:
        """Saves a frame.

        Args:
            number: From 0.
            image: RGB [H, W, 3] in [0, 255].

        Raises:
            MachineError: It cannot be written.
        """
        files.prepare_folder(self._folder)
        files.atomic_write(self._path(number), images.encode(quantize(image), ".png", ""))

    def read(self, number: int) -> npt.NDArray[np.uint8]:
        """Reads a frame, RGB [H, W, 3].

        Raises:
            MachineError: It is damaged or gone.
        """
        try:
            return quantize(images.read(self._path(number))).astype(np.uint8)
        except InputError as error:
            raise MachineError(
                "cannot read a finished frame", str(error), "start again without --resume"
            ) from error

    def read_all(self, count: int) -> Iterator[npt.NDArray[np.uint8]]:
        """Reads so many frames, one at a time."""
        return map(self.read, range(count))

    def clear(self) -> None:
        """Removes all frames."""
        for path in self._folder.glob("[0-9]*.png"):
            path.unlink(missing_ok=True)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number + 1:06d}.png"
