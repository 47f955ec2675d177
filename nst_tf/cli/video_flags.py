"""The flags of the command for videos: those of a video, and the settings of its frames."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from absl import flags

import nst_tf
from nst_tf.cli.arguments import read_words
from nst_tf.cli.flags import (
    FlagSet,
    define_setting,
    define_source,
    define_switch,
    help_line,
    value_of,
)
from nst_tf.config import Config
from nst_tf.config.fields import Source
from nst_tf.config.files import given_settings, load_config
from nst_tf.config.schema import section_of
from nst_tf.errors import InputError
from nst_tf.system import expand_home
from nst_tf.video.settings import VideoSettings, applies_to_videos

_USAGE = """\
usage: python -m nst_tf.video --content_video=FILE --style_image=FILE [--output_video=FILE.mp4]
                              [--config=FILE.yaml] [--KEY=VALUE ...]
Each frame starts from the one before, moved along the optical flow. Sound and frame rate are kept.
"""

_SWITCHES = {
    "overwrite": "replace the file at output_video, and drop the frames of another run",
    "resume": "go on after the finished frames of an interrupted run, or begin it",
    "debug": "show the traceback of an error",
    "help": "print this help and exit",
    "version": "print the version and exit",
}
_CONFIG = "a YAML file of settings of the frames; flags take precedence"


class VideoCommand(NamedTuple):
    """The parsed command line.

    Attributes:
        config: The settings of the frames.
        settings: Those of the video.
        overwrite: Whether the output may be replaced.
        resume: Whether to go on with an interrupted run.
        answer: The text to print in place of a run, of the help or the version, or "".
    """

    config: Config
    settings: VideoSettings
    overwrite: bool = False
    resume: bool = False
    answer: str = ""


def parse(argv: Sequence[str]) -> VideoCommand:
    """Parses the command line and the configuration file that it names.

    Args:
        argv: The arguments, without the program's name.

    Returns:
        The settings: flags take precedence over the file, and the file over defaults.

    Raises:
        InputError: A flag or a setting is unknown, not allowed, missing, or given two values.
    """
    defined = FlagSet()
    define_source(defined, "config", _CONFIG)
    for name, text in _SWITCHES.items():
        define_switch(defined, name, text)
    fields = {**VideoSettings.model_fields, **_frame_fields()}
    for name, field in fields.items():
        define_setting(defined, name, field)
    words = read_words(argv, {name: defined[name].boolean for name in defined})
    if words.files:
        raise InputError(
            f"unexpected argument {words.files[0]!r}",
            "files are given by their flags",
            "write --content_video=FILE --style_image=FILE",
        )
    try:
        defined(["nst_tf", *words.flags])
    except (flags.Error, ValueError) as error:
        raise InputError("cannot read the flags", str(error), "see --help") from error
    if defined["help"].value:
        return VideoCommand(Config(), VideoSettings(), answer=_help_text())
    if defined["version"].value:
        return VideoCommand(Config(), VideoSettings(), answer=f"nst_tf {nst_tf.__version__}\n")
    given: dict[str, Any] = {
        name: value_of(name, field, defined[name].value)
        for name, field in fields.items()
        if defined[name].present
    }
    of_video = {name: given.pop(name) for name in VideoSettings.model_fields if name in given}
    sources = {name: Source(f"--{name}", expands_home=True) for name in of_video}
    settings = VideoSettings.from_mapping(of_video, sources)
    if defined["config"].present:
        config = load_config(expand_home(defined["config"].value), given)
    else:
        config = given_settings(given)
    return VideoCommand(
        config, settings, overwrite=defined["overwrite"].value, resume=defined["resume"].value
    )


def _frame_fields() -> dict[str, Any]:
    return {name: field for name, field in Config.model_fields.items() if applies_to_videos(name)}


def _help_text() -> str:
    lines = [*_USAGE.splitlines(), "", "Command", help_line("config", _CONFIG)]
    lines += [help_line(name, text) for name, text in _SWITCHES.items()]
    lines += ["", VideoSettings.heading]
    lines += [help_line(name, field=field) for name, field in VideoSettings.model_fields.items()]
    for heading, group in itertools.groupby(
        _frame_fields().items(), lambda item: section_of(item[0]).heading
    ):
        lines += ["", heading]
        lines += [help_line(name, field=field) for name, field in group]
    return "\n".join(lines) + "\n"
