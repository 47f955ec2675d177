"""How much stylized videos flicker, with frames made one by one and with each from the one before.

Flicker is the mean absolute difference of a result to the one before, moved along the flow, on the
pixels that both frames show, in gray levels of 255. Flow and occlusions are known, since the clips
are computed from photographs: a window that pans and zooms, and a foreground that moves over a
background that moves the other way. No video is among the packages in use whose license is
certain. `--weights` and `--iterations` are tried for the frames that follow another one.
"""

import argparse
import itertools
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from nst_tf.config import Config
from nst_tf.image.arrays import ImageArray, from_integers, quantize
from nst_tf.image.flow import Flow, Trust, warp_image
from nst_tf.image.resize import resize
from nst_tf.io import ffmpeg, files, images
from nst_tf.video import transfer
from nst_tf.video.frames import FrameFolder
from nst_tf.video.settings import VideoSettings

_IMAGES = Path(__file__).parents[1] / "images"
_RESULTS = Path(__file__).parent / "results"
_RATE = Fraction(12)


class Clip(NamedTuple):
    """A video whose motion is known.

    Attributes:
        frames: RGB [H, W, 3] in [0, 255].
        flows: Of each frame after the first, the flow to the one before.
        trust: Of each of those, 1 where its pixels are in the one before, too.
    """

    frames: list[ImageArray]
    flows: list[Flow]
    trust: list[Trust]


def panned(count: int, shape: tuple[int, int]) -> Clip:
    """Pans and zooms over a photograph."""
    photo = images.read(_IMAGES / "summer-palace.jpg")
    height, width = shape
    scale = 1.25 * max(height / photo.shape[0], width / photo.shape[1])
    photo = resize(photo, (round(photo.shape[0] * scale), round(photo.shape[1] * scale)))
    y, x = np.indices(shape, np.float32)
    # Frame t shows the photograph at zoom_t * (position - center) + center_t.
    zooms = [1.0 - 0.006 * t for t in range(count)]
    centers = [
        (photo.shape[1] / 2 - 6 + 1.6 * t, photo.shape[0] / 2 + 0.7 * t) for t in range(count)
    ]
    positions = [
        np.stack([zoom * (x - width / 2) + cx, zoom * (y - height / 2) + cy], axis=2)
        for zoom, (cx, cy) in zip(zooms, centers, strict=True)
    ]
    frames = [_sampled(photo, at) for at in positions]
    flows, trust = [], []
    for t in range(1, count):
        (cx, cy) = centers[t - 1]
        before = (positions[t] - [cx, cy]) / zooms[t - 1] + [width / 2, height / 2]
        flow = (before - np.stack([x, y], axis=2)).astype(np.float32)
        flows.append(flow)
        trust.append(_inside(before, shape))
    return Clip(frames, flows, trust)


def occluded(count: int, shape: tuple[int, int]) -> Clip:
    """Moves an ellipse of one photograph over another one that moves the other way."""
    height, width = shape
    large = (round(height * 1.3), round(width * 1.3))
    back = resize(images.read(_IMAGES / "village-street.jpg"), large)
    front = resize(images.read(_IMAGES / "astronaut.jpg"), large)
    y, x = np.indices(shape, np.float32)

    def mask(t: int) -> np.ndarray:
        cx, cy = width * 0.35 + 2.0 * t, height * 0.5
        return ((x - cx) / (width * 0.2)) ** 2 + ((y - cy) / (height * 0.35)) ** 2 < 1.0

    frames, flows, trust = [], [], []
    for t in range(count):
        of_front = np.stack([x + 20 - 2.0 * t, y + 8], axis=2)
        of_back = np.stack([x + 4 + 1.0 * t, y + 8], axis=2)
        shown = np.where(mask(t)[:, :, None], _sampled(front, of_front), _sampled(back, of_back))
        frames.append(shown.astype(np.float32))
        if t == 0:
            continue
        flow = np.where(mask(t)[:, :, None], [-2.0, 0.0], [1.0, 0.0]).astype(np.float32)
        before = np.stack([x, y], axis=2) + flow
        columns = np.clip(np.rint(before[:, :, 0]), 0, width - 1).astype(int)
        same = mask(t - 1)[np.arange(height)[:, None], columns] == mask(t)
        flows.append(flow)
        trust.append(_inside(before, shape) * same.astype(np.float32))
    return Clip(frames, flows, trust)


def _sampled(photo: ImageArray, positions: np.ndarray) -> ImageArray:
    """Samples a photograph at positions [H, W, 2]."""
    height, width = positions.shape[:2]
    grid = np.stack(np.indices((height, width), np.float32)[::-1], axis=2)
    return warp_image(photo, (positions - grid).astype(np.float32))


