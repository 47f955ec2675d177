"""Arrays, tensors, images of Pillow and paths as images and masks: taken where the meaning is
certain, and refused in one line elsewhere.
"""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nst_tf.config import Config
from nst_tf.engine.inputs import prepare
from nst_tf.engine.pyramid import Level
from nst_tf.errors import InputError
from nst_tf.io import images

HEIGHT, WIDTH = 20, 30


@pytest.fixture
def rgb(random):
    return random.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture
def gray(rgb):
    return rgb[:, :, 0]


class Tensor:
    """As tensors of TensorFlow and PyTorch: an array with a shape, but none of NumPy's."""

    def __init__(self, array):
        self._array = np.asarray(array)
        self.shape = self._array.shape
        self.dtype = f"tensor.{self._array.dtype}"

    def __array__(self, dtype=None, copy=None):
        return self._array.astype(dtype or self._array.dtype)

    def __iter__(self):
        return map(Tensor, self._array)

    def __len__(self):
        return len(self._array)


def refusal(call):
    with pytest.raises(InputError) as caught:
        call()
    text = str(caught.value)
    assert text.isascii() and text.isprintable()
    return text


def full_size(content_shape, style_shapes):
    return Level(content_shape, tuple(style_shapes), 0)


def styles_of(style):
    content = np.zeros((HEIGHT, WIDTH, 3))
    return prepare(content, style, Config(), full_size).styles


def regions_of(masks, style_masks=()):
    image = np.full((HEIGHT, WIDTH, 3), 100.0)
    return prepare(
        image, image, Config(), full_size, content_masks=masks, style_masks=style_masks
    ).regions


def test_ARR_03_gray_and_batches_of_one_are_images(rgb, gray):
    for array in (gray, gray[:, :, np.newaxis], gray[np.newaxis, :, :, np.newaxis], gray.tolist(),
                  Tensor(gray)):  # fmt: skip
        expected = np.repeat(gray[:, :, np.newaxis].astype(np.float32), 3, axis=2)
        assert np.array_equal(images.as_image(array, "content"), expected)
    for array in (rgb[np.newaxis], Tensor(rgb[np.newaxis]), rgb.tolist(), [rgb.tolist()]):
        assert np.array_equal(images.as_image(array, "content"), rgb)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "the content is not an image: it is None; give a path, an image of Pillow, or an"),
        (b"\x89PNG", "it is of type bytes; give PIL.Image.open(io.BytesIO(data))"),
        (bytearray(b"\xff\xd8"), "it is of type bytearray; give PIL.Image.open("),
        (io.BytesIO(b"\xff\xd8"), "it is of type BytesIO; give PIL.Image.open(file)"),
        ({"image": 1}, "it is of type dict; give a path"),
        (object(), "it is of type object"),
        (3, "it has shape []; give RGB of shape [H, W, 3]"),
        ("no such.png", "no such file"),
        ("", "the image"),
        (np.zeros((2, 4, 5, 3)), "give one image of the batch, [H, W, 3]; several styles are"),
        (np.zeros((4, 5, 4)), "remove the alpha channel: give image[:, :, :3]"),
        (np.zeros((1, 4, 5, 4)), "image[:, :, :3], or PIL.Image.fromarray(image) to have it "
         "applied, where image is the first of the batch"),
        (np.zeros((3, 4, 5)), "move the channels last: give numpy.moveaxis(image, 0, -1)"),
        (np.zeros((1, 3, 40, 50)), "move the channels last"),
        (np.zeros((90, 3)), "it has shape [90, 3]; give RGB"),
        (np.zeros(90), "it has shape [90]"),
        (np.ones((4, 5, 3), bool), "its type is bool; give image * 255 where true is white"),
        (np.ones((4, 5, 3), object), "its type is object; give image.astype('float32')"),
        (np.ones((4, 5, 3), complex), "its type is complex128; give its real part"),
        (np.full((4, 5, 3), 0.5), "look like the range [0, 1]; multiply by 255"),
        (np.linspace(-1, 1, 60).reshape(4, 5, 3), "give (image + 1) * 127.5"),
        (np.full((4, 5, 3), 65535, np.uint16), "give image / 257 if it has 16 bits"),
        (np.linspace(-0.01, 255.01, 60).reshape(4, 5, 3), "give numpy.clip(image, 0, 255)"),
        (np.linspace(-120, 150, 60).reshape(4, 5, 3), "after adding a mean that was subtracted"),
        (np.full((4, 5, 3), -3, np.int64), "values from -3 to -3; give RGB"),
    ],
)  # fmt: skip
def test_ARR_04_what_is_no_image_is_refused_with_the_remedy(value, text):
    message = refusal(lambda: images.as_image(value, "content"))
    assert text in message


