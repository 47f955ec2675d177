"""Encoding of videos with ffmpeg, which the optional dependency imageio-ffmpeg brings."""

import subprocess
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nst_tf import system
from nst_tf.errors import MachineError
from nst_tf.io import files

_TAIL = 300
"""Characters of ffmpeg's last words that are told."""

_VIDEO = (
    "-vf", "scale=out_color_matrix=bt709:out_range=tv", "-c:v", "libx264", "-crf", "16",
    "-pix_fmt", "yuv420p", "-color_range", "tv", "-colorspace", "bt709",
    "-color_primaries", "bt709", "-color_trc", "bt709",
)  # fmt: skip
"""H.264 that all players show, with the colors told. Noise of paint needs a low `crf`."""


def program() -> str:
    """Returns the path of ffmpeg.

    Raises:
        MachineError: imageio-ffmpeg is not installed, or has no program for this system.
    """
    package = system.optional_module("imageio_ffmpeg", "imageio-ffmpeg", "write a video", "video")
    try:
        path: str = package.get_ffmpeg_exe()
    except RuntimeError as error:
        raise MachineError(
            "cannot write a video",
            "imageio-ffmpeg has no program for this system",
            "install ffmpeg, and set IMAGEIO_FFMPEG_EXE to its path",
        ) from error
    return path


def encode(
    path: Path,
    frames: Iterable[npt.NDArray[np.uint8]],
    rate: Fraction,
    *,
    sound_of: Path | None = None,
    comment: str = "",
    replace: bool = True,
) -> None:
    """Writes a video file, complete or not at all.

    Args:
        path: The file, MP4 whatever its suffix is.
        frames: RGB [H, W, 3] of one size, each side even; at least one.
        rate: Frames per second.
        sound_of: A file whose first sound track is copied, or encoded anew where MP4 cannot hold
            it; None for none. A file without sound gives none.
        comment: What the file's metadata are to say.
        replace: Whether an existing file may be replaced.

    Raises:
        FileExistsError: The file exists and may not be replaced.
        MachineError: imageio-ffmpeg is not installed, or ffmpeg failed.
    """
    ffmpeg = program()
    metadata = ["-metadata", f"comment={comment}"] if comment else []
    end = ["-movflags", "+faststart", "-f", "mp4"]
    with files.atomic_path(path, replace=replace) as temporary:
        if sound_of is None:
            _encode(ffmpeg, frames, rate, [*metadata, *end, str(temporary)], path)
            return
        silent = temporary.with_name(f"{temporary.name}-silent")
        try:
            _encode(ffmpeg, frames, rate, ["-f", "mp4", str(silent)], path)
            streams = [
                "-i", str(silent), "-i", str(sound_of), "-map", "0:v:0", "-map", "1:a:0?",
                "-c:v", "copy",
            ]  # fmt: skip
            for codec in ("copy", "aac"):
                found = _run(
                    [ffmpeg, "-y", *streams, "-c:a", codec, *metadata, *end, str(temporary)]
                )
                if found.returncode == 0:
                    return
            raise _failure(path, found.stderr)
        finally:
            silent.unlink(missing_ok=True)


def _encode(
    ffmpeg: str,
    frames: Iterable[npt.NDArray[np.uint8]],
    rate: Fraction,
    end: list[str],
    path: Path,
) -> None:
    """Passes frames to ffmpeg one by one."""
    iterator = iter(frames)
    first = next(iterator)
    height, width = first.shape[:2]
    command = [
        ffmpeg, "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24",
        "-s", f"{width}x{height}", "-r", f"{rate.numerator}/{rate.denominator}", "-i", "-",
        *_VIDEO, *end,
    ]  # fmt: skip
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    if process.stdin is None or process.stderr is None:  # which Popen was asked for
        raise MachineError("cannot write the video", "there is no pipe", "run again", where=path)
    with process:
        try:
            process.stdin.write(first.tobytes())
            for frame in iterator:
                process.stdin.write(frame.tobytes())
            process.stdin.close()
        except BrokenPipeError:  # its last words say why
            pass
        except BaseException:
            process.kill()
            raise
        printed = process.stderr.read()
    if process.returncode:
        raise _failure(path, printed)


def _run(command: list[str]) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [command[0], "-loglevel", "error", *command[1:]],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )


def _failure(path: Path, printed: bytes) -> MachineError:
    words = printed.decode(errors="replace").strip()[-_TAIL:]
    return MachineError(
        "cannot write the video",
        f"ffmpeg failed: {words or 'it says nothing'}",
        "free some space, or choose another place for the file",
        where=path,
    )
