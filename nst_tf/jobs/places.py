"""Where the files of a job go: under the name asked for, or under the next free number.

A finished image is never replaced by one that is not finished. A job that is to take the place of
one works under the next free number until it is finished, and then moves with its run folder.
"""

import contextlib
import hashlib
import itertools
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from nst_tf.config import Config
from nst_tf.config.files import to_yaml
from nst_tf.engine.state import OptimizationState
from nst_tf.errors import InputError, InUseError, MachineError, warn
from nst_tf.io import files
from nst_tf.jobs import checkpoint
from nst_tf.jobs.checkpoint import Checkpoint
from nst_tf.jobs.output import Occupant, inspect, numbered, run_folder
from nst_tf.jobs.provenance import differences
from nst_tf.jobs.resume import Found, Plan, warn_of_unfinished
from nst_tf.jobs.tensorboard import FOLDER as EVENTS
from nst_tf.jobs.tensorboard import remove_events
from nst_tf.jobs.timelapse import FRAMES, remove_frames
from nst_tf.system import display_path

_CONFIG = "config.yaml"
_TARGET = "takes-the-place-of"
"""A file in the run folder that names the image whose place the job takes when it is finished."""

_CONTINUED = (
    "trace.csv", "first.png", "latest.png", "iteration-*.png", "checkpoint-?", f"{FRAMES}/*.webp",
    f"{EVENTS}/*/*",
)  # fmt: skip
_FILES = (*_CONTINUED, _CONFIG, _TARGET, "run.json", "losses.svg", "state")
_MOST_NUMBERS = 10_000


def occupants(output: Path) -> list[Occupant]:
    """Looks at what there is under a name and under its numbers.

    Args:
        output: The image file asked for.

    Returns:
        What there is under the name, whether anything or not, and under each number in use.
    """
    pattern = re.compile(rf"{re.escape(output.stem)}-(\d+){re.escape(output.suffix)}(\.run)?")
    names: list[str] = []
    with contextlib.suppress(OSError):  # there is no such folder yet
        names = [path.name for path in output.parent.iterdir()]
    numbers = {int(match[1]) for name in names if (match := pattern.fullmatch(name))}
    used = sorted(number for number in numbers if 2 <= number <= _MOST_NUMBERS)
    return [inspect(numbered(output, number)) for number in (1, *used)]