def test_ARR_05_styles_are_one_image_or_several_of_any_kind(rgb, tmp_path):
    picture = Image.fromarray(rgb)
    path = tmp_path / "s.png"
    picture.save(path)
    for one in (rgb, Tensor(rgb), rgb.tolist(), picture, path, str(path), rgb[np.newaxis],
                np.array(str(path))):  # fmt: skip
        (found,) = styles_of(one)
        assert np.array_equal(found, rgb)
    several = [rgb, Tensor(rgb), picture, path]
    objects = np.empty(4, object)
    objects[:] = several
    for group in (several, tuple(several), iter(several), (each for each in several), objects,
                  dict(enumerate(several)).values()):  # fmt: skip
        found = styles_of(group)
        assert len(found) == 4 and all(np.array_equal(each, rgb) for each in found)
    assert len(styles_of(np.array([str(path)] * 2))) == 2
    assert len(styles_of(tmp_path.glob("*.png"))) == 1
    assert len(styles_of([rgb.tolist(), rgb])) == 2


@pytest.mark.parametrize(
    ("style", "text"),
    [
        (None, "the style is not an image: it is None"),
        ([None], "the style is not an image: it is None"),
        ([], "there is no style image"),
        (iter(()), "there is no style image"),
        ({"a": 1}, "the style is not an image: it is of type dict; give one image, or a list"),
        ({"a.jpg"}, "it is of type set"),
        (np.zeros((3, 20, 30, 3)), "several styles are a list of them"),
        (Tensor(np.zeros((3, 20, 30, 3))), "several styles are a list of them"),
        ([np.zeros((20, 30, 3)), None], "the style 2 is not an image: it is None"),
        ([np.zeros((20, 30, 3)), b"x"], "the style 2 is not an image: it is of type bytes"),
        (list(np.zeros((20, 30, 3))), "the style 1 array is not an image: it has shape [30, 3]"),
        (np.full((20, 30, 3), 0.25), "look like the range [0, 1]"),
        ((np.zeros((20, 30, 3)) for _ in range(65)), "it has more than 64 items"),
        ("none.png", "no such file"),
    ],
)
def test_ARR_06_what_is_no_style_is_refused_in_one_line(style, text):
    assert text in refusal(lambda: styles_of(style))


