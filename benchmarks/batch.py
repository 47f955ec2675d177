"""Time and memory of a batch: photos of mixed shapes in one command, against their evaluations.

    python -m benchmarks.batch                              # 20 photos at 256 px
    python -m benchmarks.batch --photos 5 --image_size 128

The expected time is at most 1.3 times the evaluations of all photos plus one start, which is that
of the command with one photo, without its evaluations. Memory is flat where the peak of the process
does not grow any more after all shapes have been there.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nst_tf.image.arrays import quantize
from nst_tf.io import files, images

_ROOT = Path(__file__).parent.parent
_CONTENTS = ("summer-palace", "tubingen", "astronaut", "village-street")
_STYLE = _ROOT / "images" / "the_scream.jpg"
_ASPECTS = (4 / 3, 3 / 4, 3 / 2, 1.0, 16 / 9)
_MOST = 1.3


class Figures(NamedTuple):
    """What was measured of a batch.

    Attributes:
        photos: How many there were.
        seconds: Of the whole command.
        seconds_evaluating: Of the evaluations of all photos.
        seconds_starting: Of the command with one photo, without its evaluations.
        peak_memory_bytes: The peak of the process after each photo.
    """

    photos: int
    seconds: float
    seconds_evaluating: float
    seconds_starting: float
    peak_memory_bytes: list[int]

    @property
    def ratio(self) -> float:
        """The time relative to that of all evaluations and one start."""
        return self.seconds / (self.seconds_evaluating + self.seconds_starting)

    @property
    def growth(self) -> float:
        """How much the peak grew over the second half of the photos, relative to its half."""
        half = self.peak_memory_bytes[len(self.peak_memory_bytes) // 2]
        return self.peak_memory_bytes[-1] / half - 1.0


def write_photos(folder: Path, number: int) -> list[Path]:
    """Writes crops of the images of the repository, in five aspects.

    Args:
        folder: Where to.
        number: How many.

    Returns:
        The files.
    """
    paths = []
    for count in range(number):
        image = images.read(_ROOT / "images" / f"{_CONTENTS[count % len(_CONTENTS)]}.jpg")
        pixels = quantize(_crop(image, _ASPECTS[count % len(_ASPECTS)], count))
        path = folder / f"photo-{count:03d}.png"
        files.atomic_write(path, images.encode(pixels, ".png", ""))
        paths.append(path)
    return paths


def _crop(image: np.ndarray, aspect: float, seed: int) -> np.ndarray:
    """Cuts the largest rectangle of an aspect out of an image, at a random place."""
    height, width = image.shape[:2]
    tall, wide = min(height, round(width / aspect)), min(width, round(height * aspect))
    random = np.random.default_rng(seed)
    top, left = random.integers(0, height - tall + 1), random.integers(0, width - wide + 1)
    return image[top : top + tall, left : left + wide]


def run(photos: Sequence[Path], folder: Path, flags: Sequence[str]) -> tuple[float, list[Any]]:
    """Runs the command.

    Args:
        photos: The content images.
        folder: Of the results.
        flags: Further flags.

    Returns:
        The time of the whole process in seconds, and the record of each photo.
    """
    began = time.perf_counter()
    subprocess.run(
        [
            *(sys.executable, "-m", "nst_tf.main", "--content_image", *map(str, photos)),
            *("--style_image", str(_STYLE), f"--output_dir={folder}", "--print_iter=0", *flags),
        ],
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        check=True,
    )
    seconds = time.perf_counter() - began
    records = [
        json.loads((folder / f"{photo.stem}_{_STYLE.stem}.png.run" / "run.json").read_text())
        for photo in photos
    ]
    return seconds, records


def measure(number: int, flags: Sequence[str]) -> Figures:
    """Measures a batch and one photo of it.

    Args:
        number: How many photos.
        flags: Further flags of the command.

    Returns:
        The figures.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos = write_photos(folder, number)
        alone, (record,) = run(photos[:1], folder / "one", flags)
        seconds, records = run(photos, folder / "all", flags)
    return Figures(
        number,
        seconds,
        sum(each["seconds_evaluating"] for each in records),
        alone - record["seconds_evaluating"],
        [each["peak_memory_bytes"] for each in records],
    )


def main() -> None:
    """Measures, and prints the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photos", type=int, default=20)
    parser.add_argument("--image_size", type=int, default=256)
    parser.add_argument("--preset", default="draft")
    arguments = parser.parse_args()
    flags = [f"--image_size={arguments.image_size}", f"--preset={arguments.preset}"]
    found = measure(arguments.photos, flags)
    peaks = ", ".join(f"{peak / 1e6:.0f}" for peak in found.peak_memory_bytes)
    print(
        f"{found.photos} photos: {found.seconds:.1f} s; evaluations "
        f"{found.seconds_evaluating:.1f} s, one start {found.seconds_starting:.1f} s: "
        f"{found.ratio:.2f} times their sum "
        f"(expected at most {_MOST}); peak memory in MB {peaks}: {found.growth:+.1%} in the "
        "second half"
    )


if __name__ == "__main__":
    main()
