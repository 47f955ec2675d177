"""Finds the run that a job goes on with, and whether it may."""

import contextlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nst_tf.config import Config, load_config
from nst_tf.config.fields import coarse_levels
from nst_tf.engine import pyramid
from nst_tf.engine.pyramid import Level
from nst_tf.errors import InputError, warn
from nst_tf.jobs import checkpoint
from nst_tf.jobs.checkpoint import Checkpoint
from nst_tf.jobs.output import Occupant
from nst_tf.jobs.provenance import Facts, differences, environment


@dataclass(frozen=True)
class Plan:
    """What a job computes.

    Attributes:
        config: All settings.
        fingerprint: What the result depends on.
        levels: The sizes of the optimization, from coarse to fine.
        tile_size: The side in pixels of the tiles of large images, without border; 0 without tiles.
    """

    config: Config
    fingerprint: Facts
    levels: tuple[Level, ...]
    tile_size: int = 0

    def tile_size_after(self, begun: Facts) -> int:
        """Returns the size of the tiles with which a run goes on.

        Args:
            begun: What computed the run before. Its tiles are kept for the same bytes, where they
                are not larger than those that fit, and `tile_size` does not say otherwise.
        """
        before = int(begun.get("tile_size", 0))
        fits = not self.tile_size or 0 < before < self.tile_size
        return before if fits and not self.config.tile_size else self.tile_size


@dataclass(frozen=True)
class Found:
    """A run that a job goes on with.

    Attributes:
        plan: What is computed in all; of the coarse levels, what the run began with.
        occupant: Where the run is.
        is_complete: Whether it has the file that is asked for.
        is_interrupted: Whether it goes on from a checkpoint, and not from its final state.
    """

    plan: Plan
    occupant: Occupant
    is_complete: bool
    is_interrupted: bool

    def checkpoint(self) -> Checkpoint | None:
        """Reads the state to go on from; None where a finished run did not keep its own.

        Raises:
            InputError: No checkpoint is intact, or more iterations were done than are asked for.
        """
        folder, plan = self.occupant.folder, self.plan
        found = checkpoint.newest(folder) if self.is_interrupted else checkpoint.final(folder)
        if found is None:
            self._check_done(json.loads((self.occupant.fingerprint or {})["num_iterations"]))
            return None
        if found.state.level + 1 == len(plan.levels):
            self._check_done(found.done_at_level)
        here = environment(plan.config, plan.tile_size_after(found.environment))
        if changed := differences(found.environment, here):
            warn(f"the continuation will not be bit-identical: {', '.join(changed)} changed")
        return replace(found, fingerprint=plan.fingerprint, environment=here)

    def _check_done(self, done: int) -> None:
        asked = self.plan.config.num_iterations
        if done > asked:
            raise InputError(
                "the run has more iterations than are asked for",
                f"{done} were done at the full size, and num_iterations is {asked}",
                "raise num_iterations, or start without --resume",
                where=self.occupant.folder,
            )


def find(
    plan: Plan, occupants: Iterable[Occupant], *, overwrite: bool = False, same: bool = False
) -> Found | None:
    """Finds the run that a job goes on with.

    An interrupted run of the same job comes first, then a finished one, then those that differ in
    `num_iterations` only. A finished one whose file has other metadata is no complete one.

    Args:
        plan: What is to be computed.
        occupants: What there is under the name of the output and under its numbers.
        overwrite: Whether runs of other jobs do not matter.
        same: Whether all runs but those of the very same settings and inputs do not matter.

    Returns:
        The run; None where there is none at all.

    Raises:
        InputError: There are runs of other jobs only, or the checkpoints are damaged.
    """
    found: list[tuple[tuple[bool, ...], Found]] = []
    others: list[tuple[Path, list[str]]] = []
    for occupant in occupants:
        saved = checkpoint.newest_fingerprint(occupant.folder)
        is_interrupted = saved is not None
        if saved is None and occupant.record.get("finished"):
            saved = occupant.fingerprint
        if saved is None:
            continue
        if same and differences(saved, plan.fingerprint):
            continue
        whole = continued(plan, saved)
        if whole is None:
            if is_interrupted or occupant.exists:
                others.append((occupant.folder, differences(saved, plan.fingerprint)))
            continue
        equal = not differences(saved, whole.fingerprint)
        is_finished = equal and not is_interrupted and occupant.is_finished
        is_complete = is_finished and _has_metadata(occupant, plan.config)
        run = Found(whole, occupant, is_complete, is_interrupted)
        if equal and is_interrupted:
            return run
        found.append(((equal, is_complete, is_interrupted), run))
    if found:
        return max(found, key=lambda each: each[0])[1]
    if others and not overwrite:
        folder, changed = others[0]
        raise InputError(
            "this is not the run that was interrupted",
            f"it differs in {', '.join(changed)}",
            "give the same settings and files, or start without --resume",
            where=folder,
        )
    return None


def _has_metadata(occupant: Occupant, config: Config) -> bool:
    """Whether a finished file has the metadata asked for; True where they are not known."""
    with contextlib.suppress(InputError):
        made = load_config(occupant.folder / "config.yaml")
        return (made.metadata, made.print_dpi) == (config.metadata, config.print_dpi)
    return True


def continued(plan: Plan, saved: Facts) -> Plan | None:
    """Returns what a run computes that goes on as planned; None where it is another run.

    With `pyramid: auto` the iterations of the coarse levels follow from `num_iterations`. A run
    keeps those that it began with, as if `pyramid` named them.
    """
    changed = set(differences(saved, plan.fingerprint))
    if not changed:
        return plan
    if not changed <= {"num_iterations", "pyramid"}:
        return None
    if plan.config.pyramid != "auto":
        return None if "pyramid" in changed else plan
    levels = _begun_levels(plan.levels, saved)
    if levels is None:
        return None
    if levels == plan.levels and "pyramid" not in changed:
        return plan
    pyramid_begun = pyramid.as_setting(levels)
    return replace(
        plan,
        config=plan.config.replace(pyramid=pyramid_begun),
        fingerprint={**plan.fingerprint, "pyramid": json.dumps(pyramid_begun)},
        levels=levels,
    )


def _begun_levels(levels: Sequence[Level], saved: Facts) -> tuple[Level, ...] | None:
    """Returns the levels of a run with `pyramid: auto`; None where that was not its setting."""
    text, basis = json.loads(saved["pyramid"]), json.loads(saved["num_iterations"])
    if text == "auto":
        return pyramid.with_coarse_iterations(levels, basis) if basis else tuple(levels)
    if text == "none":
        return None
    begun = pyramid.with_coarse_iterations(levels, pyramid.automatic_basis(*coarse_levels(text)[0]))
    return begun if pyramid.as_setting(begun) == text else None


def warn_of_unfinished(folder: Path, fingerprint: Facts) -> None:
    """Warns where a new job could have continued an interrupted one.

    Args:
        folder: The run folder.
        fingerprint: Of the job.
    """
    with contextlib.suppress(InputError):
        found = checkpoint.newest(folder)
        if found is not None and not differences(found.fingerprint, fingerprint):
            warn(f"beginning anew; --resume would go on after {found.iterations} iterations")


def next_number(folder: Path) -> int:
    """Returns a number for the next checkpoint, higher than that of all checkpoints there are."""
    with contextlib.suppress(InputError):
        if last := checkpoint.newest(folder):
            return last.number + 1
    return 0