class Place:
    """The place of a job, which it holds as long as it runs.

    Args:
        plan: What the job computes.
        occupant: What there is under the name.
        target: The image whose place the job takes when it is finished.
        found: The run that the job goes on with.
        notes: What is told before the job begins, a line each.
        locks: Holds the lock on the run folder.

    Attributes:
        config: All settings, with the name under which the job works.
        before: The checkpoint to continue from; without the arrays of its state once they are
            taken.
        folder: The run folder.
        saved: The image file that was written.
        sha256: Its SHA-256.
    """

    def __init__(
        self,
        plan: Plan,
        occupant: Occupant,
        target: Path | None,
        found: Found | None,
        notes: tuple[str, ...],
        locks: contextlib.ExitStack,
    ) -> None:
        self.plan = plan
        self.before = None if found is None else found.checkpoint()
        self.notes = notes
        if found is not None and self.before is None:
            self.notes += ("the run begins anew, as its final state was not kept (keep_state)",)
        self.config = plan.config.replace(output_image=occupant.path)
        self.folder = run_folder(occupant.path)
        self.saved = self._path = occupant.path
        self.sha256 = ""
        self._target = target
        self._source = found.occupant.folder if found and self.before else None
        self._is_empty = not occupant.exists
        self._replaces_own = occupant.exists and not occupant.is_protected
        self._locks = locks

    def begin(self) -> None:
        """Writes the settings to the run folder, and what the job continues or takes the place of.

        Raises:
            MachineError: They cannot be written.
        """
        if self._source is None:  # what another run left is of no use any more
            (self.folder / "state").unlink(missing_ok=True)
            remove_frames(self.folder)
            remove_events(self.folder)
            if self._is_empty:
                (self.folder / "run.json").unlink(missing_ok=True)
        elif self._source != self.folder:
            for path in _files(self._source, _CONTINUED):
                with contextlib.suppress(OSError):  # what is missing is told where it is needed
                    shutil.copy2(path, _moved(path, self._source, self.folder))
        self._write_config(self.folder)
        if self._target is None:
            (self.folder / _TARGET).unlink(missing_ok=True)
        else:
            files.atomic_write(self.folder / _TARGET, os.fsencode(self._target.name))

    def take_state(self) -> OptimizationState | None:
        """Returns the state to continue from, once: kept, a large one would take memory."""
        if self.before is None:
            return None
        state = self.before.state
        self.before = replace(self.before, state=state.without_arrays())
        return state

    def read_before(self) -> Checkpoint | None:
        """Reads the checkpoint to continue from once more, as long as no other was saved."""
        if self.before is None or self._source is None:
            return None
        found = checkpoint.newest(self.folder) or checkpoint.final(self._source)
        return found and replace(self.before, state=found.state)

    def save(self, encode: Callable[[Config], bytes], *, finished: bool) -> None:
        """Writes the image: in place of the target, under the job's name, or under another number.

        Args:
            encode: Encodes the image with settings.
            finished: Whether the image is finished; otherwise it replaces no finished image.

        Raises:
            MachineError: It cannot be written.
        """
        if finished and self._target is not None and self._take_place(self._target, encode):
            return
        try:
            self._write(self._path, encode, replace=self._replaces_own)
        except FileExistsError:  # another program wrote it meanwhile
            for number in itertools.count(2):
                path = numbered(self.plan.config.output_image, number)
                with contextlib.suppress(FileExistsError, InUseError):
                    self._lock(path)
                    self._write(path, encode, replace=False)
                    return

    def settle(self) -> None:
        """Moves the run folder to the image, where that was written under another name."""
        if self.saved == self._path:
            return
        folder = run_folder(self.saved)
        try:
            for path in _files(folder, _FILES):
                path.unlink()
            for path in _files(self.folder, _FILES):
                path.replace(_moved(path, self.folder, folder))
            for emptied in (folder, self.folder):
                _remove_empty_folders(emptied)
            (folder / _TARGET).unlink(missing_ok=True)
            self._write_config(folder)
        except (OSError, MachineError) as error:
            warn(f"the record of {self.saved.name} is in {self.folder.name}: {error}")

    def _take_place(self, target: Path, encode: Callable[[Config], bytes]) -> bool:
        """Writes the image in place of another; returns whether that was possible."""
        try:
            self._lock(target)
            self._write(target, encode, replace=True)
        except MachineError as error:
            warn(f"{target.name} could not be replaced: {error}")
            return False
        if self._replaces_own:  # of this job, when it was interrupted
            self._path.unlink(missing_ok=True)
        return True

    def _lock(self, path: Path) -> None:
        self._locks.enter_context(files.lock_directory(run_folder(path), path))

    def _write(self, path: Path, encode: Callable[[Config], bytes], *, replace: bool) -> None:
        data = encode(self.config.replace(output_image=path))
        files.atomic_write(path, data, replace=replace)
        self.saved, self.sha256 = path, hashlib.sha256(data).hexdigest()

    def _write_config(self, folder: Path) -> None:
        config = self.config.replace(output_image=self.saved)
        files.atomic_write(folder / _CONFIG, to_yaml(config).encode())


