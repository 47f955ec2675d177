"""The pictures on the disk: a folder for each, with its inputs, its result and its record."""

import contextlib
import csv
import json
import os
import shutil
import stat
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from nst_tf.config import Config
from nst_tf.config.files import recall_config
from nst_tf.config.schema import joint_name
from nst_tf.errors import InputError, MachineError, warn
from nst_tf.image.arrays import quantize
from nst_tf.io import files, images
from nst_tf.jobs import output
from nst_tf.web import controls
from nst_tf.web.inputs import Input, link, new_id, preview_of

State = Literal["queued", "running", "finished", "stopped", "failed"]

FORMATS = ("png", "jpg", "webp", "tiff", "avif")
"""What a picture can be downloaded as."""

_RECORD = "picture.json"
_RESULT = "picture.png"
_MAX_RECORD = 2**20


class _Plain(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class Part(_Plain):
    """An image that a picture is made from.

    Attributes:
        id: Its identifier.
        name: What a person calls it.
        file: Its name in the folder of the picture.
        credit: Who made it, where that is known.
    """

    id: str
    name: str
    file: str
    credit: str = ""


class Picture(_Plain):
    """The record of a picture.

    Attributes:
        id: Its random identifier, which is the name of its folder.
        key: The identifier of the request that asked for it.
        created: When that was, in seconds since 1970.
        state: What became of it.
        settings: The settings that were given, by name.
        content: The content image.
        styles: The style images.
        mask: The region that is painted, or None for all.
        initial: The picture that it makes larger, or None.
        message: Why it failed, or what happened.
        width: In pixels.
        height: In pixels.
        iterations: Iterations done.
        seconds: Time that was taken.
        loss: That of the saved image.
    """

    id: str
    key: str
    created: float
    state: State
    settings: dict[str, str | int | float | bool]
    content: Part
    styles: tuple[Part, ...]
    mask: Part | None = None
    initial: Part | None = None
    message: str = ""
    width: int = 0
    height: int = 0
    iterations: int = 0
    seconds: float = 0.0
    loss: float | None = None

    @property
    def parts(self) -> tuple[Part, ...]:
        """All images that it is made from."""
        others = (part for part in (self.mask, self.initial) if part is not None)
        return (self.content, *self.styles, *others)

    @property
    def is_active(self) -> bool:
        """Whether it waits or is being made."""
        return self.state in ("queued", "running")


class Pictures:
    """All pictures, in memory and on the disk.

    Args:
        folder: A folder for each picture is in it.

    Attributes:
        version: Grows with every change.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self.version = 0
        files.prepare_folder(folder)
        found = [_read_record(path) for path in sorted(folder.iterdir())]
        known = [picture for picture in found if picture is not None]
        self._pictures = {one.id: one for one in sorted(known, key=lambda one: one.created)}

    def all(self) -> list[Picture]:
        """Returns all pictures, the oldest first."""
        with self._lock:
            return list(self._pictures.values())

    def as_plain(self) -> list[dict[str, Any]]:
        """Returns the records of all pictures, the oldest first, as JSON has them."""
        return [picture.model_dump(mode="json") for picture in self.all()]

    def get(self, id_: str) -> Picture | None:
        """Returns a picture, or None where there is none of this identifier."""
        return self._pictures.get(id_)

    def with_key(self, key: str) -> Picture | None:
        """Returns the picture that a request asked for before."""
        return next((picture for picture in self.all() if picture.key == key), None)

    def create(
        self,
        key: str,
        settings: Mapping[str, Any],
        content: Input,
        styles: Iterable[Input],
        mask: Input | None = None,
        initial: Path | None = None,
    ) -> Picture:
        """Makes the folder of a new picture; `save` adds the picture, `remove` removes the folder.

        Args:
            key: The identifier of the request.
            settings: Values by name.
            content: The content image.
            styles: The style images.
            mask: The region that is painted.
            initial: The image file from which the optimization starts.

        Returns:
            The picture.

        Raises:
            MachineError: The folder cannot be written.
        """
        id_ = new_id()
        folder = self._folder / id_
        files.prepare_folder(folder)

        def part(image: Input, stem: str) -> Part:
            file = f"{stem}{image.path.suffix}"
            link(image, folder / file)
            return Part(id=image.id, name=image.name, file=file, credit=image.credit)

        try:
            source = None
            if initial is not None:
                shutil.copyfile(initial, folder / "initial.png")
                source = Part(id=new_id(), name="the smaller picture", file="initial.png")
            return Picture(
                id=id_,
                key=key,
                created=time.time(),
                state="queued",
                settings=dict(settings),
                content=part(content, "content"),
                styles=tuple(part(style, f"style-{n}") for n, style in enumerate(styles, 1)),
                mask=part(mask, "mask") if mask else None,
                initial=source,
            )
        except OSError as error:
            self._remove_folder(id_)
            why = error.strerror or str(error)
            raise MachineError("cannot copy the image", why, "free some space") from error
        except BaseException:
            self._remove_folder(id_)
            raise

    def config(self, picture: Picture) -> Config:
        """Returns all settings of a picture.

        Raises:
            InputError: A setting is refused.
        """
        folder = self._folder / picture.id
        paths: dict[str, Path | list[Path]] = {
            "content_image": folder / picture.content.file,
            "style_image": [folder / style.file for style in picture.styles],
            "output_image": folder / _RESULT,
        }
        if picture.mask:
            paths["content_masks"] = [folder / picture.mask.file]
        if picture.initial:
            paths["init"] = folder / picture.initial.file
        return controls.configure(picture.settings, **paths)

    def save(self, picture: Picture) -> Picture:
        """Adds a picture, or writes what changed of it.

        Raises:
            MachineError: The record cannot be written.
        """
        with self._lock:
            data = json.dumps(picture.model_dump(mode="json"), indent=2).encode()
            files.atomic_write(self._folder / picture.id / _RECORD, data)
            self._pictures[picture.id] = picture
            self.version += 1
        return picture

    def change(self, id_: str, **changes: Any) -> Picture:
        """Changes some entries of the record of a picture; they are in effect on a full disk, too.

        Args:
            id_: Which picture.
            **changes: New values.

        Returns:
            The picture.
        """
        picture = self._pictures[id_].model_copy(update=changes)
        try:
            return self.save(picture)
        except MachineError as error:
            warn(error)
            with self._lock:
                self._pictures[id_] = picture
                self.version += 1
            return picture

    def remove(self, id_: str) -> None:
        """Removes a picture and its folder."""
        with self._lock:
            self._pictures.pop(id_, None)
            self.version += 1
        self._remove_folder(id_)

    def _remove_folder(self, id_: str) -> None:
        # Without its record, a folder that is removed in part is no picture any more.
        (self._folder / id_ / _RECORD).unlink(missing_ok=True)
        shutil.rmtree(self._folder / id_, ignore_errors=True)

    def find_input(self, id_: str) -> Input | None:
        """Returns an image that some picture is made from, or None."""
        for picture in self.all():
            for part in picture.parts:
                if part.id == id_:
                    path = self._folder / picture.id / part.file
                    return Input(id_, part.name, path, preview_of(path), part.credit)
        return None

    def result(self, picture: Picture) -> Path:
        """Returns the file of the saved image, which may not be there yet."""
        return self._folder / picture.id / _RESULT

    def latest(self, picture: Picture) -> Path:
        """Returns the file of the image that is being made, which may not be there yet."""
        return output.run_folder(self.result(picture)) / "latest.png"

    def image(self, picture: Picture) -> bytes | None:
        """Reads the best image there is of a picture as PNG; None where there is none yet."""
        result = self.result(picture)
        latest = self.latest(picture)
        order = [latest, latest.with_name("first.png")]
        order.insert(1 if picture.state == "running" else 0, result)
        return next((data for path in order if (data := read_own(path)) is not None), None)

    def losses(self, picture: Picture) -> list[tuple[int, float]]:
        """Reads the loss of each iteration."""
        path = output.run_folder(self.result(picture)) / "trace.csv"
        text = (read_own(path) or b"").decode("ascii", "replace")
        lines = text[: text.rfind("\n") + 1].splitlines()
        with contextlib.suppress(ValueError, KeyError):
            return [(int(row["iteration"]), float(row["loss"])) for row in csv.DictReader(lines)]
        return []

    def encoded(self, picture: Picture, format_: str) -> bytes | None:
        """Encodes the saved image as the command writes it; None where there is none.

        Args:
            picture: Which one.
            format_: One of `FORMATS`.

        Raises:
            InputError: The format cannot hold the image.
        """
        path = self.result(picture)
        data = read_own(path)
        if data is None or format_ == "png":
            return data
        suffix = f".{format_}"
        config = recall_config(images.settings_of(path) or "{}", path)
        config = config.replace(output_image=path.with_suffix(suffix))
        image = images.read(path)
        images.check_output(config.output_image, image.shape[:2])
        return output.encode(quantize(image), suffix, config, None, config.quality)

    def file_name(self, picture: Picture, format_: str) -> str:
        """Returns the name under which a picture is downloaded, in ASCII."""
        name = joint_name(_stem(picture.content), [_stem(style) for style in picture.styles])
        plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in name)
        return f"{plain}.{format_}"


def _stem(part: Part) -> str:
    return part.name.rpartition(".")[0] or part.name


def _read_record(folder: Path) -> Picture | None:
    """Reads the record of a picture; a folder without one is none, and is left alone."""
    if folder.is_symlink() or not folder.is_dir():
        return None
    try:
        data = files.read(folder / _RECORD, "the record", _MAX_RECORD, "remove its folder")
        picture = Picture.model_validate_json(data)
    except InputError:
        return None
    except ValidationError:
        warn(f"the record in {folder.name} cannot be read: its picture is left out")
        return None
    return picture if picture.id == folder.name else None


def read_own(path: Path) -> bytes | None:
    """Reads a regular file that a job wrote; None where there is none, or only a link."""
    with contextlib.suppress(OSError):
        descriptor = os.open(
            path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        )
        with os.fdopen(descriptor, "rb") as file:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                return file.read()
    return None
