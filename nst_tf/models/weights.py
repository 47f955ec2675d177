"""Loads trained parameters, with validation of checksum, names, types, shapes and values.

A file is read once into memory, hashed there and parsed from there. Its content, not its name,
decides the format, and the headers are compared with the expected table before an array is made.
"""

import hashlib
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nst_tf.errors import InputError, warn
from nst_tf.io import download, files
from nst_tf.io.tensors import FETCH, TYPES, Tensor, UnfitError, open_tensors
from nst_tf.models.layers import LAYERS

Shapes = Mapping[str, tuple[int, ...]]
Arrays = dict[str, npt.NDArray[np.float32]]

PACKAGED = Path(__file__).parents[1] / "weights" / "vgg19_normalised.npz"
PACKAGED_SHA256 = "13df98c3a8c6c42ffb84b48cc273f84842548f055eef58ba55efed0c89b198aa"
DECODER = PACKAGED.with_name("adain_decoder.npz")
DECODER_SHA256 = "4a262889b3b2a176cc73288951c2739feb3296024f81cee6de51c4666b57669a"
DECODER_CHANNELS = (512, 256, 256, 256, 256, 128, 128, 64, 64, 3)
"""Of the input and of the output of each convolution (Huang and Belongie 2017, section 6.1)."""

_MAX_BYTES = 1_000_000_000  # VGG19 with its classification top takes 575 MB in float32
_TOP = ("fc1", "fc2", "predictions")  # the classifier of Keras' VGG19, which is not needed
_IMAGENET = (
    "https://storage.googleapis.com/tensorflow/keras-applications/vgg19/"
    "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5"
)
_IMAGENET_MD5 = "253f8cb515780f3b799900260a226db6"  # as keras.applications.vgg19 states it
_IMAGENET_BYTES = 90_000_000  # it has 80 million
_INSTEAD = "use --weights=normalised, which needs no network, or a file with --weights=PATH"


class Parameters(NamedTuple):
    """Trained parameters and the checksum of their file.

    Attributes:
        arrays: float32 arrays by name.
        sha256: The SHA-256 of the file in hexadecimal.
    """

    arrays: Arrays
    sha256: str


def vgg19_shapes() -> dict[str, tuple[int, ...]]:
    """Returns the names and shapes of the parameters of VGG19's 16 convolutions.

    Returns:
        `<layer>/kernel` to (3, 3, in, out) and `<layer>/bias` to (out,), in the order of the
        layers (Simonyan and Zisserman 2015, table 1, column E).
    """
    shapes: dict[str, tuple[int, ...]] = {}
    inputs = 3
    for layer, channels in LAYERS.items():
        shapes[f"{layer}/kernel"] = (3, 3, inputs, channels)
        shapes[f"{layer}/bias"] = (channels,)
        inputs = channels
    return shapes


def load_vgg19(weights: str | Path, sha256: str | None = None) -> Parameters:
    """Loads and verifies the parameters of VGG19.

    Args:
        weights: "normalised" for those in the package (Gatys et al. 2016, section 2), "imagenet"
            for those that Keras downloads, or a file.
        sha256: The SHA-256 of that file in hexadecimal, if it is known.

    Returns:
        The arrays of `vgg19_shapes`.

    Raises:
        InputError: The file is missing or is not what it should be.
        MachineError: The download failed.
    """
    if weights == "normalised":
        return read(PACKAGED, vgg19_shapes(), PACKAGED_SHA256)
    if weights == "imagenet":
        data = download.cached(_IMAGENET, _IMAGENET_MD5, _IMAGENET_BYTES, _INSTEAD)
        # Its hash was compared; HDF5 is not read without one.
        return _read(data, vgg19_shapes(), hashlib.sha256(data).hexdigest(), Path(_IMAGENET))
    return read(Path(weights), vgg19_shapes(), sha256)


