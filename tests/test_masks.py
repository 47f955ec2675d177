"""Mask files as image programs write them: which part of the file is the region."""

import io

import numpy as np
import pytest
import tifffile
from PIL import Image

from nst_tf.config import Config
from nst_tf.io import images
from nst_tf.jobs.inputs import read_inputs
from nst_tf.jobs.planning import plan
from tests.test_images import refusal, saved

HEIGHT, WIDTH = 40, 60


def half() -> np.ndarray:
    """The left half: 255 inside, 0 outside."""
    left = np.zeros((HEIGHT, WIDTH), np.uint8)
    left[:, : WIDTH // 2] = 255
    return left


def layers(*channels: int | np.ndarray) -> Image.Image:
    """An image of channels that are constant or arrays."""
    shape = (HEIGHT, WIDTH)
    return Image.fromarray(np.dstack([np.broadcast_to(each, shape) for each in channels])
                           .astype(np.uint8))  # fmt: skip


def photo(random) -> np.ndarray:
    return random.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def read(tmp_path, data: bytes | Image.Image) -> tuple[np.ndarray, str]:
    path = tmp_path / "mask.png"
    path.write_bytes(data if isinstance(data, bytes) else saved(data, "PNG"))
    return images.read_mask(path, "content mask 1")


ALPHA = {
    "white on transparent": lambda random: layers(255, 255, 255, half()),
    "black in alpha": lambda random: layers(0, 0, 0, half()),
    "red brush": lambda random: layers(200, 0, 0, half()),
    "a cut-out": lambda random: layers(*np.moveaxis(photo(random), 2, 0), half()),
    "gray with alpha": lambda random: layers(90, half()),
}


@pytest.mark.parametrize("kind", ALPHA)
@pytest.mark.parametrize("format_", ["PNG", "WEBP", "TIFF"])
def test_MSK_01_alpha_is_the_mask_where_it_varies(tmp_path, random, kind, format_, caplog):
    options = {"lossless": True} if format_ == "WEBP" else {}
    image = ALPHA[kind](random)
    mask, note = read(tmp_path, saved(image, format_, **options))
    assert np.array_equal(mask, half() / np.float32(255))
    assert note == "content mask 1 (mask.png): alpha, 50% of the image"
    assert caplog.messages == []


def test_MSK_01_a_palette_with_a_transparent_color_is_a_mask_in_alpha(tmp_path):
    image = Image.fromarray((half() > 0).astype(np.uint8))
    image.putpalette([0, 0, 0, 9, 9, 9])
    for format_ in ("PNG", "GIF"):
        mask, note = read(tmp_path, saved(image, format_, transparency=0))
        assert np.array_equal(mask, half() / np.float32(255))
        assert "alpha, 50%" in note


@pytest.mark.parametrize("alpha", [255, 128, 0, np.resize([250, 255], WIDTH)], ids=str)
def test_MSK_02_alpha_that_says_nothing_leaves_the_mask_to_luminance(tmp_path, alpha):
    mask, note = read(tmp_path, layers(half(), half(), half(), alpha))
    assert np.array_equal(mask, half() / np.float32(255))
    assert note == "content mask 1 (mask.png): luminance, 50% of the image"


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (half() // 255, "its values lie between 0 and 1; white is 255; multiply its values by 255"),
        (half() // 5, "its values lie between 0 and 51; white is 255; multiply its values by 5"),
        (half() * 0, "its values lie between 0 and 0; white is 255; paint the region white"),
        (np.full((HEIGHT, WIDTH), 7, np.uint8), "its values lie between 7 and 7"),
        (half().astype(np.uint16) // 255, "0 and 1; white is 65535; multiply its values by 6.554e"),
        (half().astype(np.uint16), "0 and 255; white is 65535; multiply its values by 257"),
        (layers(half() // 255, half() // 255, half() // 255, half()), None),
        (layers(255, 255, 255, half() // 255), "its alpha values lie between 0 and 1; white is"),
        (layers(half(), 0, 0), "between 0 and 85, as the mean of red, green and blue; white is"),
    ],
    ids=range(9),
)  # fmt: skip
def test_MSK_03_a_mask_that_is_nowhere_white_is_refused_with_its_values(tmp_path, mask, words):
    image = mask if isinstance(mask, Image.Image) else Image.fromarray(mask)
    if words is None:
        assert read(tmp_path, image)[0].max() == 1
    else:
        text = refusal(lambda: read(tmp_path, image), "content mask 1 is nowhere white", words)
        assert str(tmp_path / "mask.png") in text


def test_MSK_03_labels_in_a_palette_of_dark_colors_are_refused(tmp_path):
    labels = Image.fromarray((half() > 0).astype(np.uint8))
    labels.putpalette([0, 0, 0, 128, 0, 0])  # as PASCAL VOC has them
    refusal(lambda: read(tmp_path, labels), "between 0 and 42.67", "paint the region white")


def test_MSK_04_masks_of_palettes_bits_and_both_orders_of_colors(tmp_path):
    bits = half() > 0
    palette = Image.fromarray(bits.astype(np.uint8))
    palette.putpalette([0, 0, 0, 255, 255, 255])
    inverted = Image.fromarray((~bits).astype(np.uint8))
    inverted.putpalette([255, 255, 255, 0, 0, 0])
    for image in (palette, inverted, Image.fromarray(bits)):
        assert np.array_equal(read(tmp_path, image)[0], bits)


def test_MSK_04_colors_beside_white_are_told(tmp_path):
    mask, note = read(tmp_path, layers(255, half(), half()))  # white on red
    assert mask[0, 0] == 1 and abs(mask[0, -1] - 1 / 3) < 1e-6
    assert note == "content mask 1 (mask.png): luminance of its colors, 67% of the image"


def test_MSK_04_an_inverted_mask_stays_as_it_is(tmp_path):
    mask, note = read(tmp_path, Image.fromarray(255 - half()))
    assert np.array_equal(mask, 1 - half() / np.float32(255))
    assert note.endswith("luminance, 50% of the image")


def test_MSK_05_masks_of_16_bits_keep_their_steps(tmp_path):
    ramp = np.linspace(0, 65535, HEIGHT * WIDTH).astype(np.uint16).reshape(HEIGHT, WIDTH)
    assert np.allclose(read(tmp_path, Image.fromarray(ramp))[0], ramp / 65535, atol=1e-6)
    deep = np.dstack([np.full((HEIGHT, WIDTH, 3), 65535, np.uint16), ramp])
    file = io.BytesIO()
    tifffile.imwrite(file, deep, photometric="rgb", extrasamples=["unassalpha"])
    mask, note = read(tmp_path, file.getvalue())
    assert np.allclose(mask, ramp / 65535, atol=1e-6) and "alpha" in note


@pytest.fixture
def config(tmp_path, random) -> Config:
    for name in ("content", "style"):
        (tmp_path / f"{name}.png").write_bytes(saved(Image.fromarray(photo(random)), "PNG"))
    (tmp_path / "sky.png").write_bytes(saved(layers(255, 255, 255, half()), "PNG"))
    (tmp_path / "part.png").write_bytes(saved(Image.fromarray(half()), "PNG"))
    return Config(
        content_image=tmp_path / "content.png",
        style_image=tmp_path / "style.png",
        content_masks=tmp_path / "sky.png",
        style_masks=tmp_path / "part.png",
        output_image=tmp_path / "out.png",
        image_size=60,
        num_iterations=0,
    )


def test_MSK_06_a_run_tells_what_was_taken_as_the_region(config):
    inputs = read_inputs(config)
    assert inputs.notes == (
        "content mask 1 (sky.png): alpha, 50% of the image",
        "style mask 1 (part.png): luminance, 50% of the image",
    )
    assert np.array_equal(inputs.content_masks[0], half() / np.float32(255))


def test_MSK_06_a_small_region_has_its_share_in_decimals(tmp_path):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:2, :3] = 255
    assert read(tmp_path, Image.fromarray(mask))[1].endswith(" 0.25% of the image")


def test_MSK_06_the_plan_of_a_run_carries_the_lines(config):
    assert plan(config).notes == read_inputs(config).notes
