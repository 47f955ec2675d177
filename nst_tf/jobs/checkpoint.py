"""The file format of checkpoints.

Two files are written in turn, so that the one before stays intact while the next is written. A
finished run has one file, its final state, from which a run of more iterations goes on. Each is the
SHA-256 of the rest, followed by a safetensors file with the arrays, and all else as JSON in its
metadata.
"""

import contextlib
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nst_tf.engine.state import OptimizationState
from nst_tf.errors import InputError, warn
from nst_tf.io import files
from nst_tf.jobs.provenance import Facts

_FORMAT = "nst_tf checkpoint 4"
_NAMES = ("checkpoint-0", "checkpoint-1")
_FINAL = "state"
_DIGEST_BYTES = 32
_MAX_BYTES = 2**36
_MAX_HEADER_BYTES = 2**24
_TYPES = {
    "float32": "F32", "float64": "F64", "int64": "I64", "bfloat16": "BF16", "uint16": "U16",
}  # fmt: skip
"""Names of the array types in a state, NumPy's to safetensors'."""

_ARRAYS = ("image", "optimizer_state")


@dataclass(frozen=True)
class Checkpoint:
    """What is saved of a job.

    Attributes:
        number: Higher than that of every checkpoint before it.
        fingerprint: What the result depends on; a job with another one is not resumed.
        environment: What computed it; elsewhere, the bits of the result may differ.
        iterations: Iterations done, over all levels; so many rows has the trace.
        state: The optimization.
    """

    number: int
    fingerprint: Facts
    environment: Facts
    iterations: int
    state: OptimizationState

    @property
    def done_at_level(self) -> int:
        """Iterations done at the level of the state, also those that come again from there."""
        return self.iterations - self.state.iterations + self.state.level_iterations


def save(folder: Path, checkpoint: Checkpoint) -> Path:
    """Writes a checkpoint in place of the last but one.

    Args:
        folder: The run folder.
        checkpoint: What to save.

    Returns:
        The file.

    Raises:
        MachineError: It cannot be written; the last one is intact.
    """
    path = folder / _NAMES[checkpoint.number % 2]
    files.atomic_write(path, *encode(checkpoint))
    return path


def newest(folder: Path) -> Checkpoint | None:
    """Reads the newest checkpoint that is intact; warns of one that is not.

    Args:
        folder: The run folder.

    Returns:
        The checkpoint, or None where there is none.

    Raises:
        InputError: There are checkpoints, and none is intact. They are left as they are.
    """
    intact: list[Checkpoint] = []
    damaged: list[InputError] = []
    for path in (folder / name for name in _NAMES):
        if path.exists():
            try:
                intact.append(read(path))
            except InputError as error:
                damaged.append(error)
    if not intact and damaged:
        raise damaged[0]
    for refusal in damaged:
        warn(refusal)
    return max(intact, key=lambda checkpoint: checkpoint.number, default=None)


def newest_fingerprint(folder: Path) -> Facts | None:
    """Reads what the newest checkpoint is of, without its arrays and without its digest.

    Args:
        folder: The run folder.

    Returns:
        The fingerprint, or None where there is no checkpoint.

    Raises:
        InputError: There are checkpoints, and none is intact.
    """
    records = [record for name in _NAMES if (record := _read_record(folder / name))]
    if records:
        fingerprint: Facts = max(records, key=lambda record: record["number"])["fingerprint"]
        return fingerprint
    found = newest(folder)  # refuses one that is damaged
    return found.fingerprint if found else None


def _read_record(path: Path) -> dict[str, Any] | None:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError), path.open("rb") as file:
        start = file.read(_DIGEST_BYTES + 8)
        length = int.from_bytes(start[_DIGEST_BYTES:], "little")
        if length <= _MAX_HEADER_BYTES:
            metadata = json.loads(file.read(length))["__metadata__"]
            record: dict[str, Any] = json.loads(metadata["record"])
            return record if metadata["format"] == _FORMAT else None
    return None


