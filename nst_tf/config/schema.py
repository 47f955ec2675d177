"""What a run is asked to do: the schema of every setting, and the YAML files that give them."""

import io
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from ruamel.yaml import YAML

from nst_tf.config import yaml as yaml_file
from nst_tf.config.fields import (
    File,
    Files,
    Layers,
    LayerStyles,
    Number,
    Pyramid,
    Sha256,
    Source,
    Weight,
    Weights,
    Whole,
    as_path,
    shown,
)
from nst_tf.errors import InputError, did_you_mean

_KEYWORDS = {"init": ("adain", "content", "noise", "style"), "weights": ("normalised", "imagenet")}


# What a preset sets where nothing else does; what it leaves out has the default of the schema.
PRESETS: Mapping[str, Mapping[str, object]] = {
    "draft": {"pyramid": "none", "num_iterations": 10},
    "default": {},
    "fine": {"num_iterations": 200},
}


class Config(BaseModel):
    """The settings of a run, checked and unchangeable.

    Every path is absolute; `~` and `$HOME` are taken literally. A relative path is relative to
    the YAML file that gives it, otherwise to the current folder.

    Raises:
        InputError: A setting is unknown or not allowed, or two of them do not fit together.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", validate_default=True)

    content_image: File | None = Field(None, description="the picture that gives the scene")
    style_image: Files = Field(
        (), description="the picture that gives the manner, or up to 64 of them"
    )
    style_blend_weights: Weights = Field(
        (), description="the weight of each style picture, as in 0.3,0.7; equal when left out"
    )
    content_masks: Files = Field(
        (), description="the masks of regions of the content, white where a style goes, up to 64"
    )
    style_masks: Files = Field(
        (), description="the masks of what to take from each region's style, one for each region"
    )
    output_image: File = Field(Path("out.png"), description="the picture to write")
    bit_depth: Whole = Field(
        8, ge=8, le=16, multiple_of=8, description="the bits of each colour, 8 or 16 (PNG, TIFF)"
    )
    quality: Whole = Field(
        0,
        ge=0,
        le=100,
        description="the quality of JPEG, WebP and AVIF, 1 to 100; 0 is 95, and WebP without loss",
    )
    color_profile: Literal["srgb", "keep"] = Field(
        "srgb", description="the colour space of the result, srgb, or keep for the content's own"
    )
    image_size: Whole = Field(
        512, ge=1, le=32768, description="the longer side of the result in pixels, 1 to 32768"
    )
    style_scale: Number = Field(
        1.0,
        ge=0.05,
        le=20,
        description="the style picture's longer side over image_size, 0.05 to 20",
    )
    max_pixels: Whole = Field(
        100_000_000,
        ge=1,
        le=32768**2,
        description="the most pixels that a picture read may have, 1 to 1073741824",
    )
    content_layers: Layers = Field(
        {"block4_conv2": 1.0},
        description="the layers that compare scenes: names, or name:weight, with commas",
    )
    style_layers: Layers = Field(
        {f"block{block}_conv1": 1.0 for block in range(1, 6)},
        description="the layers that compare manners: names, or name:weight, with commas",
    )
    layer_styles: LayerStyles = Field(
        {},
        description="the layers that only one style picture is for: name:number, with commas",
    )
    content_weight: Weight = Field(
        1.0, description="the weight of the content loss, 0 or 1e-12 to 1e12"
    )
    style_weight: Weight = Field(
        1e5, description="the weight of the style loss, 0 or 1e-12 to 1e12"
    )
    tv_weight: Weight = Field(
        0.0, description="the weight of the total variation, 0 or 1e-12 to 1e12"
    )
    normalize_gradients: bool = Field(
        False,
        description="whether weights mean the same for any picture, layers and network, true or "
        "false",
    )
    tv_exponent: Whole = Field(
        2, ge=1, le=2, description="the power of differences in the total variation, 1 or 2"
    )
    pooling: Literal["max", "average"] = Field(
        "max", description="how the network halves its maps, max or average"
    )
    padding: Literal["reflect", "replicate", "zero"] = Field(
        "reflect",
        description="what the network sees beyond the borders, reflect, replicate or zero",
    )
    original_colors: Literal["none", "luminance", "histogram", "match"] = Field(
        "none", description="how the content's colours are kept: none, luminance, histogram, match"
    )
    preset: Literal["draft", "default", "fine"] = Field(
        "default", description="how much time to take: draft, default or fine"
    )
    init: str = Field(
        "adain", description="the start: adain, content, noise, style or a picture file"
    )
    style_strength: Number = Field(
        1.0, ge=0, le=1, description="how much of the style the adain start takes, 0 to 1"
    )
    optimizer: Literal["lbfgs", "l-bfgs-b", "bfgs", "adam"] = Field(
        "lbfgs", description="the method of minimisation, lbfgs, l-bfgs-b, bfgs or adam"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="what the network computes in: auto, float32 or bfloat16"
    )
    pyramid: Pyramid = Field(
        "auto", description="the levels before the last: none, auto, or as in 128:80,256:40"
    )
    num_iterations: Whole = Field(
        40, ge=0, le=1_000_000, description="the iterations at image_size, 0 to 1000000"
    )
    bounds: bool = Field(
        True, description="whether pixels are kept in [0, 255] all the while, true or false"
    )
    weights: str = Field(
        "normalised", description="the network's weights: normalised, imagenet or a file"
    )
    weights_sha256: Sha256 | None = Field(
        None, description="the SHA-256 of the weights file, 64 hex digits"
    )
    seed: Whole = Field(
        0, ge=0, lt=2**32, description="the seed of all random numbers, 0 to 4294967295"
    )
    deterministic: bool = Field(
        False, description="whether TensorFlow may only use what gives the same bits, true or false"
    )
    threads: Whole = Field(
        0, ge=0, le=1024, description="the threads that compute, 0 for all cores, to 1024"
    )
    checkpoint_seconds: Number = Field(
        60.0, ge=0, le=86400, description="the seconds between checkpoints, 0 for none, to 86400"
    )
    print_iter: Whole = Field(50, ge=0, description="the iterations between reports, 0 for none")
    save_iter: Whole = Field(0, ge=0, description="the iterations between snapshots, 0 for none")
    max_snapshots: Whole = Field(
        0, ge=0, description="how many of the last snapshots are kept, 0 for all"
    )
    config_version: Whole = Field(1, ge=1, description="the version of these settings, 1")

    @property
    def init_file(self) -> Path | None:
        """The picture file to start from, where `init` names one."""
        return None if self.init in _KEYWORDS["init"] else Path(self.init)

    @model_validator(mode="before")
    @classmethod
    def _fill_in_preset(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("preset") not in PRESETS:
            return data
        return {**PRESETS[data["preset"]], **data}

    @field_validator("init", "weights", mode="before")
    @classmethod
    def _keyword_or_file(cls, value: object, info: ValidationInfo) -> str:
        if isinstance(value, str) and value in _KEYWORDS[str(info.field_name)]:
            return value
        return str(as_path(value, info))

    @field_validator("config_version")
    @classmethod
    def _not_newer(cls, version: int) -> int:
        if version > 1:
            raise ValueError("it is newer than this program, which knows 1: update nst_tf")
        return version

    @model_validator(mode="after")
    def _fits_together(self, info: ValidationInfo) -> Self:
        terms = ("content_weight", "style_weight", "tv_weight")
        if not any(getattr(self, term) for term in terms):
            raise InputError(
                f"{', '.join(terms)} are all 0",
                "there is nothing to minimise",
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
        self._regions_fit(info)
        blend = self.style_blend_weights
        parts, kind = len(self.style_image), "style pictures"
        if self.content_masks:
            parts, kind = len(self.content_masks), "regions"
        if blend and (not any(blend) or (parts and len(blend) != parts)):
            raise InputError(
                f"style_blend_weights cannot be {shown(list(blend))}",
                f"there are {len(blend)} weights of sum {sum(blend):g} for {parts} {kind}",
                f"give each of the {kind} its weight, one of them positive",
                where=_place(info, "style_blend_weights", "style_image"),
            )
        return self

    def _regions_fit(self, info: ValidationInfo) -> None:
        regions, styles = len(self.content_masks), len(self.style_image)
        if regions and styles not in (0, 1, regions):
            raise InputError(
                "content_masks and style_image do not fit together",
                f"there are {regions} masks for {styles} style pictures",
                "give every region its style picture, or all of them the same one",
                where=_place(info, "content_masks", "style_image"),
            )
        if self.style_masks and len(self.style_masks) != regions:
            raise InputError(
                "style_masks and content_masks do not fit together",
                f"there are {len(self.style_masks)} masks of styles and {regions} of the content",
                "give every region one of each, or no style_masks at all",
                where=_place(info, "style_masks", "content_masks"),
            )
        highest = max(self.layer_styles.values(), default=0)
        if styles and highest > styles:
            raise InputError(
                f"layer_styles cannot name style {highest}",
                f"there are {styles} style pictures",
                "number them from 1",
                where=_place(info, "layer_styles"),
            )

    @model_validator(mode="wrap")
    @classmethod
    def _refuse_in_one_line(
        cls, data: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo
    ) -> Self:
        try:
            return handler(data)
        except ValidationError as error:
            raise _refusal(error, info) from error


def load_config(path: Path | str, overrides: Mapping[str, object] | None = None) -> Config:
    """Reads a configuration file.

    Args:
        path: A YAML file: one flat mapping of settings to values.
        overrides: Values that win over the file's, as from flags.

    Returns:
        The configuration; what neither gives has its default.

    Raises:
        InputError: The file cannot be read, or a value is refused; names the line or the flag.
    """
    path, given = Path(path), dict(overrides or {})
    values, lines = yaml_file.read_mapping(path)
    folder = path.absolute().parent
    sources = {key: Source(f"{path}, line {line}", folder) for key, line in lines.items()}
    return Config.model_validate(
        values | given, context=sources | {key: Source(f"--{key}") for key in given}
    )


def recall_config(
    settings: str, picture: Path, overrides: Mapping[str, object] | None = None
) -> Config:
    """Reads the settings that a picture was made with.

    Args:
        settings: JSON of `portable`, as it stands in the picture.
        picture: The picture; paths are relative to its folder.
        overrides: Values that win, as from flags.

    Returns:
        The configuration that makes the picture again, with what wins.

    Raises:
        InputError: The settings cannot be read, or a value is refused.
    """
    try:
        values = json.loads(settings)
        values.pop("nst_tf", None)
    except (ValueError, AttributeError) as error:
        raise InputError(
            "cannot read the settings in the picture",
            f"they are not what nst_tf writes ({error})",
            "give the settings as flags, or as a YAML file with --config",
            where=picture,
        ) from error
    given = dict(overrides or {})
    folder = picture.absolute().parent
    sources = {key: Source(f"{picture}", folder) for key in values}
    return Config.model_validate(
        values | given, context=sources | {key: Source(f"--{key}") for key in given}
    )


def to_yaml(config: Config) -> str:
    """Writes a configuration out in full.

    Args:
        config: Any configuration.

    Returns:
        YAML in ASCII, from which `load_config` makes an equal configuration anywhere.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.allow_unicode = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # declared None
    yaml.width = yaml_file.LARGEST
    text = io.StringIO()
    yaml.dump({name: _plain(value) for name, value in config}, text)
    return text.getvalue()


