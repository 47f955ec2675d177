"""Folders of finished pictures, `CONTENDER/CONTENT_STYLE.png`: what is in them, and making them."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import run, summary
from benchmarks.contenders import CONTENDERS, Task
from nst_tf.config.schema import PRESETS
from nst_tf.errors import InputError
from nst_tf.io import files
from nst_tf.io.encoding import FORMATS

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "images"
NAMES = (*PRESETS, "reference", "reference-two-scales")
"""What `make` makes: presets with all their defaults, and contenders of the benchmark of time."""


@dataclass(frozen=True)
class Picture:
    """A finished picture.

    Attributes:
        contender: Who made it: the name of its folder.
        path: The image file.
        content: The content image file.
        style: The style image file.
    """

    contender: str
    path: Path
    content: Path
    style: Path

    @property
    def pair(self) -> str:
        """The name of the two images together."""
        return f"{self.content.stem}+{self.style.stem}"

    @property
    def record(self) -> dict[str, Any]:
        """What is recorded of how it was made, as "seconds"; empty where nothing is."""
        file = self.path.with_suffix(".json")
        record: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        return record


def find(results: Path, inputs: Iterable[Path], contenders: Iterable[str] = ()) -> list[Picture]:
    """Lists the pictures in a folder.

    Args:
        results: The folder; its folders have the names of contenders.
        inputs: Folders of the content images and the style images, with unique stems.
        contenders: Only those; all when empty. Names that begin with a dot are never taken.

    Returns:
        The pictures by pair, and then by contender as they are given, or by name.

    Raises:
        InputError: There is none, or the inputs of one are not known.
    """
    given = list(contenders)
    names = given or sorted(path.name for path in _visible(results) if path.is_dir())
    sources: dict[str, list[Path]] = {}
    for path in (path for folder in inputs for path in _images(folder)):
        sources.setdefault(path.stem, []).append(path)
    found = [_picture(path, sources) for name in names for path in _images(results / name)]
    if not found:
        raise InputError(
            "there are no pictures",
            f"none is named as in {NAMES[0]}/content_style.png",
            "make some, or give another --results",
            where=results,
        )
    return sorted(found, key=lambda picture: picture.pair)


def _visible(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError("cannot read the folder", "there is none", "give another", where=folder)
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    return [path for path in _visible(folder) if path.suffix.lower() in FORMATS]


def _picture(path: Path, sources: dict[str, list[Path]]) -> Picture:
    """Finds the inputs of a picture; stems contain underscores, too."""
    ends = [at for at, letter in enumerate(path.stem) if letter == "_"]
    parts = [(path.stem[:at], path.stem[at + 1 :]) for at in ends]
    pairs = [
        (content, style)
        for first, second in parts
        for content in sources.get(first, ())
        for style in sources.get(second, ())
    ]
    if len(pairs) != 1:
        raise InputError(
            "cannot tell the inputs of a picture",
            f"{len(pairs)} pairs of images have its name as CONTENT_STYLE",
            "give the folders of its inputs with --inputs, each stem once",
            where=path,
        )
    return Picture(path.parent.name, path, *pairs[0])


def make(contender: str, task: Task, results: Path) -> Path:
    """Makes a picture, with a record of its seconds beside it.

    A preset is run with all its defaults, as users have it. Of the reference's saved pictures the
    one with the lowest loss is taken, which `run.measure` scores; this needs torch.

    Args:
        contender: One of `NAMES`.
        task: The images and the size; its weights and evaluations count for the reference only.
        results: The folder of all pictures.

    Returns:
        The picture.

    Raises:
        run.ContenderError: A process failed.
    """
    work = results.absolute() / ".runs" / task.pair / contender
    target = results / contender / f"{task.content.stem}_{task.style.stem}.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    saved, record = (_run_preset if contender in PRESETS else _run_reference)(contender, task, work)
    shutil.copyfile(saved, target)
    text = json.dumps({"image_size": task.image_size, **record}, indent=1) + "\n"
    files.atomic_write(target.with_suffix(".json"), text.encode())
    return target


def _run_preset(preset: str, task: Task, work: Path) -> tuple[Path, dict[str, Any]]:
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    saved = work / "out.png"
    command = [
        *(sys.executable, "-m", "nst_tf.main"),
        *(f"--content_image={task.content}", f"--style_image={task.style}"),
        *(f"--image_size={task.image_size}", f"--preset={preset}", f"--output_image={saved}"),
    ]
    began = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise run.ContenderError(done.stderr.strip().rpartition("\n")[2])
    return saved, {"seconds": time.monotonic() - began}


def _run_reference(name: str, task: Task, work: Path) -> tuple[Path, dict[str, Any]]:
    (contender,) = (each for each in CONTENDERS if each.name == name)
    measured = run.measure(contender, task, work)
    best = summary.best(measured["saves"])
    kept = ("seconds", "cpu_seconds", "style_weight", "machine")
    record = {key: measured[key] for key in kept}
    return work / best["file"], {**record, "best": best, "evaluations": task.evaluations}
