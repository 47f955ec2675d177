"""Checks of strangers' images and of jobs in a child process: `python -m nst_tf.web.checks`.

The child decodes with a limit of memory and of processor time, so that no file can harm the server.
It reads one request as JSON from stdin and writes one answer as JSON to stdout.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from nst_tf import errors
from nst_tf.config import Config
from nst_tf.errors import InputError, MachineError, NstError
from nst_tf.image.arrays import quantize
from nst_tf.image.resize import reduce
from nst_tf.io import files, images
from nst_tf.jobs.planning import plan
from nst_tf.models.backend import take_process

MAX_PIXELS = 64_000_000
"""The most pixels of an upload."""

_MEMORY_BYTES = 4 * 2**30
_PROCESSOR_SECONDS = 60
_PREVIEW_SIDE = 1024
_PREVIEW_QUALITY = 85


class ImageFacts(NamedTuple):
    """What is told of an image.

    Attributes:
        suffix: That of its format, with the dot.
        width: In pixels.
        height: In pixels.
    """

    suffix: str
    width: int
    height: int


class PlanFacts(NamedTuple):
    """What is told of a job before it begins.

    Attributes:
        width: Of the result, in pixels.
        height: Of the result, in pixels.
        num_iterations: Iterations over all levels.
        memory_bytes: Expected peak memory.
        seconds: Expected time, or None where it is not known.
    """

    width: int
    height: int
    num_iterations: int
    memory_bytes: int
    seconds: float | None


def inspect(path: Path, preview: Path, name: str) -> ImageFacts:
    """Decodes an image and writes a small JPEG of it.

    Args:
        path: The file.
        preview: The JPEG to write.
        name: What the image is called in messages.

    Returns:
        What the image is.

    Raises:
        InputError: It is no image that can be used.
    """
    request = {
        "do": "inspect",
        "path": str(path),
        "preview": str(preview),
        "name": name,
        "memory_bytes": _MEMORY_BYTES,
    }
    return ImageFacts(**_in_child(request))


def plan_job(config: Config) -> PlanFacts:
    """Checks all that a job would be refused for.

    Args:
        config: All settings, with content and style images.

    Returns:
        What the job will take.

    Raises:
        InputError: An image or a size is wrong.
        MachineError: Memory or disk do not suffice.
    """
    request = {
        "do": "plan",
        "config": config.model_dump(mode="json"),
        "reusable": _memory_of_children(),
    }
    return PlanFacts(**_in_child(request))


def _memory_of_children() -> int:
    """Returns what the process of a picture holds, which the next one uses again, in bytes."""
    memory = 0
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has ended
            memory += child.memory_info().rss
    return memory


_REFUSAL = (
    "reading it takes too much memory or time",
    "save it again as PNG or JPEG, or make it smaller",
)


def _in_child(request: Mapping[str, Any]) -> dict[str, Any]:
    path = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "nst_tf.web.checks"],
            input=json.dumps(request).encode(),
            capture_output=True,
            timeout=2 * _PROCESSOR_SECONDS,
            env={
                **os.environ,
                "TF_CPP_MIN_LOG_LEVEL": "2",
                "PYTHONPATH": os.pathsep.join(filter(None, path)),
            },
            check=False,
        )
        answer: dict[str, Any] = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError) as error:
        raise InputError("cannot use the image", *_REFUSAL) from error
    if "error" in answer:
        type_: type[NstError] = getattr(errors, answer.pop("error"))
        raise type_(**answer)
    return answer


def _inspect(path: str, preview: str, name: str, memory_bytes: int) -> ImageFacts:
    from PIL import Image

    _limit_memory(memory_bytes)
    try:
        image = images.read(path, MAX_PIXELS)
    except InputError as error:
        error.where = name
        raise
    except (MachineError, MemoryError) as error:
        raise InputError("cannot use the image", *_REFUSAL, where=name) from error
    height, width = image.shape[:2]
    scale = min(1.0, _PREVIEW_SIDE / max(height, width))
    small = reduce(image, (max(1, round(scale * height)), max(1, round(scale * width))))
    jpeg = images.encode(quantize(small), ".jpg", "", quality=_PREVIEW_QUALITY)
    files.atomic_write(Path(preview), jpeg)
    with Image.open(path) as opened:
        suffix = f".{(opened.format or 'image').lower()}"
    return ImageFacts(suffix, width, height)


def _plan(config: Mapping[str, Any], reusable: int) -> PlanFacts:
    planned = plan(Config(**config), reusable=reusable)
    return PlanFacts(
        planned.levels[-1].width,
        planned.levels[-1].height,
        sum(level.num_iterations for level in planned.levels),
        planned.memory_bytes,
        planned.seconds,
    )


_ACTIONS: Mapping[str, Callable[..., ImageFacts | PlanFacts]] = {
    "inspect": _inspect,
    "plan": _plan,
}


def _limit_memory(size: int) -> None:
    if os.name == "posix":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (size, size))


def _limit_processor() -> None:
    if os.name == "posix":
        import resource

        limits = (_PROCESSOR_SECONDS, _PROCESSOR_SECONDS)
        resource.setrlimit(resource.RLIMIT_CPU, limits)


def main() -> None:
    """Answers one request."""
    _limit_processor()
    take_process()
    request = json.loads(sys.stdin.buffer.read())
    action = _ACTIONS[request.pop("do")]
    try:
        answer = action(**request)._asdict()
    except NstError as error:
        kind = next(kind for kind in type(error).__mro__ if hasattr(errors, kind.__name__))
        names = ("what", "why", "remedy", "where")
        answer = {"error": kind.__name__, **{name: getattr(error, name) for name in names}}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
