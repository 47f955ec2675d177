"""Measures the contenders one after another: the time and the loss of each saved image.

Every result is written to the raw record as soon as it is measured; measuring a contender again
replaces only its own result.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.contenders import CONTENDERS, PAIRS, Contender, Task
from nst_tf.io import files

_ROOT = Path(__file__).parent.parent
_PACKAGES = ("nst_tf", "tensorflow", "keras", "torch", "numpy", "scipy")
_SCORES_AGREE = 1e-3  # relative: how far nst_tf's own loss of its image may be from the scorer's

# This module imports neither NumPy nor Pillow: a child's peak memory, as the system counts it,
# is never less than what its parent had when it was started.


class ContenderError(Exception):
    """A contender's process failed, or stated another loss than the scorer."""


class Usage(NamedTuple):
    """What processes took, from the launch of the first to the end of the last."""

    launched: float
    seconds: float
    cpu_seconds: float
    peak_memory_bytes: int


def measure(contender: Contender, task: Task, folder: Path) -> dict[str, Any]:
    """Runs a contender and scores what it saved.

    Args:
        contender: The program to run.
        task: What it has to do.
        folder: For its images and its log; emptied first.

    Returns:
        The record of the run.

    Raises:
        ContenderError: A process failed, or its own loss is not the scorer's.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    commands = contender.commands(task, folder)
    usage = _run(commands, folder / "log.txt")
    saves = _saves(contender, folder, usage)
    scores = _scores(task, [save["file"] for save in saves])
    for save in saves:
        save |= scores[save["file"]]
        save["file"] = Path(save["file"]).relative_to(folder).as_posix()
    _check_own_loss(folder, saves)
    return {
        "pair": task.pair,
        "image_size": task.image_size,
        "style_weight": task.style_weight,
        "contender": contender.name,
        "description": contender.description,
        "commands": [[_short(word) for word in command[1:]] for command in commands],
        "measured": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(usage.launched)),
        "machine": _machine(),
        "seconds": usage.seconds,
        "cpu_seconds": usage.cpu_seconds,
        "peak_memory_bytes": usage.peak_memory_bytes,
        "saves": saves,
    }


def _run(commands: Sequence[Sequence[str]], log: Path) -> Usage:
    launched, began = time.time(), time.monotonic()
    cpu_seconds, peak = 0.0, 0
    with log.open("w") as output:
        for command in commands:
            child = subprocess.Popen(
                command, cwd=_ROOT, stdout=output, stderr=output, stdin=subprocess.DEVNULL
            )
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            if child.returncode:
                last = log.read_text().strip().rpartition("\n")[2]
                raise ContenderError(f"exit code {child.returncode}: {last[:200]} (see {log})")
            cpu_seconds += usage.ru_utime + usage.ru_stime
            peak = max(peak, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
    seconds = time.monotonic() - began
    # Files carry the time of day, so it must not have been set meanwhile.
    if abs(time.time() - launched - seconds) > 0.1:
        raise ContenderError("the clock was set during the run; measure again")
    return Usage(launched, seconds, cpu_seconds, peak)


def _saves(contender: Contender, folder: Path, usage: Usage) -> list[dict[str, Any]]:
    """Lists the saved images with their times, in the order in which they were saved."""
    saves = [
        {
            "file": str(path),
            "step": int(path.stem.rpartition("-")[2]),
            "seconds": path.stat().st_mtime - usage.launched,
        }
        for path in folder.glob(contender.images)
    ]
    if contender.final:
        final = folder / contender.final
        saves.append({"file": str(final), "step": None, "seconds": usage.seconds})
    return sorted(saves, key=lambda save: save["seconds"])


def _scores(task: Task, files: Sequence[str]) -> dict[str, dict[str, float]]:
    command = [
        *(sys.executable, "-m", "benchmarks.score"),
        f"--content={task.content}",
        f"--style={task.style}",
        f"--image_size={task.image_size}",
        f"--style_weight={task.style_weight:g}",
        *files,
    ]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True)
    if done.returncode:
        raise ContenderError(f"cannot score: {done.stderr.strip().rpartition(chr(10))[2]}")
    scores: dict[str, dict[str, float]] = json.loads(done.stdout)
    return scores


def _check_own_loss(folder: Path, saves: list[dict[str, Any]]) -> None:
    """Compares with what nst_tf itself states of its final image, without its grain loss."""
    record = folder / "out.png.run" / "run.json"
    if record.exists():
        stated = json.loads(record.read_text())
        own, scored = stated["content_loss"] + stated["style_loss"], saves[-1]["loss"]
        if abs(own - scored) > _SCORES_AGREE * scored:
            raise ContenderError(f"nst_tf states a loss of {own:g}, and the scorer {scored:g}")


def _short(word: str) -> str:
    return word.replace(f"{_ROOT}/", "")


def _machine() -> dict[str, Any]:
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "python": platform.python_version(),
        "packages": dict(_versions()),
    }


def _versions() -> Iterator[tuple[str, str]]:
    for package in _PACKAGES:
        try:
            yield package, importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # nst_tf run from its source
            yield package, "not installed"


def record(run: dict[str, Any], file: Path) -> None:
    """Adds a run to the raw record, in place of an earlier one of the same contender and task.

    Args:
        run: What `measure` gave.
        file: The raw record, a JSON list of runs; made if there is none.
    """

    def key(run: dict[str, Any]) -> tuple[object, ...]:
        return run["pair"], run["image_size"], run["style_weight"], run["contender"]

    runs = json.loads(file.read_text()) if file.exists() else []
    runs = [old for old in runs if key(old) != key(run)] + [run]
    files.atomic_write(file, (json.dumps(runs, indent=1) + "\n").encode())


def main() -> int:
    """Measures the contenders asked for and writes the report; returns the number of failures."""
    arguments = _arguments()
    chosen = [contender for contender in CONTENDERS if contender.name in arguments.contenders]
    arguments.results.mkdir(parents=True, exist_ok=True)
    failures = 0
    for pair in arguments.pairs:
        task = Task(
            *PAIRS[pair], arguments.image_size, arguments.style_weight, arguments.evaluations
        )
        for contender in chosen:
            folder = arguments.results / "images" / f"{pair}-{task.image_size}" / contender.name
            print(f"{pair}, {task.image_size} px: {contender.name} ...", flush=True)
            try:
                run = measure(contender, task, folder.absolute())
            except ContenderError as error:
                failures += 1
                print(f"    failed, nothing recorded: {error}", flush=True)
                continue
            record(run, arguments.results / "raw.json")
            best = min(save["loss"] for save in run["saves"])
            memory = run["peak_memory_bytes"] / 2**30
            print(f"    best saved loss {best:.4g}, {run['seconds']:.1f} s, {memory:.2f} GiB")
    report = [
        sys.executable,
        "-m",
        "benchmarks.report",
        f"--results={arguments.results.absolute()}",
    ]
    return failures + subprocess.run(report, cwd=_ROOT).returncode


def _arguments() -> argparse.Namespace:
    names = [contender.name for contender in CONTENDERS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, default=list(PAIRS))
    parser.add_argument("--contenders", "--only", nargs="+", choices=names, default=names)
    parser.add_argument("--image_size", type=int, default=512, help="the longer side")
    parser.add_argument("--style_weight", type=float, default=1e5)
    parser.add_argument("--evaluations", type=int, default=500, help="the most to make")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
