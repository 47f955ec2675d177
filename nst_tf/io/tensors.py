"""Readers of npz, safetensors and HDF5: headers first, arrays on demand.

Formats that can carry code are refused, and no array is allocated before its header is checked.
"""

import io
import math
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import numpy.typing as npt
import safetensors
from numpy.lib import format as npy

FETCH = "delete and fetch again"
TYPES = {"F16": "float16", "F32": "float32", "F64": "float64"}
"""The types that parameters may have: safetensors' names to NumPy's."""

_MAX_NPY_HEADER = 256  # NumPy writes 118 bytes for these arrays; bounds the parser's work


class Tensor(NamedTuple):
    """The header of an array.

    Attributes:
        name: As in the file, brought to `<layer>/kernel` or `<layer>/bias` for HDF5.
        dtype: NumPy's name of the type.
        shape: Of the array.
        load: Reads the array; to be called once the rest is validated.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    load: Callable[[], npt.NDArray[Any]]


class UnfitError(Exception):
    """The content of a file cannot be used.

    The message says why; the caller adds which file.

    Attributes:
        remedy: What to do about it.
    """

    def __init__(
        self, why: str, remedy: str = "give VGG19 weights as .npz, .safetensors or Keras .h5"
    ) -> None:
        super().__init__(why)
        self.remedy = remedy


def open_tensors(data: bytes, sha256: str | None) -> AbstractContextManager[list[Tensor]]:
    """Recognizes the format by the first bytes and reads the headers.

    Args:
        data: The whole file.
        sha256: Its known digest, if any; HDF5 is not opened without one.

    Returns:
        A context manager that yields the tensors in the order of the file.

    Raises:
        UnfitError: The format is not npz, safetensors or HDF5, or can carry code.
    """
    if data.startswith(b"PK"):
        return _open_npz(data)
    if data.startswith(b"\x89HDF\r\n\x1a\n"):
        if sha256 is None:
            raise UnfitError(
                "an HDF5 file has no checksum of its own and is read only with a known SHA-256",
                "give --weights_sha256 as its publisher states it, or convert it to .safetensors",
            )
        return _open_h5(data)
    if data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= len(data) - 8:
        return _open_safetensors(data)
    if data.startswith(b"\x80"):
        raise UnfitError("it is a pickle (.pkl, .pt, .pth), which can carry code")
    start = data[:64].lstrip()[:12].decode("latin-1")
    if start.startswith("<"):
        raise UnfitError(f"it is a web page (starts with {start!r})", FETCH)
    raise UnfitError(f"its format is not known (starts with {start!r})")


@contextmanager
def _open_npz(data: bytes) -> Iterator[list[Tensor]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        if any(Path(name).name == "data.pkl" for name in names):
            raise UnfitError("it is a PyTorch file with a pickle in it, which can carry code")
        if "model.weights.h5" in names:
            raise UnfitError("it is a whole .keras model, which can carry code")
        yield [_npz_tensor(archive, member) for member in archive.infolist()]


def _npz_tensor(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Tensor:
    name = member.filename
    usual = member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    with archive.open(member) as stream:
        # Version 1 bounds the header's length by 64 KiB, later ones by 4 GiB.
        if not (usual and name.endswith(".npy") and npy.read_magic(stream) == (1, 0)):
            raise UnfitError(f"its member {name[:80]!r} is not an array as numpy.savez writes it")
        shape, _, dtype = npy.read_array_header_1_0(stream, max_header_size=_MAX_NPY_HEADER)
        claimed = stream.tell() + math.prod(shape) * dtype.itemsize

    def load() -> npt.NDArray[Any]:
        # A member's CRC is checked only if all of it is read, so no byte may be left over.
        if claimed != (stored := member.file_size):
            raise UnfitError(f"{name!r} claims {claimed} bytes where {stored} are stored", FETCH)
        with archive.open(member) as stream:
            array: npt.NDArray[Any] = npy.read_array(stream, allow_pickle=False)
        return array

    return Tensor(name.removesuffix(".npy"), dtype.name, shape, load)


@contextmanager
def _open_safetensors(data: bytes) -> Iterator[list[Tensor]]:
    def tensor(name: str, dtype: str, shape: list[int], buffer: bytearray) -> Tensor:
        return Tensor(
            name, dtype, tuple(shape), lambda: np.frombuffer(buffer, dtype).reshape(shape)
        )

    # The library has shown that the shapes account for every byte, so that none can be a bomb.
    entries = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
    yield [tensor(n, TYPES.get(e["dtype"], e["dtype"]), e["shape"], e["data"]) for n, e in entries]


@contextmanager
def _open_h5(data: bytes) -> Iterator[list[Tensor]]:
    datasets: dict[str, Any] = {}

    def collect(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            datasets[name] = item

    with h5py.File(io.BytesIO(data), "r") as file:
        # A visitor of links that raises ends in a SystemError of h5py; one that returns just ends.
        link = file.visititems_links(lambda n, link: None if type(link) is h5py.HardLink else n)
        if link is not None:
            raise UnfitError(f"its entry {link[:80]!r} is a link, which is not followed")
        if "model_weights" in file:
            raise UnfitError("it is a whole Keras model, which can carry code")
        file.visititems(collect)
        yield [_h5_tensor(file, name, dataset) for name, dataset in datasets.items()]


def _h5_tensor(file: Any, name: str, dataset: Any) -> Tensor:
    # Chunks come with filters, and filters with plug-ins that HDF5 would load.
    if dataset.is_virtual or dataset.external or dataset.chunks:
        raise UnfitError(f"its entry {name[:80]!r} is virtual, external or chunked data")
    return Tensor(_h5_name(file, name), dataset.dtype.name, dataset.shape, lambda: dataset[()])


def _h5_name(file: Any, name: str) -> str:
    """Brings the names of Keras' two layouts to `<layer>/kernel` and `<layer>/bias`.

    Old: `block1_conv1/block1_conv1_W_1:0` or `block1_conv1/block1_conv1/kernel:0`. New:
    `layers/conv2d/vars/0`, numbered by class, with the layer's name as an attribute of `vars`.
    """
    if new := re.fullmatch(r"layers/([^/]+)/vars/([01])", name):
        variables = file[f"layers/{new[1]}/vars"]
        return f"{variables.attrs.get('name', new[1])}/{('kernel', 'bias')[int(new[2])]}"
    if old := re.fullmatch(r"([^/]+)/(?:.*[/_])?(?:(kernel|W)|bias|b)(?:_1)?(?::0)?", name):
        return f"{old[1]}/{'kernel' if old[2] else 'bias'}"
    return name
