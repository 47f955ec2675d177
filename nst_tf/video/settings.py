"""The settings of a video beside those of its frames."""

from pathlib import Path
from typing import Any

from pydantic import ValidationInfo, model_validator

from nst_tf.config.fields import File, OptionalFile, Weight, Whole, setting
from nst_tf.config.schema import Section, joint_name
from nst_tf.errors import InputError

SUFFIX = ".mp4"
"""That of the result, which is H.264 in MP4."""

_NOT_OF_VIDEOS = (
    "content_image", "content_masks", "style_masks", "output_image", "bit_depth", "quality",
    "color_profile", "metadata", "print_size", "dpi", "print_iter", "save_iter", "max_snapshots",
    "timelapse", "timelapse_seconds", "tensorboard", "score", "checkpoint_seconds", "keep_state",
    "workers", "cluster", "config_version",
)  # fmt: skip
"""Settings of one image that have no meaning for the frames of a video."""


def applies_to_videos(name: str) -> bool:
    """Returns whether a setting of `nst_tf.Config` applies to the frames of a video.

    Args:
        name: Its name.
    """
    return name not in _NOT_OF_VIDEOS


def _output_name(given: dict[str, Any]) -> Path:
    content = given.get("content_video") or Path("video")
    return Path(f"{joint_name(content.stem, ['stylized'])}{SUFFIX}")


class VideoSettings(Section):
    """The video to read and the one to write, and how frames follow one another."""

    heading = "Video"

    content_video: OptionalFile = setting(None, "the video file to stylize", affects_result=False)
    output_video: File = setting(
        _output_name,
        "the video file to write, CONTENT_stylized.mp4 when left out",
        affects_result=False,
    )
    temporal_weight: Weight = setting(
        0.05,
        "the weight of the temporal loss, which holds pixels to those of the frame before, 0 or "
        "1e-12 to 1e12",
    )
    frame_iterations: Whole = setting(
        10,
        "the iterations of a frame that follows another one, 0 to 1000000",
        ge=0,
        le=1_000_000,
    )

    @model_validator(mode="after")
    def _is_mp4(self, info: ValidationInfo) -> "VideoSettings":
        suffix = self.output_video.suffix
        if suffix.lower() != SUFFIX:
            sources = info.context or {}
            raise InputError(
                f"output_video cannot be {self.output_video.name!r}",
                f"it ends in {suffix or 'no suffix'}, and {SUFFIX} is written",
                f"name it {self.output_video.with_suffix(SUFFIX).name}",
                where=sources["output_video"].place if "output_video" in sources else "",
            )
        return self
