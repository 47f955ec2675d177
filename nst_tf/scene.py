"""The pictures of a run at any of its sizes: content, styles, regions, and what it starts from."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from nst_tf import adain, colours, images, parameters, regions
from nst_tf.config import Config
from nst_tf.errors import InputError
from nst_tf.objective import blend_shares
from nst_tf.pyramid import Level
from nst_tf.regions import Region

Array = npt.NDArray[Any]
Picture = npt.NDArray[np.float32]

LEVELS_OF_A_PIXEL = (0.0, 255.0)


class Scene:
    """What a run looks at, at each level of the pyramid; all of it is made once and kept.

    Args:
        content: RGB [H, W, 3] in [0, 255].
        styles: The same, each of its own size.
        parts: Where which style goes; without any, all styles go everywhere.
        config: All settings.
        weights: Parameters of VGG19 by name.
        precision: What a feed-forward start is computed in.
        given: The picture to start from, in place of what `config.init` says.
    """

    def __init__(
        self,
        content: Picture,
        styles: Sequence[Picture],
        parts: Sequence[Region],
        config: Config,
        weights: Mapping[str, Picture],
        precision: str,
        given: Picture | None,
    ) -> None:
        self._config = config
        self._mode = config.original_colors
        self._content, self._styles = colours.prepare(self._mode, content, styles)
        self._parts = parts
        self._weights = weights
        self._precision = precision
        self._given = given
        self._in_colour = cache(lambda shape: images.resize(content, shape))
        self._painter = cache(self._build_painter)
        self.pictures = cache(self._make_pictures)
        self.regions = cache(self._make_regions)
        self.covered = cache(self._make_covered)
        self.start = cache(self._make_start)

    def _make_pictures(self, level: Level) -> tuple[Picture, list[Picture]]:
        """Returns the content and the styles at the sizes of a level."""
        pairs = zip(self._styles, level.style_shapes, strict=True)
        return (
            images.resize(self._content, level.shape),
            [images.resize(style, shape) for style, shape in pairs],
        )

    def _make_regions(self, level: Level) -> list[Region]:
        """Returns the regions at the sizes of a level."""
        return regions.resized(self._parts, level.shape, level.style_shapes)

    def _make_covered(self, level: Level) -> Picture | None:
        """Tells how much of each pixel some region covers, [H, W, 1]; None without regions."""
        if not self._parts:
            return None
        masks = [region.content_mask for region in self.regions(level)]
        return np.minimum(np.sum(masks, axis=0, dtype=np.float32), 1.0)[:, :, np.newaxis]

    def _make_start(self, level: Level) -> Picture:
        """Makes the picture that a level starts from when nothing came before."""
        config = self._config
        if self._given is not None:
            picture = self._given
        elif config.init_file is not None:
            picture = images.read(config.init_file, config.max_pixels)
        elif self._parts:
            picture = self._begun_by_regions(level)
        else:
            content, styles = self.pictures(level)
            picture = self._begun(content, styles, config.style_blend_weights)
        return images.resize(checked(self.reduce(picture), "start"), level.shape)

    def _begun(
        self, content: Picture, styles: Sequence[Picture], blend_weights: Sequence[float]
    ) -> Picture:
        config = self._config
        if config.init == "noise":
            noise = np.random.default_rng(config.seed).normal(127.5, 32.0, content.shape)
            return np.clip(noise, *LEVELS_OF_A_PIXEL).astype(np.float32)
        if config.init == "style":
            return images.cover(styles[0], (content.shape[0], content.shape[1]))
        if config.init == "adain":
            shares = blend_shares(blend_weights, len(styles))
            return self._painter().paint(content, styles, shares, config.style_strength)
        return content

    def _begun_by_regions(self, level: Level) -> Picture:
        """Puts together each region's own start; what no region covers is the content."""
        content, styles = self.pictures(level)
        parts = self.regions(level)
        total = sum(region.content_mask for region in parts)
        picture = content.copy()
        for region in parts:
            own = self._begun(content, [styles[region.style]], ())
            share = (region.content_mask / np.maximum(total, 1.0))[:, :, np.newaxis]
            picture += share * (own - content)
        return np.clip(picture, *LEVELS_OF_A_PIXEL)

    def _build_painter(self) -> adain.Painter:
        packaged = self._config.weights == "normalised"  # what the decoder was trained with
        network = self._weights if packaged else parameters.load("normalised", None).arrays
        return adain.Painter(network, parameters.adain_decoder(), self._precision)

    def reduce(self, picture: Picture) -> Picture:
        """Reduces a picture to what `original_colors` lets be stylised."""
        return colours.reduce(self._mode, picture)

    def shown(self, picture: Picture) -> Picture:
        """Gives a picture of any level the colours in which it is shown and saved."""
        if self._mode == "none":
            return picture
        return colours.restore(self._mode, self._in_colour(picture.shape[:2]), picture)

    def held(self, picture: Picture, level: Level) -> Picture:
        """Lets what no region covers be the content, whatever the optimiser's variables say."""
        covered = self.covered(level)
        if covered is None:
            return picture
        content = self.pictures(level)[0]
        held: Picture = content + covered * (picture - content)
        return held

    def projected(self, gradient: Picture, level: Level) -> Picture:
        """Takes a gradient at what `held` gives to the pixels that are free, as they are free."""
        covered = self.covered(level)
        projected = colours.project(self._mode, gradient)
        return projected if covered is None else covered * projected

    def carry(self, picture: Picture, level: Level) -> Picture:
        """Carries a picture up to a level.

        Strokes finer than the pixels of the level before are in no picture that was only enlarged.
        The feed-forward network paints them: what of its picture the level before cannot hold is
        added.
        """
        if picture.shape[:2] == level.shape:
            return picture
        enlarged = images.resize(picture, level.shape)
        if self._config.init != "adain":
            return enlarged
        painted = self.start(level)
        height, width = picture.shape[:2]
        coarse = images.resize(images.resize(painted, (height, width)), level.shape)
        carried: Picture = np.clip(enlarged + painted - coarse, *LEVELS_OF_A_PIXEL)
        return carried


def checked(picture: Array, name: str) -> Picture:
    """Refuses what is not a picture.

    Args:
        picture: Of any type.
        name: What it is to be, for the message.

    Returns:
        RGB float32 in [0, 255], [H, W, 3].

    Raises:
        InputError: The array has another shape, or values out of range.
    """
    array = np.asarray(picture, dtype=np.float32)
    good = array.ndim == 3 and array.shape[2] == 3 and array.size > 0
    if not (good and np.isfinite(array).all() and array.min() >= 0 and array.max() <= 255):
        raise InputError(
            f"the {name} array is not a picture",
            f"it has shape {array.shape}"
            + (f" and values from {array.min():g} to {array.max():g}" if good else ""),
            "give RGB of shape [H, W, 3] with finite values in [0, 255]",
        )
    return array
