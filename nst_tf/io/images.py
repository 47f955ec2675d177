"""ImageArray files to float32 RGB arrays and back: reading and encoding."""

from pathlib import Path

from nst_tf import system
from nst_tf.image.arrays import ImageArray
from nst_tf.io import decoding, files
from nst_tf.io.encoding import FORMATS as FORMATS
from nst_tf.io.encoding import check_output as check_output
from nst_tf.io.encoding import encode as encode
from nst_tf.io.encoding import settings_in

DEFAULT_MAX_PIXELS = 100_000_000
_MAX_BYTES = 256 * 2**20


def read(
    path: Path, max_pixels: int = DEFAULT_MAX_PIXELS, profile: bytes | None = None
) -> ImageArray:
    """Reads a picture file; see `decoding.decode` for what is done with orientation and colour.

    Args:
        path: A JPEG, PNG, WebP, TIFF, AVIF, BMP or GIF file.
        max_pixels: The most pixels to decode.
        profile: The RGB colour profile to convert to, as from `profile_of`; without one, sRGB.

    Returns:
        RGB [H, W, 3] in [0, 255].

    Raises:
        InputError: There is no such file, or it holds no picture that can be used.
    """
    return decoding.decode(_read_bytes(path), max_pixels, path, profile)


def profile_of(path: Path) -> bytes | None:
    """Finds the colour profile that a picture can be worked on and saved in.

    With `read(path, profile=profile_of(path))` its values stay as they are in the file, and with
    `read(other, profile=profile_of(path))` another picture means the same colours.

    Args:
        path: A picture file.

    Returns:
        The ICC profile in the file. None, which means sRGB, where there is none, where its values
        are not RGB, or where nothing can be converted to it.

    Raises:
        InputError: There is no such file.
    """
    return decoding.rgb_profile(_read_bytes(path))


def _read_bytes(path: Path) -> bytes:
    return files.read(path, "the picture", _MAX_BYTES, "name a PNG, JPEG, WebP or TIFF file")


def settings_of(path: Path) -> str | None:
    """Finds the settings that `encode` put into a file.

    Args:
        path: Any file, or none.

    Returns:
        The settings, or None when this program did not write the file or it cannot be read.
    """
    try:
        data = _read_bytes(path)
        with system.quiet():
            return settings_in(data)
    except Exception:  # noqa: BLE001 - a parser of untrusted bytes
        return None
