"""All settings: sections as validated, immutable models, and `Config`, which joins them."""

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypeVar

from PIL import ImageColor
from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from nst_tf.config.fields import (
    CONTENT_SIZE,
    KEEP,
    LARGEST_SIZE,
    LEAST_WEIGHT,
    PRINT_SIZE,
    UNITS_PER_INCH,
    Background,
    Bytes,
    File,
    Files,
    ImageSize,
    KeywordOrFile,
    Layers,
    LayerStyles,
    Metadata,
    Number,
    OptionalFile,
    PrintSize,
    Pyramid,
    Sha256,
    Source,
    TimelapseFile,
    Weight,
    Weights,
    Whole,
    default_of,
    keyword_or_file,
    plain,
    print_length,
    setting,
    shown,
    synonyms,
)
from nst_tf.errors import InputError, did_you_mean
from nst_tf.image.resize import fitted_side
from nst_tf.io.images import DEFAULT_MAX_PIXELS

# What a preset sets where nothing else does; what it leaves out has the default of the schema.
PRESETS: Mapping[str, Mapping[str, object]] = {
    "draft": {"pyramid": "none", "num_iterations": 9, "style_strength": 1.0},
    "default": {},
    "fine": {"num_iterations": 200},
}


_STRENGTH_EXPONENT = 3
"""A strength of 0.5 then stands for 1/27 of the usual style weight, 1.5 for 27 times as much."""


