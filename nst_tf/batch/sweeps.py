"""Sweeps: images of all combinations of some settings, their contact sheet and their figures."""

import contextlib
import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from nst_tf.batch import contact_sheet as sheets
from nst_tf.batch.execute import BatchCallback, Outcome, run
from nst_tf.batch.plan import Picture, Variant, combinations, pictures
from nst_tf.config import Config
from nst_tf.errors import InputError, MachineError
from nst_tf.image.arrays import ImageArray
from nst_tf.io import files, images
from nst_tf.jobs.provenance import input_files

FIGURES = (
    "loss",
    "content_loss",
    "style_loss",
    "grain_loss",
    "tv_loss",
    "iterations",
    "evaluations",
    "seconds",
    "seconds_evaluating",
    "peak_memory_bytes",
    "stop_reason",
)
"""What the table has of each record, `run.json`."""

_FIRST_COLUMNS = ("image", "content_image", "style_image")
_LAST_COLUMNS = ("status", "failure")
_MOST_COLUMNS = 8
_LONGEST_HEADER = 2**16

_SHEET = "contact_sheet"
"""The key of the metadata of a contact sheet, which images of runs do not have."""

_ANOTHER = "choose another --contact_sheet"


@dataclass(frozen=True)
class SweepResult:
    """What became of a sweep.

    Attributes:
        outcomes: Those of its images.
        contact_sheet: The file with all images that are there; None where there is none.
        figures: The CSV file with the figures of all runs.
    """

    outcomes: Sequence[Outcome]
    contact_sheet: Path | None
    figures: Path


def sweep(
    config: Config,
    settings: Mapping[str, Sequence[object]] | Mapping[str, Mapping[str, object]],
    *,
    output_dir: str | Path = ".",
    suffix: str = ".png",
    contact_sheet: str | Path = "sweep.png",
    cell_size: int = 256,
    workers: int = 0,
    cluster: str = "",
    overwrite: bool = False,
    callbacks: Iterable[BatchCallback] = (),
    should_stop: Callable[[], bool] | None = None,
) -> SweepResult:
    """Makes an image of each combination of some settings, a contact sheet and a table.

    What was finished before is not made again, as in `nst_tf.batch.run`.

    Args:
        config: The settings of all, with content and style images.
        settings: Lists of values by the name of their setting, of which all combinations are made;
            or, by a label for each image, the settings in which it differs.
        output_dir: The folder of the images.
        suffix: That of the images, which decides their format.
        contact_sheet: The image file of the contact sheet, in `output_dir` where it is relative;
            its suffix decides the format. The table beside it has the suffix ".csv".
        cell_size: The width in pixels at which the contact sheet shows each image.
        workers: As for `nst_tf.batch.run`.
        cluster: As for `nst_tf.batch.run`.
        overwrite: As for `nst_tf.batch.run`.
        callbacks: As for `nst_tf.batch.run`.
        should_stop: As for `nst_tf.batch.run`.

    Returns:
        What became of each image, with the paths of the contact sheet and of the table.

    Raises:
        InputError: A setting is refused, or the contact sheet cannot be written.
        MachineError: The cluster cannot be used, or a file cannot be written.

    Example:
        >>> import nst_tf
        >>> config = nst_tf.Config(content_image="a.jpg", style_image="b.jpg")
        >>> settings = {"style_weight": [1e4, 1e5], "style_scale": [0.5, 1]}
        >>> nst_tf.sweep(config, settings, output_dir="sweep").figures  # doctest: +SKIP
        PosixPath('sweep/sweep.csv')
    """
    planned = pictures(config, variants=as_variants(settings), output_dir=output_dir, suffix=suffix)
    report = Report(planned, Path(output_dir) / contact_sheet, cell_size, overwrite=overwrite)
    outcomes = run(
        planned,
        workers=workers,
        cluster=cluster,
        overwrite=overwrite,
        callbacks=callbacks,
        should_stop=should_stop,
    )
    return report.write(outcomes)


def as_variants(
    settings: Mapping[str, Sequence[object]] | Mapping[str, Mapping[str, object]],
) -> list[Variant]:
    """Returns the variants that a sweep makes.

    Args:
        settings: As for `sweep`.

    Raises:
        InputError: A setting is unknown or has no values, or there is none.
    """
    if not settings:
        raise InputError(
            "cannot sweep",
            "there are no settings",
            'give lists of values by name, as in {"style_weight": [1e4, 1e5]}',
        )
    if all(isinstance(values, Mapping) for values in settings.values()):
        labeled = cast(Mapping[str, Mapping[str, object]], settings)
        return [Variant(label, own, {"label": label}) for label, own in labeled.items()]
    return combinations(cast(Mapping[str, Sequence[object]], settings))