LEFT = np.zeros((HEIGHT, WIDTH), bool)
LEFT[:, : WIDTH // 2] = True


def mask_values():
    eight = LEFT.astype(np.uint8) * 255
    return {
        "bool": LEFT,
        "float": LEFT.astype(float),
        "0 and 1": LEFT.astype(np.uint8),
        "0 and 255": eight,
        "float 0 and 255": eight.astype(np.float32),
        "one channel": LEFT[:, :, np.newaxis],
        "three channels": np.repeat(eight[:, :, np.newaxis], 3, axis=2),
        "batch": LEFT[np.newaxis, :, :, np.newaxis],
        "tensor": Tensor(LEFT),
        "lists": LEFT.tolist(),
        "Pillow": Image.fromarray(eight),
        "Pillow, black and white": Image.fromarray(eight).convert("1"),
    }


@pytest.mark.parametrize("kind", mask_values())
@pytest.mark.parametrize("several", [False, True])
def test_ARR_07_masks_of_any_kind(kind, several):
    mask = mask_values()[kind]
    (region,) = regions_of([mask] if several else mask)
    assert np.array_equal(region.content_mask, LEFT.astype(np.float32))
    (region,) = regions_of(LEFT, style_masks=[mask] if several else mask)
    assert np.array_equal(region.style_mask, LEFT.astype(np.float32))


def test_ARR_07_paths_and_stacks_of_masks(tmp_path):
    path = tmp_path / "m.png"
    Image.fromarray(LEFT.astype(np.uint8) * 255).save(path)
    stack = np.stack([LEFT, ~LEFT])
    for masks in ([path, ~LEFT], stack, stack[..., np.newaxis], iter([str(path), ~LEFT])):
        one, other = regions_of(masks)
        assert np.array_equal(one.content_mask, LEFT.astype(np.float32))
        assert np.array_equal(other.content_mask, (~LEFT).astype(np.float32))
    assert regions_of(None) == regions_of(()) == ()
    (soft,) = regions_of(np.linspace(0, 255, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH))
    assert soft.content_mask.min() == 0 and soft.content_mask.max() == 1


@pytest.mark.parametrize(
    ("mask", "text"),
    [
        (np.arange(600).reshape(20, 30) % 4, "its values, from 0 to 3, are neither in [0, 1] nor"),
        (LEFT * 1.5, "its values, from 0 to 1.5"),
        (LEFT - 0.5, "its values, from -0.5 to 0.5"),
        (np.full((20, 30), np.nan), "from nan to nan"),
        (LEFT.astype(np.uint16) * 65535, "from 0 to 65535"),
        (LEFT.astype(object), "its type is object; give [H, W] in [0, 1]"),
        (np.zeros((20, 30, 4)), "it has shape [20, 30, 4]"),
        (np.dstack([LEFT, ~LEFT, LEFT]), "it has shape [20, 30, 3]"),
        (np.zeros(20), "it has shape [20]"),
        (np.zeros((20, 30)), "is empty"),
        ([None], "it is None"),
        ("none.png", "no such file"),
        (b"mask", "it is of type bytes"),
        ({1: LEFT}, "the content mask is not an image: it is of type dict"),
    ],
)
def test_ARR_08_what_is_no_mask_is_refused_with_its_values(mask, text):
    message = refusal(lambda: regions_of(mask))
    assert text in message
    assert "content mask" in message or "no such file" in message


@pytest.mark.parametrize("kind", ["path", "Pillow"])
def test_the_limits_and_the_color_under_transparency_are_those_of_the_settings(rgb, tmp_path, kind):
    picture = Image.fromarray(np.dstack([rgb, LEFT.astype(np.uint8) * 255]))
    path = tmp_path / "a.png"
    picture.save(path)
    given = path if kind == "path" else picture

    def prepared(image=rgb, style=rgb, **changes):
        options = {name: changes.pop(name) for name in ("initial", "content_masks")
                   if name in changes}  # fmt: skip
        return prepare(image, style, Config(**changes), full_size, **options)

    expected = np.where(LEFT[:, :, np.newaxis], rgb, [0, 128, 0]).astype(np.float32)
    found = prepared(given, given, initial=given, background=(0, 128, 0))
    for image in (found.content, *found.styles, found.initial):
        assert np.array_equal(image, expected)
    for arguments in ({"image": given}, {"style": given}, {"initial": given},
                      {"content_masks": given}):  # fmt: skip
        message = refusal(lambda arguments=arguments: prepared(**arguments, max_pixels=599))
        assert "it has more than 599 pixels; scale it down or raise max_pixels" in message
        prepared(**arguments, max_pixels=600)


def test_alpha_is_kept_in_files_only(rgb):
    opaque, picture = Image.fromarray(rgb), Image.fromarray(np.dstack([rgb, LEFT * np.uint8(255)]))
    config = Config(background="keep")
    message = refusal(lambda: prepare(picture, rgb, config, full_size))
    assert "the transparency of the content cannot be kept (the content image)" in message
    white = np.where(LEFT[:, :, np.newaxis], rgb, 255)
    assert np.array_equal(prepare(opaque, picture, config, full_size).styles, [white])


@pytest.mark.parametrize("masks", [(), (LEFT, ~LEFT)])
def test_a_layer_cannot_have_a_style_that_is_not_given(rgb, masks):
    def prepared(number):
        settings = Config(layer_styles={"block1_conv1": number})
        return prepare(rgb, [rgb, rgb], settings, full_size, content_masks=masks)

    assert len(prepared(2).styles) == 2
    message = refusal(lambda: prepared(3))
    assert "layer_styles cannot name style 3: there are 2 style images" in message


def test_ARR_09_settings_that_are_no_config_are_refused():
    from nst_tf.engine.stylizer import Stylizer

    for config, kind in (({"seed": 3}, "dict"), ("x.yaml", "str"), (Path("x.yaml"), "Path")):
        message = refusal(lambda config=config: Stylizer(config))
        assert f"config is not a Config: it is of type {kind}" in message.replace("Posix", "")
        assert "nst_tf.load_config(path)" in message