def finish(folder: Path, last: Path | None) -> None:
    """Makes a checkpoint the final state of a run, and removes the others.

    Args:
        folder: The run folder.
        last: The file that `save` wrote last; None to keep nothing.

    Raises:
        OSError: A file cannot be moved or removed.
    """
    if last is not None:
        last.replace(folder / _FINAL)
    for name in _NAMES if last is not None else (*_NAMES, _FINAL):
        (folder / name).unlink(missing_ok=True)


def final(folder: Path) -> Checkpoint | None:
    """Reads the final state of a run; warns where it is damaged.

    Args:
        folder: The run folder.

    Returns:
        The state, or None where none was kept.
    """
    path = folder / _FINAL
    if not path.exists():
        return None
    try:
        return read(path)
    except InputError as refusal:
        warn(refusal)
        return None


def encode(checkpoint: Checkpoint) -> list[bytes | memoryview]:
    """Encodes a checkpoint.

    Args:
        checkpoint: Any.

    Returns:
        The file in pieces: the digest, and the parts of the safetensors file.
    """
    state = checkpoint.state
    arrays = {"image": state.image}
    arrays |= {f"state/{name}": array for name, array in state.optimizer_state.items()}
    record = {
        **{field.name: getattr(checkpoint, field.name) for field in fields(checkpoint)},
        "state": {
            field.name: getattr(state, field.name)
            for field in fields(state)
            if field.name not in _ARRAYS
        },
    }
    pieces = _safetensors(arrays, {"format": _FORMAT, "record": json.dumps(record)})
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return [digest.digest(), *pieces]


def read(path: Path) -> Checkpoint:
    """Reads a checkpoint.

    Args:
        path: What `save` wrote.

    Returns:
        The checkpoint; its arrays are read-only.

    Raises:
        InputError: It cannot be read, is damaged, or has the format of another version.
    """
    remedy = "start again without --resume"
    data = memoryview(files.read(path, "the checkpoint", _MAX_BYTES, remedy))
    payload = data[_DIGEST_BYTES:]
    if hashlib.sha256(payload).digest() != data[:_DIGEST_BYTES]:
        raise InputError("cannot use the checkpoint", "it is damaged", remedy, where=path)
    arrays, metadata = _parse_safetensors(payload)
    if metadata["format"] != _FORMAT:
        raise InputError(
            "cannot use the checkpoint",
            f"its format is {metadata['format']!r}, not {_FORMAT!r}",
            "use the version of nst_tf that wrote it, or start again without --resume",
            where=path,
        )
    record: dict[str, Any] = json.loads(metadata["record"])
    state = OptimizationState(
        **record.pop("state"),
        image=arrays.pop("image"),
        optimizer_state={name.removeprefix("state/"): array for name, array in arrays.items()},
    )
    return Checkpoint(**record, state=state)


def _safetensors(
    arrays: Mapping[str, npt.NDArray[Any]], metadata: Mapping[str, str]
) -> list[bytes | memoryview]:
    """Lays out a safetensors file around the arrays.

    The library's writer copies all of them twice, which at 1024 pixels is most of a gigabyte.
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


def _parse_safetensors(
    payload: memoryview,
) -> tuple[dict[str, npt.NDArray[Any]], Mapping[str, str]]:
    """Returns the arrays, as views of the payload, and the metadata."""
    start = 8 + int.from_bytes(payload[:8], "little")
    header: dict[str, Any] = json.loads(bytes(payload[8:start]))
    metadata: Mapping[str, str] = header.pop("__metadata__")
    names = {short: name for name, short in _TYPES.items()}
    arrays = {
        name: np.frombuffer(
            payload,
            _dtype(names[entry["dtype"]]),
            math.prod(entry["shape"]),
            start + entry["data_offsets"][0],
        ).reshape(entry["shape"])
        for name, entry in header.items()
    }
    return arrays, metadata


def _dtype(name: str) -> np.dtype[Any]:
    if name == "bfloat16":
        import ml_dtypes  # noqa: F401 - a requirement of TensorFlow, which registers the type
    return np.dtype(name)
