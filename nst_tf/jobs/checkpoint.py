"""A run's position as a file, and what must be the same for a run to go on from it.

Two files take turns, so that the one before stays whole while the next is written. Each begins with
the SHA-256 of what follows, safetensors with the rest as JSON in its metadata.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from nst_tf import system
from nst_tf.config.schema import Config, portable
from nst_tf.errors import InputError, warn
from nst_tf.image.arrays import ImageArray
from nst_tf.io import files

_FORMAT = "nst_tf checkpoint 1"
_NAMES = ("checkpoint-0", "checkpoint-1")
_DIGEST_BYTES = 32
_TYPES = {"float32": "F32", "float64": "F64", "int64": "I64"}
"""NumPy's names of the types in a state, to safetensors'."""
_MAX_BYTES = 2**36
_WITHOUT_EFFECT = frozenset(
    [
        "content_image",
        "content_masks",
        "style_image",
        "style_masks",
        "init",
        "weights",
        "weights_sha256",
        "output_image",
        "preset",
        "max_pixels",
        "print_iter",
        "save_iter",
        "max_snapshots",
        "checkpoint_seconds",
        "threads",
    ]
)
"""Settings that do not change the picture, or that stand for files, whose content counts."""

Identity = Mapping[str, str]
"""What a run is made of, by name: digests of its inputs, and its settings as text."""


@dataclass(frozen=True)
class Position:
    """Where a run stands: all it takes to go on from there.

    Attributes:
        level: The index of the level, from 0, the coarsest.
        precision: What the network computes in there.
        num_iterations: How many iterations are planned from `picture` on.
        iterations: Those done before `picture` was reached, over all levels.
        evaluations: The same of evaluations.
        seconds: Time that the run has taken.
        seconds_evaluating: The part of it spent in evaluations.
        picture: RGB float32, [H, W, 3], that the optimiser started from.
        state: The optimiser's state after some iterations, empty before the first.
    """

    level: int
    precision: str
    num_iterations: int
    iterations: int
    evaluations: int
    seconds: float
    seconds_evaluating: float
    picture: ImageArray
    state: dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Checkpoint:
    """What is saved of a run.

    Attributes:
        number: Higher than that of every checkpoint before it.
        identity: What the run is made of; another run is not resumed.
        environment: What computes it; elsewhere, a run goes on to another picture of the same kind.
        trace: The rows of the trace so far.
        position: Where the run stands.
    """

    number: int
    identity: Identity
    environment: Identity
    trace: Sequence[Sequence[float]]
    position: Position


def identity(
    config: Config, pictures: Mapping[str, ImageArray | None], weights_sha256: str
) -> Identity:
    """Tells what a run is made of.

    Args:
        config: All settings.
        pictures: The pictures read, by the name of the setting that gives them.
        weights_sha256: The digest of the weights.

    Returns:
        A text for each setting and each input that the picture depends on.
    """
    digests = {
        name: "" if picture is None else hashlib.sha256(repr(picture.shape).encode()
                                                        + picture.tobytes()).hexdigest()
        for name, picture in pictures.items()
    }  # fmt: skip
    settings = {
        name: json.dumps(value)
        for name, value in portable(config).items()
        if name not in _WITHOUT_EFFECT
    }
    keyword = "a file" if config.init_file else config.init
    return {**digests, "weights": weights_sha256, "init": keyword, **settings}


def environment(config: Config) -> Identity:
    """Tells what computes: the versions of the packages, the processor, its cores, the threads."""
    return {**system.versions(), **system.processor(), "threads": str(config.threads)}


def differences(one: Identity, other: Identity) -> str:
    """Names what differs between two identities, or returns an empty text."""
    names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    return ", ".join(names)


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint in place of the last but one.

    Args:
        folder: The run's folder.
        checkpoint: What to save.

    Raises:
        MachineError: It cannot be written; the last one is intact.
    """
    files.atomic_write(folder / _NAMES[checkpoint.number % 2], *encode(checkpoint))


def newest(folder: Path) -> Checkpoint | None:
    """Reads the newest checkpoint that is whole; warns of one that is not.

    Args:
        folder: The run's folder.

    Returns:
        The checkpoint, or None where there has never been one.

    Raises:
        InputError: There are checkpoints, and none is whole. They are left as they are.
    """
    found: list[Checkpoint] = []
    damaged: list[InputError] = []
    for path in (folder / name for name in _NAMES):
        if path.exists():
            try:
                found.append(read(path))
            except InputError as error:
                damaged.append(error)
    if not found and damaged:
        raise damaged[0]
    for one in damaged:
        warn(one)
    return max(found, key=lambda checkpoint: checkpoint.number, default=None)


def remove(folder: Path) -> None:
    """Removes the checkpoints of a run that is finished."""
    for name in _NAMES:
        (folder / name).unlink(missing_ok=True)


def encode(checkpoint: Checkpoint) -> list[bytes | memoryview]:
    """Makes the pieces of a file of a checkpoint: the digest, and what follows it."""
    position = checkpoint.position
    arrays = {"picture": position.picture}
    arrays |= {f"state/{name}": array for name, array in position.state.items()}
    record = {
        **{name: getattr(checkpoint, name) for name in ("number", "identity", "environment")},
        "trace": checkpoint.trace,
        "position": {
            field.name: getattr(position, field.name)
            for field in fields(position)
            if field.name not in ("picture", "state")
        },
    }
    pieces = _safetensors(arrays, {"format": _FORMAT, "record": json.dumps(record)})
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return [digest.digest(), *pieces]


def _safetensors(
    arrays: Mapping[str, npt.NDArray[Any]], metadata: Mapping[str, str]
) -> list[bytes | memoryview]:
    """Lays out a file in the format that safetensors reads, around the arrays where they are.

    Its own writer copies all of them twice, which at 1024 pixels is most of a gigabyte.
    """
    header: dict[str, Any] = {"__metadata__": metadata}
    pieces: list[bytes | memoryview] = []
    end = 0
    for name, array in arrays.items():
        start, end = end, end + array.nbytes
        header[name] = {
            "dtype": _TYPES[array.dtype.name],
            "shape": array.shape,
            "data_offsets": [start, end],
        }
        pieces.append(np.ravel(array).view(np.uint8).data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the data begin at a multiple of eight
    return [len(text).to_bytes(8, "little"), text, *pieces]


def read(path: Path) -> Checkpoint:
    """Reads a checkpoint.

    Args:
        path: What `save` wrote.

    Returns:
        The checkpoint.

    Raises:
        InputError: It cannot be read, or it is not as it was written.
    """
    remedy = "start again without --resume"
    data = files.read(path, "the checkpoint", _MAX_BYTES, remedy)
    payload = data[_DIGEST_BYTES:]
    if hashlib.sha256(payload).digest() != data[:_DIGEST_BYTES]:
        raise InputError("cannot use the checkpoint", "it is damaged", remedy, where=path)
    header_bytes = int.from_bytes(payload[:8], "little")
    metadata = json.loads(payload[8 : 8 + header_bytes])["__metadata__"]
    if metadata["format"] != _FORMAT:
        raise InputError(
            "cannot use the checkpoint",
            f"its format is {metadata['format']!r}, not {_FORMAT!r}",
            "use the version of nst_tf that wrote it",
            where=path,
        )
    arrays = safetensors.numpy.load(payload)
    record: dict[str, Any] = json.loads(metadata["record"])
    position = Position(
        **record.pop("position"),
        picture=arrays.pop("picture"),
        state={name.removeprefix("state/"): array for name, array in arrays.items()},
    )
    return Checkpoint(**record, position=position)