class Report:
    """The contact sheet and the table of a sweep.

    Args:
        pictures: What is made.
        contact_sheet: The image file to write.
        cell_size: The width in pixels of each image on it.
        overwrite: Whether any files of these names may be replaced.

    Raises:
        InputError: The format is unknown or cannot hold the sheet, a size is wrong, or an input or
            an image of the sweep would be replaced.
        MachineError: Files of these names are there that are none of a sweep.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        contact_sheet: Path,
        cell_size: int,
        *,
        overwrite: bool = False,
    ) -> None:
        if cell_size < 16:
            raise InputError(
                "cell_size is too small", f"it is {cell_size}", "give a width of 16 pixels or more"
            )
        self._sheet = contact_sheet.absolute()
        self._figures = self._sheet.with_suffix(".csv")
        self._cell_size = cell_size
        last = [name for name in pictures[0].variant.columns][-1:]
        values = [picture.variant.columns[name] for picture in pictures for name in last]
        self._columns = min(len(dict.fromkeys(values)), _MOST_COLUMNS)
        pairs = {picture.pair for picture in pictures}
        self._labels = {
            picture.name: f"{picture.pair}, {picture.variant.label}"
            if len(pairs) > 1
            else picture.variant.label
            for picture in pictures
        }
        self._inputs = {file for picture in pictures for file in input_files(picture.config)}
        self._overwrite = overwrite
        self._check_size(pictures)
        self._check_place([picture.config.output_image for picture in pictures])

    def _check_size(self, pictures: Sequence[Picture]) -> None:
        squares = [(self._cell_size, self._cell_size)] * len(pictures)
        labels = [self._labels[picture.name] for picture in pictures]
        shape = sheets.shape_of(squares, labels, self._columns, self._cell_size)
        images.check_output(self._sheet, shape)

    def _check_place(self, outputs: Iterable[Path]) -> None:
        """Refuses to replace an input, an image of the sweep, or a file that no sweep wrote.

        Args:
            outputs: The images of the sweep.
        """
        kept = {
            **dict.fromkeys(self._inputs, "an input"),
            **dict.fromkeys(outputs, "an image of the sweep"),
        }
        is_own = ((self._sheet, _is_sheet(self._sheet)), (self._figures, _is_table(self._figures)))
        for path, own in is_own:
            for file, what in kept.items():
                if files.is_same(path, file):
                    raise InputError(
                        f"the {'sheet' if path == self._sheet else 'table'} would replace {what}",
                        f"both are {file}",
                        _ANOTHER,
                        where=path,
                    )
            if path.exists() and not own and not self._overwrite:
                raise MachineError(
                    "the output exists",
                    "no sweep wrote that file",
                    f"{_ANOTHER}, or replace it with --overwrite",
                    where=path,
                )

    def write(self, outcomes: Sequence[Outcome]) -> SweepResult:
        """Writes both files, with what there is.

        Args:
            outcomes: Those of the images.

        Returns:
            What became of the sweep.

        Raises:
            InputError: An image of the sweep was saved under a number that is one of the names.
            MachineError: A file cannot be written.
        """
        saved = [outcome.result.path for outcome in outcomes if outcome.result]
        self._check_place([path for path in saved if path is not None])
        files.prepare_folder(self._sheet.parent)
        files.atomic_write(self._figures, _table(outcomes).encode())
        shown: list[ImageArray] = []
        labels = []
        for outcome in outcomes:
            path = None if outcome.result is None else outcome.result.path
            label = self._labels[outcome.picture.name]
            if path is None:  # an empty cell keeps the others in their rows
                shown.append(np.full((1, 1, 3), 255, np.float32))
                label = f"{label}: {outcome.status}"
            else:
                shown.append(images.read(path, outcome.picture.config.max_pixels))
            labels.append(label)
        if not any(outcome.result and outcome.result.path for outcome in outcomes):
            return SweepResult(outcomes, None, self._figures)
        sheet = sheets.contact_sheet(shown, labels, self._columns, self._cell_size)
        text = json.dumps({_SHEET: [outcome.picture.name for outcome in outcomes]})
        data = images.encode(sheet, self._sheet.suffix, text)
        files.atomic_write(self._sheet, data)
        return SweepResult(outcomes, self._sheet, self._figures)


def _is_sheet(path: Path) -> bool:
    """Whether a file is the contact sheet of a sweep, and no single image."""
    with contextlib.suppress(ValueError, TypeError):  # they are not what nst_tf writes
        return _SHEET in json.loads(images.settings_of(path) or "{}")
    return False


def _is_table(path: Path) -> bool:
    """Whether a file is the table of a sweep, of whatever settings."""
    with contextlib.suppress(OSError, ValueError, csv.Error), path.open(encoding="utf-8") as file:
        names = next(csv.reader([file.readline(_LONGEST_HEADER)]), [])
        return names == _header(names[len(_FIRST_COLUMNS) : -len(FIGURES + _LAST_COLUMNS)])
    return False


def _header(settings: Iterable[str]) -> list[str]:
    return [*_FIRST_COLUMNS, *settings, *FIGURES, *_LAST_COLUMNS]


def _table(outcomes: Sequence[Outcome]) -> str:
    """Writes the figures of all runs as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_header(outcomes[0].picture.variant.columns))
    for outcome in outcomes:
        config, result = outcome.picture.config, outcome.result
        record = {} if result is None else result.record
        path = config.output_image if result is None or result.path is None else result.path
        writer.writerow(
            [
                path.name,
                config.content_image,
                " ".join(map(str, config.style_image)),
                *outcome.picture.variant.columns.values(),
                *(record.get(name, "") for name in FIGURES),
                _status(outcome),
                outcome.failure,
            ]
        )
    return text.getvalue()


def _status(outcome: Outcome) -> str:
    """Returns the status of an image, which is finished also where that was done before."""
    return "finished" if outcome.status == "nothing to do" else outcome.status