def _inside(positions: np.ndarray, shape: tuple[int, int]) -> Trust:
    x, y = positions[:, :, 0], positions[:, :, 1]
    return ((x >= 0) & (y >= 0) & (x <= shape[1] - 1) & (y <= shape[0] - 1)).astype(np.float32)


CLIPS: dict[str, Callable[[int, tuple[int, int]], Clip]] = {"pan": panned, "occlusion": occluded}


def flicker(results: Sequence[ImageArray], clip: Clip) -> float:
    """Returns the mean flicker of results along the motion that is known."""
    return float(
        np.mean(
            [
                transfer.flicker(image, warp_image(before, flow), trust)
                for before, image, flow, trust in zip(
                    results, results[1:], clip.flows, clip.trust, strict=False
                )
            ]
        )
    )


def one_by_one(clip: Clip, config: Config) -> tuple[list[ImageArray], list[float]]:
    """Stylizes each frame by itself; returns the results and the seconds of each."""
    from nst_tf.engine.stylizer import Stylizer

    stylizer = Stylizer(config)
    results, seconds = [], []
    for frame in clip.frames:
        began = time.monotonic()
        found = stylizer(from_integers(quantize(frame)), list(config.style_image))
        results.append(from_integers(quantize(found.image)))
        seconds.append(time.monotonic() - began)
    return results, seconds


def as_video(
    clip: Clip, config: Config, weight: float, iterations: int
) -> tuple[list[ImageArray], list[float]]:
    """Stylizes the clip as a video; returns the results and the seconds of each."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        frames = (quantize(frame).astype(np.uint8) for frame in clip.frames)
        ffmpeg.encode(folder / "clip.mp4", frames, _RATE)
        settings = VideoSettings(
            content_video=folder / "clip.mp4",
            output_video=folder / "out.mp4",
            temporal_weight=weight,
            frame_iterations=iterations,
        )
        seconds: list[float] = []

        def note(event: transfer.VideoEvent) -> None:
            if isinstance(event, transfer.FrameDone):
                seconds.append(event.seconds)

        done = transfer.run(config, settings, callbacks=[note])
        results = FrameFolder(folder / "out.mp4.run").read_all(done.frames)
        return [from_integers(each) for each in results], seconds


def painted(results: Sequence[ImageArray], clip: Clip, config: Config) -> float:
    """Returns the mean loss of results without their temporal loss, in float32."""
    from nst_tf.engine.stylizer import Stylizer

    stylizer = Stylizer(config)
    styles = list(config.style_image)
    return float(
        np.mean(
            [
                stylizer.losses(image, from_integers(quantize(frame)), styles).total
                for image, frame in zip(results, clip.frames, strict=True)
            ]
        )
    )


def main() -> None:
    """Measures and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--style", default="starry-night")
    parser.add_argument(
        "--weights", type=float, nargs="+", default=[VideoSettings().temporal_weight]
    )
    parser.add_argument(
        "--iterations", type=int, nargs="+", default=[VideoSettings().frame_iterations]
    )
    parser.add_argument("--clips", nargs="+", choices=CLIPS, default=list(CLIPS))
    parser.add_argument("--output", type=Path, default=_RESULTS / "flicker.json")
    arguments = parser.parse_args()
    shape = (arguments.size * 2 // 3 // 2 * 2, arguments.size)
    config = Config(
        style_image=_IMAGES / f"{arguments.style}.jpg", image_size=arguments.size, score=False
    )
    figures = []

    def record(clip_name: str, how: str, results: list[ImageArray], seconds: list[float]) -> None:
        figures.append(
            {
                "clip": clip_name,
                "frames": how,
                "flicker": round(flicker(results, clip), 3),
                "loss": round(painted(results, clip, config), 4),
                "seconds": round(float(np.median(seconds[1:])), 2),
            }
        )
        print(figures[-1], flush=True)

    for name in arguments.clips:
        clip = CLIPS[name](arguments.frames, shape)
        record(name, "one by one", *one_by_one(clip, config))
        for weight, iterations in itertools.product(arguments.weights, arguments.iterations):
            how = f"temporal_weight {weight:g}, {iterations} iterations"
            record(name, how, *as_video(clip, config, weight, iterations))
    text = json.dumps({"size": arguments.size, "figures": figures}, indent=1) + "\n"
    files.atomic_write(arguments.output, text.encode())


if __name__ == "__main__":
    main()
