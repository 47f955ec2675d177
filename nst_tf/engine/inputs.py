"""The pictures of a run at any of its sizes: content, styles, regions, and what it starts from."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from nst_tf.config.schema import Config
from nst_tf.engine.pyramid import Level
from nst_tf.image import color, masks
from nst_tf.image.arrays import PIXEL_RANGE, ImageArray, check_image
from nst_tf.image.masks import Region
from nst_tf.image.resize import cover, resize
from nst_tf.io import images
from nst_tf.models import adain
from nst_tf.models import weights as parameters
from nst_tf.objective.terms import blend_shares

Array = npt.NDArray[Any]


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
        content: ImageArray,
        styles: Sequence[ImageArray],
        parts: Sequence[Region],
        config: Config,
        weights: Mapping[str, ImageArray],
        precision: str,
        given: ImageArray | None,
    ) -> None:
        self._config = config
        self._mode = config.original_colors
        self._content, self._styles = color.prepare(self._mode, content, styles)
        self._parts = parts
        self._weights = weights
        self._precision = precision
        self._given = given
        self._in_colour = cache(lambda shape: resize(content, shape))
        self._painter = cache(self._build_painter)
        self.pictures = cache(self._make_pictures)
        self.regions = cache(self._make_regions)
        self.covered = cache(self._make_covered)
        self.start = cache(self._make_start)

    def _make_pictures(self, level: Level) -> tuple[ImageArray, list[ImageArray]]:
        """Returns the content and the styles at the sizes of a level."""
        pairs = zip(self._styles, level.style_shapes, strict=True)
        return (
            resize(self._content, level.shape),
            [resize(style, shape) for style, shape in pairs],
        )

    def _make_regions(self, level: Level) -> list[Region]:
        """Returns the regions at the sizes of a level."""
        return masks.resized(self._parts, level.shape, level.style_shapes)

    def _make_covered(self, level: Level) -> ImageArray | None:
        """Tells how much of each pixel some region covers, [H, W, 1]; None without regions."""
        if not self._parts:
            return None
        masks = [region.content_mask for region in self.regions(level)]
        return np.minimum(np.sum(masks, axis=0, dtype=np.float32), 1.0)[:, :, np.newaxis]

    def _make_start(self, level: Level) -> ImageArray:
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
        return resize(check_image(self.reduce(picture), "start"), level.shape)

    def _begun(
        self, content: ImageArray, styles: Sequence[ImageArray], blend_weights: Sequence[float]
    ) -> ImageArray:
        config = self._config
        if config.init == "noise":
            noise = np.random.default_rng(config.seed).normal(127.5, 32.0, content.shape)
            return np.clip(noise, *PIXEL_RANGE).astype(np.float32)
        if config.init == "style":
            return cover(styles[0], (content.shape[0], content.shape[1]))
        if config.init == "adain":
            shares = blend_shares(blend_weights, len(styles))
            return self._painter().paint(content, styles, shares, config.style_strength)
        return content

    def _begun_by_regions(self, level: Level) -> ImageArray:
        """Puts together each region's own start; what no region covers is the content."""
        content, styles = self.pictures(level)
        parts = self.regions(level)
        total = sum(region.content_mask for region in parts)
        picture = content.copy()
        for region in parts:
            own = self._begun(content, [styles[region.style]], ())
            share = (region.content_mask / np.maximum(total, 1.0))[:, :, np.newaxis]
            picture += share * (own - content)
        return np.clip(picture, *PIXEL_RANGE)

    def _build_painter(self) -> adain.Painter:
        packaged = self._config.weights == "normalised"  # what the decoder was trained with
        network = self._weights if packaged else parameters.load("normalised", None).arrays
        return adain.Painter(network, parameters.adain_decoder(), self._precision)

    def reduce(self, picture: ImageArray) -> ImageArray:
        """Reduces a picture to what `original_colors` lets be stylised."""
        return color.reduce(self._mode, picture)

    def shown(self, picture: ImageArray) -> ImageArray:
        """Gives a picture of any level the colours in which it is shown and saved."""
        if self._mode == "none":
            return picture
        return color.restore(self._mode, self._in_colour(picture.shape[:2]), picture)

    def held(self, picture: ImageArray, level: Level) -> ImageArray:
        """Lets what no region covers be the content, whatever the optimiser's variables say."""
        covered = self.covered(level)
        if covered is None:
            return picture
        content = self.pictures(level)[0]
        held: ImageArray = content + covered * (picture - content)
        return held

    def projected(self, gradient: ImageArray, level: Level) -> ImageArray:
        """Takes a gradient at what `held` gives to the pixels that are free, as they are free."""
        covered = self.covered(level)
        projected = color.project(self._mode, gradient)
        return projected if covered is None else covered * projected

    def carry(self, picture: ImageArray, level: Level) -> ImageArray:
        """Carries a picture up to a level.

        Strokes finer than the pixels of the level before are in no picture that was only enlarged.
        The feed-forward network paints them: what of its picture the level before cannot hold is
        added.
        """
        if picture.shape[:2] == level.shape:
            return picture
        enlarged = resize(picture, level.shape)
        if self._config.init != "adain":
            return enlarged
        painted = self.start(level)
        height, width = picture.shape[:2]
        coarse = resize(resize(painted, (height, width)), level.shape)
        carried: ImageArray = np.clip(enlarged + painted - coarse, *PIXEL_RANGE)
        return carried