def load_adain_decoder() -> Parameters:
    """Loads the packaged decoder, which makes images of activations of VGG19's block4_conv1.

    Returns:
        `convN/kernel` (3, 3, in, out) and `convN/bias` (out,) for N from 1 to 9.

    Raises:
        InputError: The file is missing or is not the one that was packaged.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for number, (inputs, outputs) in enumerate(pairwise(DECODER_CHANNELS), start=1):
        shapes[f"conv{number}/kernel"] = (3, 3, inputs, outputs)
        shapes[f"conv{number}/bias"] = (outputs,)
    return read(DECODER, shapes, DECODER_SHA256)


def read(path: Path, expected: Shapes, sha256: str | None) -> Parameters:
    """Reads and validates a file of trained parameters.

    Accepted are NumPy `.npz`, `.safetensors` and HDF5 weights in Keras' old and new layout; formats
    that can carry code are not opened. A classification top in the file is ignored.

    Args:
        path: The file, at most 1 GB.
        expected: All the names and their shapes.
        sha256: The file's SHA-256 in hexadecimal, or None where it is not known; required for HDF5,
            which has no checksum of its own.

    Returns:
        The arrays in the order of `expected`, in float32, and the file's digest.

    Raises:
        InputError: The file cannot be read, has another hash, is of another kind or damaged, or
            its arrays are not those expected, not finite or zero.
    """
    what = "cannot use the weights"
    if (path / "saved_model.pb").exists():
        why = "it is a TensorFlow SavedModel, which can carry code"
        raise InputError(what, why, UnfitError(why).remedy, where=path)
    wanted = f"restore the file with SHA-256 {sha256}" if sha256 else "correct the path"
    data = files.read(path, "the weights", _MAX_BYTES, wanted)
    return _read(data, expected, sha256, path)


def _read(data: bytes, expected: Shapes, sha256: str | None, path: Path) -> Parameters:
    what = "cannot use the weights"
    try:
        digest = hashlib.sha256(data).hexdigest()
        if sha256 is not None and digest != sha256.lower():
            raise UnfitError(f"its SHA-256 is {digest[:12]}..., not {sha256[:12]}...", FETCH)
        with open_tensors(data, sha256) as tensors:
            return Parameters(_verified(tensors, expected), digest)
    except UnfitError as error:
        raise InputError(what, str(error), error.remedy, where=path) from error
    except (InputError, MemoryError):
        raise  # sizes are in the expected table, so that the file did not cause a lack of memory
    except Exception as error:  # three parsers raise many types
        why = f"the file is incomplete or damaged ({type(error).__name__}: {str(error)[:80]})"
        raise InputError(what, why, FETCH, where=path) from error


def _verified(tensors: list[Tensor], expected: Shapes) -> Arrays:
    found: dict[str, Tensor] = {}
    for tensor in tensors:
        if tensor.name in found:
            raise UnfitError(f"{tensor.name[:80]!r} is in it twice", FETCH)
        if tensor.name.split("/")[0] not in _TOP:
            found[tensor.name] = tensor
    _check_names(list(found), list(expected))
    for name, shape in expected.items():
        if (dtype := found[name].dtype) not in TYPES.values():
            raise UnfitError(f"{name!r} is of type {dtype}", "convert it to float32")
        if found[name].shape != shape:
            raise UnfitError(f"{name!r} has shape {found[name].shape}, expected is {shape}")
    if any(found[name].dtype == "float64" for name in expected):
        warn("float64 weights are rounded to float32")
    return {name: _as_float32(found[name]) for name in expected}


def _check_names(found: list[str], expected: list[str]) -> None:
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    unknown = f"{extra[0][:80]!r} is not known" if extra else ""
    if "block3_conv4/kernel" in missing and "block3_conv3/kernel" in found:
        raise UnfitError("block3_conv4 missing: this looks like VGG16")
    if missing:
        raise UnfitError(f"{missing[0]!r} is missing" + (f" and {unknown}" if unknown else ""))
    if extra:
        raise UnfitError(unknown)


def _as_float32(tensor: Tensor) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what overflows is infinite, and refused as such
        array = np.ascontiguousarray(tensor.load(), dtype=np.float32)
    if wrong := array.size - np.count_nonzero(np.isfinite(array)):
        raise UnfitError(f"{tensor.name!r} holds {wrong} values that are NaN or infinite", FETCH)
    if tensor.name.endswith("/kernel") and not array.any():
        raise UnfitError(f"weights are all zero in {tensor.name!r}", FETCH)
    return array