@contextlib.contextmanager
def claim(plan: Plan, found: Found | None, *, overwrite: bool) -> Iterator[Place]:
    """Takes a place for a job and locks its run folder.

    Args:
        plan: What the job computes, with the output asked for.
        found: The run that it goes on with, or None.
        overwrite: Whether an image under the name asked for is to be replaced.

    Yields:
        The place, while its lock is held.

    Raises:
        InputError: The checkpoint to go on from cannot be used.
        MachineError: Another job holds the place, or the folder cannot be written.
    """
    plan = plan if found is None else found.plan
    output = plan.config.output_image
    files.prepare_folder(output.parent)
    with contextlib.ExitStack() as locks:
        target = _target(plan, found, overwrite)
        if found is not None and not found.occupant.is_protected:
            locks.enter_context(files.lock_directory(run_folder(found.occupant.path)))
            occupant = inspect(found.occupant.path)
        else:
            occupant = _free_place(plan, overwrite, locks)
        if occupant.path == output and not occupant.is_protected:
            target = None
        if found is None:
            warn_of_unfinished(occupant.folder, plan.fingerprint)
        notes = _notes(output, occupant.path, target)
        yield Place(plan, occupant, target, found, notes, locks)


def _target(plan: Plan, found: Found | None, overwrite: bool) -> Path | None:
    """Returns the image whose place a job takes when it is finished."""
    output = plan.config.output_image
    if found is not None:
        is_of_job = found.occupant.is_of(plan.config, plan.fingerprint)
        if found.occupant.is_protected and (is_of_job or not found.is_interrupted):
            return found.occupant.path  # it goes on from that image
        if (name := _read_target(found.occupant.folder)) is not None:
            path = output.with_name(name)
            return path if overwrite or inspect(path).is_own else None
    if overwrite:
        return output
    if found is not None:
        return None
    return next(
        (
            each.path
            for each in occupants(output)
            if each.is_protected and each.is_of(plan.config, plan.fingerprint)
        ),
        None,
    )


def _read_target(folder: Path) -> str | None:
    try:
        name = os.fsdecode((folder / _TARGET).read_bytes()[:1000])
    except OSError:
        return None
    return name if name and name == Path(name).name else None


def _free_place(plan: Plan, overwrite: bool, locks: contextlib.ExitStack) -> Occupant:
    """Locks the first place, of the name asked for and its numbers, that a job may use."""
    output = plan.config.output_image
    for number in range(1, _MOST_NUMBERS):
        path = numbered(output, number)
        if inspect(path).is_protected:
            continue
        with contextlib.ExitStack() as lock:
            try:
                lock.enter_context(files.lock_directory(run_folder(path), path))
            except MachineError:
                if number == 1:
                    raise
                continue
            occupant = inspect(path)  # again, now that nobody else writes there
            if _is_free(occupant, plan, overwrite and number == 1):
                locks.push(lock.pop_all())
                return occupant
    raise MachineError(
        "there is no free name for the image",
        f"all numbers up to {_MOST_NUMBERS} are in use",
        "choose another --output_image",
        where=output,
    )


def _is_free(occupant: Occupant, plan: Plan, overwrite: bool) -> bool:
    """Whether a job may use a place: nothing is there, or what an equal job left unfinished."""
    if occupant.is_protected:
        return False
    if overwrite:
        return True
    if occupant.exists and not occupant.is_of(plan.config, plan.fingerprint):
        return False
    with contextlib.suppress(InputError):  # damaged checkpoints are of no use
        saved = checkpoint.newest_fingerprint(occupant.folder)
        return saved is None or not differences(saved, plan.fingerprint)
    return True


def _notes(output: Path, path: Path, target: Path | None) -> tuple[str, ...]:
    if path == output or target is not None:
        return ()
    name = display_path(output)
    return (f"{name} is left to another run: this one saves {display_path(path)}",)


def _remove_empty_folders(folder: Path) -> None:
    for path in (*folder.glob(f"{EVENTS}/*"), folder / EVENTS, folder / FRAMES):
        with contextlib.suppress(OSError):  # it is not empty, or not there
            path.rmdir()


def _moved(path: Path, source: Path, target: Path) -> Path:
    """Returns the place of a file in another run folder, whose folder for it is created."""
    moved = target / path.relative_to(source)
    moved.parent.mkdir(parents=True, exist_ok=True)
    return moved


def _files(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    return [path for pattern in patterns for path in folder.glob(pattern)]