def with_preset(
    values: Mapping[str, Any], beside: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """Adds what a preset, a strength and a size stand for.

    Args:
        values: Values by the name of their setting; `preset`, `strength`, `print_size` and
            `image_size` may be among them.
        beside: Values that these are laid over.

    Returns:
        The values and, where they name a preset, a value of every setting that any preset sets;
        where they have a strength or a size, those that it sets. The values themselves take
        precedence.
    """
    values = {name: plain(value) for name, value in values.items()}
    return {**brought_by(values, beside), **_of_size(values), **values}


def brought_by(
    values: Mapping[str, Any], beside: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """Returns what a preset and a strength stand for.

    Args:
        values: Values by the name of their setting; `preset` and `strength` may be among them.
        beside: Values that these are laid over: a strength moves what the preset there starts from.

    Returns:
        The values of other settings, by name; none where neither is given.
    """
    preset, strength = _preset_and_strength(values)
    brought: dict[str, Any] = {}
    if preset is not None:
        brought |= _meaning(preset)
    if strength is not None:
        brought |= _weights(strength)
    if brought:
        preset, strength = _preset_and_strength({**beside, **values})
        usual = _meaning(preset or "default")["style_strength"]
        brought["style_strength"] = _style_strength(1.0 if strength is None else strength, usual)
    return brought


def _preset_and_strength(values: Mapping[str, Any]) -> tuple[str | None, float | None]:
    """Returns what is given of them; None also for what validation refuses."""
    preset, strength = (plain(values.get(name)) for name in ("preset", "strength"))
    if not isinstance(preset, str) or preset not in PRESETS:
        preset = None
    if not isinstance(strength, int | float) or not 0.0 <= strength <= 2.0:
        strength = None
    return preset, strength


def _meaning(preset: str) -> dict[str, Any]:
    names = {name for meaning in PRESETS.values() for name in meaning}
    return {name: _default(name) for name in names} | dict(PRESETS[preset])


def _weights(strength: float) -> dict[str, float]:
    """Moves the weights from the content alone, at 0, to the style alone, at 2."""
    style, content = strength**_STRENGTH_EXPONENT, (2.0 - strength) ** _STRENGTH_EXPONENT
    shares = {"content_weight": content, "style_weight": style, "grain_weight": min(1.0, style)}
    weights = {name: share * _default(name) for name, share in shares.items()}
    # Near the ends a weight can be smaller than any that is allowed.
    return {name: weight if weight >= LEAST_WEIGHT else 0.0 for name, weight in weights.items()}


def _style_strength(strength: float, usual: float) -> float:
    """Moves the initial image: a parabola through 0 at 0, the usual value at 1, and 2 at 2."""
    return usual * strength + (1.0 - usual) * strength * (strength - 1.0)


def _of_size(values: Mapping[str, Any]) -> dict[str, Any]:
    """Lets each of `print_size` and `image_size` take the place of the other."""
    if values.get("print_size") is not None:
        return {"image_size": PRINT_SIZE}
    size = values.get("image_size", PRINT_SIZE)
    return {} if isinstance(size, str) and size == PRINT_SIZE else {"print_size": None}


def _default(name: str) -> Any:
    return Config.model_fields[name].default


class Section(BaseModel):
    """A group of settings, validated together and immutable.

    Equal sections have equal hashes. A setting that is refused raises an InputError of one line;
    pydantic's own entry points, as `model_validate`, raise its ValidationError.

    Attributes:
        heading: The title of the group in `--help`.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", validate_default=True)

    heading: ClassVar[str]

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Appends the description of each setting to the docstring."""
        super().__pydantic_init_subclass__(**kwargs)
        lines = [
            f"    {name}: {field.description}. Default: {default_of(field)!r}."
            for name, field in cls.model_fields.items()
        ]
        cls.__doc__ = "\n".join([(cls.__doc__ or "").rstrip(), "", "Attributes:", *lines])

    if not TYPE_CHECKING:  # type checkers derive the keywords from the fields

        @functools.wraps(BaseModel.__init__)  # marks it as one that `model_validate` need not call
        def __init__(self, /, **values):
            try:
                super().__init__(**values)
            except ValidationError as error:
                raise self._refusal(error, {}) from error

    @model_validator(mode="before")
    @classmethod
    def _convert_arrays(cls, data: Any) -> Any:
        return plain(data)

    @classmethod
    def from_mapping(
        cls, values: Mapping[str, object], sources: Mapping[str, Source] | None = None
    ) -> Self:
        """Validates values from a file or from flags.

        Args:
            values: Values by the name of their setting.
            sources: Where values come from, by the name of their setting.

        Returns:
            The section; settings without a value have their defaults.

        Raises:
            InputError: A setting is unknown or refused, or two of them do not fit together.
        """
        try:
            return cls.model_validate(dict(values), context=sources)
        except ValidationError as error:
            raise cls._refusal(error, sources or {}) from error

    def replace(self, **changes: Any) -> Self:
        """Returns a copy with some settings changed, validated as a whole.

        Args:
            **changes: New values of settings.

        Returns:
            The copy.

        Raises:
            InputError: A setting is unknown or refused, or two of them do not fit together.
        """
        return self.from_mapping({**dict(self), **changes})

    @classmethod
    def _refusal(cls, error: ValidationError, sources: Mapping[str, Source]) -> InputError:
        """Tells the first mistake; a newer version before all, as it explains the others."""
        details = error.errors(include_url=False)
        detail = min(details, key=lambda found: found["loc"][:1] != ("config_version",))
        reason = detail.get("ctx", {}).get("error")
        if isinstance(reason, InputError):  # from a validator of several settings
            return reason
        if not detail["loc"]:  # a key that is not even text
            return InputError(
                f"unknown key {shown(detail['input'])}", "no such setting", "see --help"
            )
        name = str(detail["loc"][0])
        where = sources[name].place if name in sources else ""
        if detail["type"] == "extra_forbidden":
            hint = did_you_mean(name, cls.model_fields)
            return InputError(
                f"unknown key {shown(name)}", "no setting has this name", hint, where=where
            )
        return InputError(
            f"{'.'.join(map(str, detail['loc']))} cannot be {shown(detail['input'])}",
            str(reason or re.sub("^(Input|String|Tuple)", "it", detail["msg"])),
            f"{name} is {cls.model_fields[name].description}",
            where=where,
        )


def _place(info: ValidationInfo, *names: str) -> str:
    """Returns the place of the first of these settings that has a `Source`, or ""."""
    sources: dict[str, Source] = info.context or {}
    return next((sources[name].place for name in names if name in sources), "")


class InputSettings(Section):
    """The image files to read."""

    heading = "Input images"

    content_image: OptionalFile = setting(None, "the content image file", affects_result=False)
    style_image: Files = setting(
        (),
        "the style image file, or up to 64 of them",
        affects_result=False,
        repeatable=True,
    )
    content_masks: Files = setting(
        (),
        "the masks of regions of the content image, white where a style applies, up to 64",
        affects_result=False,
        repeatable=True,
    )
    style_masks: Files = setting(
        (),
        "the masks of the style images, white where a style is taken, one for each region",
        affects_result=False,
        repeatable=True,
    )
    max_pixels: Whole = setting(
        DEFAULT_MAX_PIXELS,
        "the largest number of pixels of an input image, 1 to 1073741824",
        affects_result=False,
        ge=1,
        le=32768**2,
    )
    background: Background = setting(
        "white",
        "the color under transparency: white, black, a color as #rrggbb or in three numbers, or "
        "keep for a transparent result",
    )

    @property
    def background_color(self) -> tuple[int, int, int]:
        """The color under transparency, RGB from 0 to 255; white where that of `keep` is seen."""
        name = "white" if self.background == KEEP else self.background
        red, green, blue = ImageColor.getrgb(name)[:3]
        return red, green, blue

    @model_validator(mode="after")
    def _masks_fit(self, info: ValidationInfo) -> Self:
        regions, styles = len(self.content_masks), len(self.style_image)
        if regions and styles not in (0, 1, regions):
            raise InputError(
                "content_masks and style_image do not fit together",
                f"there are {regions} masks for {styles} style images",
                "give every region its style image, or all of them the same one",
                where=_place(info, "content_masks", "style_image"),
            )
        if self.style_masks and len(self.style_masks) != regions:
            raise InputError(
                "style_masks and content_masks do not fit together",
                f"there are {len(self.style_masks)} masks of styles and {regions} of the content",
                "give every region one of each, or no style_masks at all",
                where=_place(info, "style_masks", "content_masks"),
            )
        return self


def _output_name(given: Mapping[str, Any]) -> Path:
    """Names the result after its images, in the current folder: CONTENT_STYLE.png.

    Args:
        given: The content image and the style images, where they are given.
    """
    content = given.get("content_image") or Path("content")
    styles = given.get("style_image") or (Path("style"),)
    return Path(f"{joint_name(content.stem, [style.stem for style in styles])}.png")


def joint_name(content: str, styles: Sequence[str]) -> str:
    """Joins the names of a content image and of style images to that of their result.

    Args:
        content: The name of the content image, without suffix.
        styles: The names of the style images.

    Returns:
        A name for a file, without suffix, as in "photo_a_b_and_2_more".
    """
    shown_styles = styles if len(styles) <= 3 else styles[:2]
    names = [name_part(content, "content")]
    names += [name_part(style, "style") for style in shown_styles]
    if len(shown_styles) < len(styles):
        names.append(f"and_{len(styles) - len(shown_styles)}_more")
    return "_".join(names)


def name_part(text: str, otherwise: str) -> str:
    """Makes a text a part of a file's name that is neither hidden nor a flag.

    Args:
        text: Any.
        otherwise: What to use where nothing is left.

    Returns:
        At most 60 bytes, so that four of them fit into a name.
    """
    name = re.sub(r'[\x00-\x1f\x7f<>:"/\\|?*]+', "_", text)  # what Windows allows in none
    while len(name.encode(errors="surrogatepass")) > 60:
        name = name[:-1]
    return name.lstrip(" .-").rstrip(" .") or otherwise


class OutputSettings(Section):
    """The image file to write."""

    heading = "Output image"

    output_image: File = setting(
        _output_name,
        "the image file to write, CONTENT_STYLE.png when left out",
        affects_result=False,
    )
    bit_depth: Whole = setting(
        8, "the bits per color channel, 8 or 16 (PNG, TIFF)", ge=8, le=16, multiple_of=8
    )
    quality: Whole = setting(
        0,
        "the quality of JPEG, WebP and AVIF, 1 to 100; 0 is 95, and lossless for WebP",
        ge=0,
        le=100,
    )
    color_profile: Literal["srgb", "keep"] = setting(
        "srgb", "the color profile of the result, srgb, or keep for the content image's own"
    )
    metadata: Literal["settings", "none"] = setting(
        "settings",
        "the metadata of the result: settings, as --rerun needs, or none",
        affects_result=False,
    )


_DEFAULT_DPI = 300
"""What printers ask for."""


class MultiscaleSettings(Section):
    """The size of the result and of the coarser levels, and the iterations at each."""

    heading = "Size and iterations"

    image_size: ImageSize = setting(
        512,
        "the longer side of the result in pixels, 1 to 32768, or content for that of the content "
        "image; print where print_size decides",
    )
    print_size: PrintSize | None = setting(
        None,
        "the size of the print, as 42x29.7cm, 16x12in or 420mm (the longer side), in place of "
        "image_size",
        affects_result=False,
    )
    dpi: Whole = setting(
        0,
        f"the pixels per inch of the print, 1 to 10000; 0 for none, and {_DEFAULT_DPI} with "
        "print_size",
        affects_result=False,
        ge=0,
        le=10_000,
    )
    style_scale: Number = setting(
        1.0,
        "the longer side of the style images divided by image_size, 0.05 to 20",
        ge=0.05,
        le=20,
    )
    pyramid: Pyramid = setting(
        "auto", "the coarser levels: none, auto, or SIZE:ITERATIONS as in 128:80,256:40"
    )
    num_iterations: Whole = setting(
        40,
        "the iterations at image_size, fewer above 512 after coarser levels, 0 to 1000000",
        ge=0,
        le=1_000_000,
    )

    def longer_side(self, content_shape: tuple[int, int]) -> int:
        """Returns the longer side of the result in pixels.

        Args:
            content_shape: Height and width of the content image.
        """
        if isinstance(self.image_size, int):
            return self.image_size
        rectangle = self.print_pixels
        return fitted_side(content_shape, rectangle) if rectangle else max(content_shape)

    @property
    def print_dpi(self) -> int:
        """The pixels per inch that the file tells; 0 for none."""
        return self.dpi or (_DEFAULT_DPI if self.print_size else 0)

    @property
    def print_pixels(self) -> tuple[int, int] | None:
        """The longer and the shorter side of `print_size` in pixels; None where it is not given."""
        if self.print_size is None:
            return None
        longer, shorter, unit = print_length(self.print_size)
        longer, shorter = (
            max(1, round(side * self.print_dpi / UNITS_PER_INCH[unit]))
            for side in (longer, shorter)
        )
        return longer, shorter

    @property
    def asked_size(self) -> int | str:
        """What decides the size, in pixels where `print_size` does, as `image_size` or as LxS."""
        if not (rectangle := self.print_pixels):
            return self.image_size
        longer, shorter = rectangle
        return longer if longer == shorter else f"{longer}x{shorter}"

    @property
    def longest_side(self) -> int | None:
        """The longer side of the result with any content image; None where it has no limit."""
        if self.image_size == CONTENT_SIZE:
            return None
        return self.longer_side((1, LARGEST_SIZE))

    def replace(self, **changes: Any) -> Self:
        """Returns a copy as `Section.replace` does; a new size takes the place of the other one.

        Args:
            **changes: New values of settings.

        Returns:
            The copy.

        Raises:
            InputError: A setting is unknown or refused, or two of them do not fit together.
        """
        return super().replace(**{**_of_size(changes), **changes})

    @model_validator(mode="before")
    @classmethod
    def _fill_in_size(cls, data: Any) -> Any:
        return {**_of_size(data), **data} if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _has_one_size(self, info: ValidationInfo) -> Self:
        if not (rectangle := self.print_pixels):
            if self.image_size == PRINT_SIZE:
                raise InputError(
                    "image_size cannot be 'print'",
                    "there is no print_size",
                    "give print_size, as in 42x29.7cm, or image_size in pixels",
                    where=_place(info, "image_size", "print_size"),
                )
            return self
        if self.image_size != PRINT_SIZE:
            raise InputError(
                "image_size and print_size do not go together",
                f"they are {self.image_size} and {self.print_size}, and each decides the size",
                "leave one of them out",
                where=_place(info, "print_size", "image_size"),
            )
        if rectangle[0] > LARGEST_SIZE:
            fits = self.print_dpi * LARGEST_SIZE // rectangle[0]
            remedy = (
                f"take a dpi of up to {fits}, or a smaller print" if fits else "make it smaller"
            )
            raise InputError(
                f"print_size cannot be {self.print_size!r} at {self.print_dpi} dpi",
                f"its longer side has {rectangle[0]} pixels, and {LARGEST_SIZE} are allowed",
                remedy,
                where=_place(info, "print_size", "dpi"),
            )
        return self


class LossSettings(Section):
    """The layers, weights and other terms of the loss."""

    heading = "Loss"

    content_layers: Layers = setting(
        {"block4_conv2": 1.0},
        "the content layers of VGG19, as name or name:weight, with commas",
    )
    style_layers: Layers = setting(
        {f"block{block}_conv1": 1.0 for block in range(1, 6)},
        "the style layers of VGG19, as name or name:weight, with commas",
    )
    layer_styles: LayerStyles = setting(
        {}, "the style layers that use one style image only, as name:number, with commas"
    )
    style_blend_weights: Weights = setting(
        (), "the weight of each style image, as in 0.3,0.7; equal when left out"
    )
    content_weight: Weight = setting(1.0, "the weight of the content loss, 0 or 1e-12 to 1e12")
    style_weight: Weight = setting(1e5, "the weight of the style loss, 0 or 1e-12 to 1e12")
    style_loss: Literal["gram", "moments", "sliced_wasserstein", "nearest_neighbors"] = setting(
        "gram",
        "the style loss: gram, moments, sliced_wasserstein or nearest_neighbors",
    )
    grain_weight: Weight = setting(5.0, "the weight of the grain loss, 0 or 1e-12 to 1e12")
    tv_weight: Weight = setting(0.0, "the weight of the total variation loss, 0 or 1e-12 to 1e12")
    tv_exponent: Whole = setting(
        2, "the exponent of the differences in the total variation loss, 1 or 2", ge=1, le=2
    )
    normalize_gradients: bool = setting(
        False, "whether each loss is scaled by the size of its gradient on noise, true or false"
    )
    original_colors: Annotated[
        Literal["none", "luminance", "histogram", "match"],
        synonyms(**{"0": "none", "1": "luminance"}),
    ] = setting(
        "none",
        "how the colors of the content image are kept: none, luminance, histogram or match",
    )

    @model_validator(mode="after")
    def _has_positive_weights(self, info: ValidationInfo) -> Self:
        terms = ("content_weight", "style_weight", "tv_weight")
        if not any(getattr(self, term) for term in terms):
            raise InputError(
                f"{', '.join(terms)} are all 0",
                "there is nothing to minimize",
                "give one of them a positive value",
                where=_place(info, *terms),
            )
        for weight, layers in (
            ("content_weight", "content_layers"),
            ("style_weight", "style_layers"),
        ):
            if getattr(self, weight) and not any(getattr(self, layers).values()):
                raise InputError(
                    f"{layers} sum to 0",
                    "no layer with a positive weight is left",
                    f"name a layer, or set {weight} to 0",
                    where=_place(info, layers, weight),
                )
        blend = self.style_blend_weights
        if blend and not any(blend):
            raise InputError(
                f"style_blend_weights cannot be {shown(list(blend))}",
                f"there are {len(blend)} weights of sum 0",
                "give one of them a positive value",
                where=_place(info, "style_blend_weights"),
            )
        return self


class NetworkSettings(Section):
    """VGG19: weights, pooling, padding and precision."""

    heading = "Network"

    weights: Annotated[KeywordOrFile, keyword_or_file("normalised", "imagenet")] = setting(
        "normalised", "the weights of VGG19: normalised, imagenet or a file", affects_result=False
    )
    weights_sha256: Sha256 | None = setting(
        None, "the SHA-256 of the weights file, 64 hex digits", affects_result=False
    )
    pooling: Annotated[Literal["max", "average"], synonyms(avg="average")] = setting(
        "max", "the pooling of VGG19, max or average"
    )
    padding: Literal["reflect", "replicate", "zero"] = setting(
        "reflect", "the padding of the convolutions, reflect, replicate or zero"
    )
    precision: Literal["auto", "float32", "bfloat16"] = setting(
        "auto", "the precision of the convolutions: auto, float32 or bfloat16"
    )


class InitialSettings(Section):
    """The image from which the optimization starts."""

    heading = "Initial image"

    init: Annotated[
        KeywordOrFile,
        keyword_or_file("adain", "content", "noise", "style"),
        synonyms(random="noise", image="content"),
    ] = setting(
        "adain",
        "the initial image: adain, content, noise, style or an image file",
        affects_result=False,
    )
    style_strength: Number = setting(
        0.65, "the strength of the style in the adain initial image, 0 to 2", ge=0, le=2
    )
    seed: Whole = setting(0, "the seed of the random numbers, 0 to 4294967295", ge=0, lt=2**32)

    @property
    def init_file(self) -> Path | None:
        """The image file that `init` names, or None where it is a keyword."""
        path = Path(self.init)
        return path if path.is_absolute() else None


class OptimizerSettings(Section):
    """The optimizer and its bounds."""

    heading = "Optimizer"

    optimizer: Literal["lbfgs", "l-bfgs-b", "bfgs", "adam"] = setting(
        "lbfgs", "the optimizer: lbfgs, l-bfgs-b, bfgs or adam"
    )
    bounds: bool = setting(
        True, "whether pixels stay within [0, 255] during the optimization, true or false"
    )
    margin: Whole = setting(
        8,
        "the pixels beyond each border that are optimized with the image and cut off, 0 to 256",
        ge=0,
        le=256,
    )


class RuntimeSettings(Section):
    """How TensorFlow computes."""

    heading = "Execution"

    deterministic: bool = setting(
        False, "whether TensorFlow uses deterministic operations only, true or false"
    )
    threads: Whole = setting(
        0,
        "the number of processor threads, 0 for all cores, to 1024",
        affects_result=False,
        ge=0,
        le=1024,
    )
    workers: Whole = setting(
        0,
        "the number of processes that share the images of a batch or the tiles of a large image, "
        "0 for the command's own, to 256",
        affects_result=False,
        ge=0,
        le=256,
    )
    cluster: str = setting(
        "",
        "the address of a dask scheduler, whose workers share them, as in tcp://host:8786",
        affects_result=False,
    )
    max_memory: Bytes = setting(
        0,
        "the memory to use at most, as in 4GiB or 3500MB, 0 for nine tenths of what is free",
        affects_result=False,
    )
    tile_size: Whole = setting(
        0,
        "the side in pixels of the tiles of large images without their border, a multiple of 16 to "
        "8192, 0 for the largest that fit into memory, or none",
        affects_result=False,
        ge=0,
        le=8192,
        multiple_of=16,
    )

    @model_validator(mode="after")
    def _has_one_kind_of_workers(self, info: ValidationInfo) -> Self:
        if self.workers and self.cluster:
            raise InputError(
                "workers and cluster do not go together",
                f"they are {self.workers} and {self.cluster}, and each decides who computes",
                "leave one of them out",
                where=_place(info, "cluster", "workers"),
            )
        return self


class ReportingSettings(Section):
    """What is printed and written during a run."""

    heading = "Progress, snapshots and checkpoints"

    print_iter: Whole = setting(
        50, "the iterations between lines of progress, 0 for none", affects_result=False, ge=0
    )
    save_iter: Whole = setting(
        0, "the iterations between snapshots, 0 for none", affects_result=False, ge=0
    )
    max_snapshots: Whole = setting(
        0, "the number of snapshots to keep, 0 for all", affects_result=False, ge=0
    )
    timelapse: TimelapseFile = setting(
        None,
        "the animation of the run to write, a WebP, GIF or MP4 file",
        affects_result=False,
    )
    timelapse_seconds: Number = setting(
        8.0,
        "the seconds that it lasts, 1 to 60, before its last image is held",
        affects_result=False,
        ge=1,
        le=60,
    )
    tensorboard: bool = setting(
        False,
        "whether losses and images are written for TensorBoard, true or false",
        affects_result=False,
    )
    score: bool = setting(
        True,
        "whether the loss of the saved image is computed in float32 at the end, true or false",
        affects_result=False,
    )
    checkpoint_seconds: Number = setting(
        60.0,
        "the seconds between checkpoints, 0 for none, to 86400",
        affects_result=False,
        ge=0,
        le=86400,
    )
    keep_state: bool = setting(
        True,
        "whether the final state is kept, to go on with more iterations, true or false",
        affects_result=False,
    )


_Section = TypeVar("_Section", bound=Section)


# Pydantic collects fields from the last base to the first.
class Config(
    ReportingSettings,
    RuntimeSettings,
    OptimizerSettings,
    InitialSettings,
    NetworkSettings,
    LossSettings,
    MultiscaleSettings,
    OutputSettings,
    InputSettings,
):
    """All settings of a run, validated and immutable.

    Settings are attributes and keywords of one flat class, as they are keys of a YAML file and
    flags of the command. The properties `inputs`, `output`, `multiscale`, `loss`, `network`,
    `initial`, `optimization`, `runtime` and `reporting` return the settings of one section.

    Paths become absolute: a relative path is relative to the YAML file that gives it, otherwise
    to the current folder. `~` and `$HOME` are taken literally.

    Raises:
        InputError: A setting is unknown or refused, or two of them do not fit together.
    """

    heading = "Preset and version"

    preset: Literal["draft", "default", "fine"] = setting(
        "default",
        "the default of pyramid and num_iterations: draft, default or fine",
        affects_result=False,
    )
    strength: Number = setting(
        1.0,
        "the default of style_strength and of the weights, from 0, the content image, over 1 to 2, "
        "the style alone",
        affects_result=False,
        ge=0,
        le=2,
    )
    config_version: Whole = setting(1, "the version of the settings, 1", ge=1)

    @property
    def inputs(self) -> InputSettings:
        """The settings of the input images."""
        return self._section(InputSettings)

    @property
    def output(self) -> OutputSettings:
        """The settings of the output image."""
        return self._section(OutputSettings)

    @property
    def multiscale(self) -> MultiscaleSettings:
        """The settings of size, pyramid and iterations."""
        return self._section(MultiscaleSettings)

    @property
    def loss(self) -> LossSettings:
        """The settings of the loss."""
        return self._section(LossSettings)

    @property
    def network(self) -> NetworkSettings:
        """The settings of VGG19."""
        return self._section(NetworkSettings)

    @property
    def initial(self) -> InitialSettings:
        """The settings of the initial image."""
        return self._section(InitialSettings)

    @property
    def optimization(self) -> OptimizerSettings:
        """The settings of the optimizer."""
        return self._section(OptimizerSettings)

    @property
    def runtime(self) -> RuntimeSettings:
        """The settings of TensorFlow."""
        return self._section(RuntimeSettings)

    @property
    def reporting(self) -> ReportingSettings:
        """The settings of progress, snapshots and checkpoints."""
        return self._section(ReportingSettings)

    def _section(self, section: type[_Section]) -> _Section:
        # Without validation, since these values have passed it.
        return section.model_construct(
            **{name: getattr(self, name) for name in section.model_fields}
        )

    def replace(self, **changes: Any) -> Self:
        """Returns a copy with some settings changed, validated as a whole.

        A preset among the changes brings all that it stands for; other changes take precedence
        over it. An output image that was never given is named after the new images.

        Args:
            **changes: New values of settings.

        Returns:
            The copy.

        Raises:
            InputError: A setting is unknown or refused, or two of them do not fit together.
        """
        changes = with_preset(changes, dict(self))
        if "output_image" in self.model_fields_set | changes.keys():
            return super().replace(**changes)
        kept = {name: value for name, value in self if name != "output_image"}
        folder = {"output_image": Source("", self.output_image.parent)}
        return self.from_mapping({**kept, **changes}, folder)

    @model_validator(mode="before")
    @classmethod
    def _fill_in_preset(cls, data: Any) -> Any:
        return with_preset(data) if isinstance(data, dict) else data

    @field_validator("config_version")
    @classmethod
    def _not_newer(cls, version: int) -> int:
        if version > 1:
            raise ValueError("it is newer than this program, which knows 1: update nst_tf")
        return version

    @model_validator(mode="after")
    def _styles_fit(self, info: ValidationInfo) -> Self:
        styles = len(self.style_image)
        if styles:
            check_layer_styles(self.layer_styles, styles, _place(info, "layer_styles"))
        blend = self.style_blend_weights
        parts, kind = styles, "style images"
        if self.content_masks:
            parts, kind = len(self.content_masks), "regions"
        if blend and parts and len(blend) != parts:
            raise InputError(
                f"style_blend_weights cannot be {shown(list(blend))}",
                f"there are {len(blend)} weights of sum {sum(blend):g} for {parts} {kind}",
                f"give each of the {kind} its weight, one of them positive",
                where=_place(info, "style_blend_weights", "style_image"),
            )
        return self


def check_layer_styles(layer_styles: Mapping[str, int], styles: int, where: str = "") -> None:
    """Refuses layers that use a style image that there is not.

    Args:
        layer_styles: Numbers of style images, from 1, by layer.
        styles: How many style images there are.
        where: The file and line, or the flag, for messages.

    Raises:
        InputError: A number is too high.
    """
    highest = max(layer_styles.values(), default=0)
    if highest > styles:
        raise InputError(
            f"layer_styles cannot name style {highest}",
            f"there are {styles} style images",
            "number them from 1",
            where=where,
        )


def section_of(name: str) -> type[Section]:
    """Returns the section that declares a setting, or `Config` for those in no section.

    Args:
        name: The name of a field of `Config`.
    """
    return next(
        section
        for section in (*reversed(Config.__bases__), Config)
        if issubclass(section, Section) and name in section.model_fields
    )


def metadata(name: str) -> Metadata:
    """Returns the properties of a setting beside its type, default and description.

    Args:
        name: The name of a field of `Config`.
    """
    extra: Any = Config.model_fields[name].json_schema_extra
    return Metadata(**extra)


def require_files(inputs: InputSettings) -> None:
    """Checks that the content image and the style image are given, as a run needs both.

    Args:
        inputs: The settings of the input images, or a `Config`.

    Raises:
        InputError: `content_image` or `style_image` is not given.
    """
    for name in ("content_image", "style_image"):
        if not getattr(inputs, name):
            raise InputError(
                f"{name} is missing",
                f"it is {InputSettings.model_fields[name].description}",
                f"give --{name}=FILE, {name} in the YAML file, or the images alone: CONTENT STYLE",
            )
