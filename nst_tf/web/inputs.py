"""The images that a picture is made from: uploads, the gallery, and those of earlier pictures."""

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from nst_tf.errors import InputError, MachineError
from nst_tf.io import files
from nst_tf.web import checks

QUOTA_BYTES = 512 * 2**20
"""What uploads that no picture uses yet may take on the disk."""

_GALLERY = Path(__file__).parent / "gallery"
_PREVIEW = ".preview.jpg"
_OWN = re.compile(r"[0-9a-f]{32}(\.\w+){0,2}|\.nst_tf-.*")
"""The names of files in the folder of uploads."""


class Input(NamedTuple):
    """An image to make pictures from.

    Attributes:
        id: Its random identifier, by which the page names it; fixed in the gallery.
        name: What a person calls it, as text of one line. No file has this name.
        path: The file, as it was given.
        preview: A small JPEG of it, which was encoded here.
        credit: Who made it, where it is one of the gallery.
    """

    id: str
    name: str
    path: Path
    preview: Path
    credit: str = ""


def new_id() -> str:
    """Returns a random identifier of 128 bits that is a file name on every system."""
    return secrets.token_hex(16)


def read_gallery() -> Mapping[str, Input]:
    """Returns the images of the gallery by their identifiers."""
    entries = json.loads((_GALLERY / "gallery.json").read_text(encoding="utf-8"))
    found = (
        Input(
            f"gallery-{Path(entry['file']).stem}",
            entry["name"],
            _GALLERY / entry["file"],
            _GALLERY / entry["file"],
            entry["credit"],
        )
        for entry in entries
    )
    return {image.id: image for image in found}


def preview_of(path: Path) -> Path:
    """Returns the name of the small JPEG beside an image."""
    return path.with_name(f"{path.stem}{_PREVIEW}")


class Uploads:
    """Uploaded images that no picture uses yet; they end with the server.

    Args:
        folder: Where they are.
        quota: The bytes that they may take.
    """

    def __init__(self, folder: Path, quota: int = QUOTA_BYTES) -> None:
        self._folder = folder
        self._quota = quota
        self._inputs: dict[str, Input] = {}
        if folder.is_symlink():
            raise MachineError(
                "cannot use the folder for uploads",
                "it is a symbolic link, which could lead anywhere",
                "remove it or choose another --output_dir",
                where=folder,
            )
        files.prepare_folder(folder)
        for path in folder.iterdir():
            if _OWN.fullmatch(path.name):  # whatever else a person keeps there
                path.unlink()

    def __iter__(self) -> Iterator[Input]:
        return iter(self._inputs.values())

    def get(self, id_: str) -> Input | None:
        """Returns an upload, or None where there is none of this identifier."""
        return self._inputs.get(id_)

    def add(self, pieces: Sequence[bytes], name: str) -> tuple[Input, checks.ImageFacts]:
        """Checks an image in a child process and keeps it.

        Args:
            pieces: The bytes of the file.
            name: What a person calls it.

        Returns:
            The image and what it is.

        Raises:
            InputError: It is no image that can be used; nothing of it is kept.
            MachineError: The quota or the disk is full.
        """
        self._make_room(sum(map(len, pieces)))
        id_ = new_id()
        path = self._folder / id_
        try:
            files.atomic_write(path, *pieces)
            facts = checks.inspect(path, preview_of(path), name)
        except BaseException:
            _remove(path)
            raise
        kept = path.with_suffix(facts.suffix)
        path.rename(kept)
        image = Input(id_, name, kept, preview_of(kept))
        self._inputs[id_] = image
        return image, facts

    def take_back(self, image: Input) -> None:
        """Keeps an image of a picture that is about to be removed."""
        path = self._folder / f"{image.id}{image.path.suffix}"
        link(image, path)
        self._inputs[image.id] = image._replace(path=path, preview=preview_of(path))

    def discard(self, id_: str) -> None:
        """Removes an upload, where there is one of this identifier."""
        if (image := self._inputs.pop(id_, None)) is not None:
            _remove(image.path)

    def _make_room(self, size: int) -> None:
        used = sum(image.path.stat().st_size for image in self)
        if used + size > self._quota:
            raise MachineError(
                "the folder for uploads is full",
                f"{used / 1e6:.0f} MB of {self._quota / 1e6:.0f} MB are used by unused images",
                "start the server again, which removes them",
            )


def link(image: Input, path: Path) -> None:
    """Gives an image and its preview further names, or copies them where that is not possible."""
    for source, target in ((image.path, path), (image.preview, preview_of(path))):
        try:
            os.link(source, target, follow_symlinks=False)
        except (OSError, NotImplementedError):
            try:
                shutil.copyfile(source, target)
            except OSError as error:
                raise MachineError(
                    "cannot copy the image", error.strerror or str(error), "free some space"
                ) from error


def missing(id_: object) -> InputError:
    """Returns the error about an identifier that belongs to no image."""
    return InputError(
        "there is no such image",
        "it was removed, or the server was started again since it was uploaded"
        if isinstance(id_, str)
        else "its identifier is not text",
        "choose the image once more",
    )


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    preview_of(path).unlink(missing_ok=True)