def require_files(config: Config) -> None:
    """Checks that a configuration names the pictures that the command line needs.

    Args:
        config: Any configuration.

    Raises:
        InputError: `content_image` or `style_image` is not given.
    """
    for name in ("content_image", "style_image"):
        if not getattr(config, name):
            raise InputError(
                f"{name} is missing",
                f"it is {Config.model_fields[name].description}",
                f"give --{name}=FILE, or {name} in the YAML file",
            )


def portable(config: Config) -> dict[str, object]:
    """Gives the settings as plain values, with paths relative to the output's folder.

    Args:
        config: Any configuration.

    Returns:
        What JSON can hold, and what stays true when the project is moved as a whole.
    """
    folder = config.output_image.parent
    settings = {name: _plain(value, folder) for name, value in config}
    for name, keywords in _KEYWORDS.items():
        if settings[name] not in keywords:
            settings[name] = os.path.relpath(str(settings[name]), folder)
    return settings


def _plain(value: object, folder: Path | None = None) -> object:
    if isinstance(value, tuple):
        return [_plain(item, folder) for item in value]
    if isinstance(value, Path):
        return os.path.relpath(value, folder) if folder else str(value)
    return value


def _place(info: ValidationInfo, *names: str) -> str:
    """Finds where the first of these settings that was given was given."""
    sources: dict[str, Source] = info.context or {}
    return next((sources[name].place for name in names if name in sources), "")


def _refusal(error: ValidationError, info: ValidationInfo) -> InputError:
    """Tells the first mistake; a newer version before all, as it explains the others."""
    details = error.errors(include_url=False)
    detail = min(details, key=lambda found: found["loc"][:1] != ("config_version",))
    if not detail["loc"]:  # a key that is not even text
        return InputError(f"unknown key {shown(detail['input'])}", "no such setting", "see --help")
    name = str(detail["loc"][0])
    where = _place(info, name)
    if detail["type"] == "extra_forbidden":
        hint = did_you_mean(name, Config.model_fields)
        return InputError(
            f"unknown key {shown(name)}", "no setting has this name", hint, where=where
        )
    reason = detail.get("ctx", {}).get("error") or re.sub(
        "^(Input|String|Tuple)", "it", detail["msg"]
    )
    return InputError(
        f"{'.'.join(map(str, detail['loc']))} cannot be {shown(detail['input'])}",
        str(reason),
        f"{name} is {Config.model_fields[name].description}",
        where=where,
    )
