"""Contact sheets: images side by side, each under its label."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from nst_tf.image.arrays import ImageArray, Pixels, quantize
from nst_tf.image.resize import resize

_GAP = 8
_FONT_SIZE = 14
_LINE = 18
_MARGIN = 4
"""Above and below the lines of a label, together."""

_FONT = ImageFont.load_default(_FONT_SIZE)


def shape_of(
    shapes: Sequence[tuple[int, int]], labels: Sequence[str], columns: int, cell_size: int
) -> tuple[int, int]:
    """Returns the size of a contact sheet.

    Args:
        shapes: Height and width of each image.
        labels: The label of each image.
        columns: How many images stand side by side.
        cell_size: The width in pixels at which each is shown.

    Returns:
        Height and width.
    """
    rows = _rows(shapes, labels, columns, cell_size)
    height = sum(label + image + _GAP for label, image in rows) - _GAP
    return height, min(columns, len(shapes)) * (cell_size + _GAP) - _GAP


def contact_sheet(
    images: Sequence[ImageArray], labels: Sequence[str], columns: int, cell_size: int
) -> Pixels:
    """Places images on a white sheet, row by row.

    Args:
        images: RGB [H, W, 3] in [0, 255], of any sizes.
        labels: The text above each image, in lines where it is wide.
        columns: How many images stand side by side.
        cell_size: The width in pixels at which each is shown.

    Returns:
        RGB [H, W, 3] of 8 bits.
    """
    shapes = [(image.shape[0], image.shape[1]) for image in images]
    height, width = shape_of(shapes, labels, columns, cell_size)
    sheet = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(sheet)
    top = 0
    for row, (label_height, image_height) in enumerate(_rows(shapes, labels, columns, cell_size)):
        for column in range(min(columns, len(images) - row * columns)):
            number, left = row * columns + column, column * (cell_size + _GAP)
            for line, text in enumerate(_wrapped(labels[number], cell_size)):
                pen.text((left, top + _MARGIN // 2 + line * _LINE), text, "black", _FONT)
            shown = resize(images[number], _shown_shape(shapes[number], cell_size))
            sheet.paste(Image.fromarray(quantize(shown)), (left, top + label_height))
        top += label_height + image_height + _GAP
    return np.asarray(sheet)


def _rows(
    shapes: Sequence[tuple[int, int]], labels: Sequence[str], columns: int, cell_size: int
) -> list[tuple[int, int]]:
    """Returns the heights of the labels and of the images of each row."""
    rows = []
    for first in range(0, len(shapes), columns):
        row = slice(first, first + columns)
        lines = max(len(_wrapped(label, cell_size)) for label in labels[row])
        image = max(_shown_shape(shape, cell_size)[0] for shape in shapes[row])
        rows.append((lines * _LINE + _MARGIN, image))
    return rows


def _shown_shape(shape: tuple[int, int], cell_size: int) -> tuple[int, int]:
    return max(1, round(shape[0] * cell_size / shape[1])), cell_size


def _wrapped(label: str, width: int) -> list[str]:
    """Breaks a label into lines, between its words and within those that are too long."""
    lines = [""]
    for word in label.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if _FONT.getlength(longer) <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for character in word:
            if lines[-1] and _FONT.getlength(lines[-1] + character) > width:
                lines.append("")
            lines[-1] += character
    return lines
