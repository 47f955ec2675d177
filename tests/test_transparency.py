"""Transparency: the color behind it, alpha that is kept, and alpha that is a writer's mistake."""

import io
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from nst_tf.config import Config
from nst_tf.errors import InputError
from nst_tf.image.resize import resize
from nst_tf.io import decoding, images
from nst_tf.jobs import output
from nst_tf.jobs.inputs import read_inputs
from tests.test_depth import tiff16
from tests.test_images import HEIGHT, SETTINGS, WIDTH, decode, refusal, saved

LARGE = (48, 64)


@pytest.fixture
def rgb(random) -> np.ndarray:
    return random.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def ramp(shape: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    return np.linspace(0, 255, shape[0] * shape[1]).reshape(shape).astype(np.uint8)


# The color behind it


@pytest.mark.parametrize(
    ("background", "stored", "color"),
    [
        ("white", "white", (255, 255, 255)),
        ("black", "black", (0, 0, 0)),
        ("#ff8000", "#ff8000", (255, 128, 0)),
        ("FF8000", "#ff8000", (255, 128, 0)),
        ("#fff", "white", (255, 255, 255)),
        ("255, 128, 0", "#ff8000", (255, 128, 0)),
        ([0, 0, 0], "black", (0, 0, 0)),
        ((1, 2, 3), "#010203", (1, 2, 3)),
        ("teal", "#008080", (0, 128, 128)),
        ("keep", "keep", (255, 255, 255)),
    ],
)
def test_IMG_52_colors_in_many_notations(background, stored, color):
    config = Config(background=background)
    assert config.background == stored and config.background_color == color
    assert Config(background=stored) == config


@pytest.mark.parametrize(
    "background",
    ["", "whit", "#12345", "300,0,0", [1, 2], [1, 2, 3, 4], [0.5, 0, 0], None, 7],
)
def test_IMG_52_what_is_no_color_is_refused(background):
    refusal(lambda: Config(background=background), "background cannot be", "white, black, a color")


def transparent_files(folder: Path, rgb: np.ndarray) -> Config:
    shape = rgb.shape[:2]
    image = Image.fromarray(np.dstack([rgb, ramp(shape)]))
    for name in ("content", "style", "initial"):
        (folder / f"{name}.png").write_bytes(saved(image, "PNG"))
    return Config(
        content_image=folder / "content.png",
        style_image=folder / "style.png",
        init=folder / "initial.png",
        output_image=folder / "out.png",
        image_size=max(shape),
    )


@pytest.fixture
def large(random) -> np.ndarray:
    return random.integers(0, 256, (*LARGE, 3), np.uint8)


@pytest.mark.parametrize(
    ("background", "name"), [("black", "black"), ([9, 200, 77], "#09c84d"), ("white", "white")]
)
def test_IMG_52_all_images_are_put_on_the_color(tmp_path, large, background, name, caplog):
    config = transparent_files(tmp_path, large).replace(background=background)
    inputs = read_inputs(config)
    alpha = ramp(LARGE)[..., np.newaxis] / 255
    expected = large * alpha + np.array(config.background_color) * (1 - alpha)
    assert inputs.initial is not None
    for array in (inputs.content, inputs.styles[0], inputs.initial):
        assert np.abs(array - expected).max() < 1e-3
    assert inputs.alpha is None
    assert [message.rpartition(": ")[2] for message in caplog.messages] == [
        f"transparent, put on {name}"
    ] * 3


def test_IMG_52_the_color_is_converted_where_the_profile_is_kept(tmp_path):
    from tests.test_images import display_p3

    image = Image.new("RGBA", (WIDTH, HEIGHT), (10, 20, 30, 0))
    image.putpixel((0, 0), (10, 20, 30, 255))
    data = saved(image, "PNG", icc_profile=display_p3())
    array = decoding.decode(data, 10**6, profile=display_p3(), background=(255, 0, 0))
    assert array[0, 0].tolist() == [10, 20, 30]
    assert np.abs(array[5, 5] - [234, 51, 35]).max() <= 2  # sRGB's red in Display P3


# Alpha that is kept


@pytest.mark.parametrize(
    ("suffix", "depth"),
    [(".png", 8), (".png", 16), (".tif", 8), (".tif", 16), (".webp", 8), (".avif", 8)],
)
def test_IMG_52_keep_writes_the_alpha_of_the_content(tmp_path, large, suffix, depth, caplog):
    config = transparent_files(tmp_path, large).replace(
        background="keep", bit_depth=depth, output_image=tmp_path / f"o{suffix}", init="content"
    )
    inputs = read_inputs(config)
    assert inputs.alpha is not None
    assert np.array_equal(inputs.alpha, ramp(LARGE) / np.float32(255))
    seen = ramp(LARGE) > 0
    assert np.array_equal(inputs.content[seen], large[seen])
    assert (inputs.content[~seen] == 255).all()
    assert [message for message in caplog.messages if "content.png" in message] == []

    pixels = large if depth == 8 else large.astype(np.uint16) * 257 + 5
    data = output.encode(pixels, suffix, config, None, config.quality, inputs.alpha)
    config.output_image.write_bytes(data)
    found = images.read_layers(config.output_image)
    assert found.alpha is not None
    assert np.abs(found.alpha * 255 - ramp(LARGE)).max() <= (2 if suffix == ".avif" else 1e-3)
    if suffix != ".avif":
        assert np.array_equal(found.rgb, pixels / np.float32(257 if depth == 16 else 1))
        back = output.read_back(config.output_image, large.shape, config, None)
        assert np.array_equal(back, found.rgb)
    assert images.settings_of(config.output_image) is not None


def test_IMG_52_kept_alpha_has_the_size_of_the_result(tmp_path, large):
    config = transparent_files(tmp_path, large)
    inputs = read_inputs(config.replace(background="keep", image_size=40, init="content"))
    assert inputs.alpha is not None and inputs.alpha.shape == inputs.shape == (30, 40)
    plane = np.repeat(ramp(LARGE)[..., np.newaxis], 3, axis=2).astype(np.float32)
    assert np.abs(inputs.alpha * 255 - resize(plane, (30, 40))[..., 0]).max() < 1e-3
    assert "the alpha of content_image" in inputs.by_name()


def test_IMG_52_keep_of_an_opaque_content_is_an_opaque_result(tmp_path, large):
    config = transparent_files(tmp_path, large).replace(background="keep")
    (tmp_path / "content.png").write_bytes(saved(Image.fromarray(large), "PNG"))
    inputs = read_inputs(config.replace(output_image=tmp_path / "o.jpg"))
    assert inputs.alpha is None
    assert "the alpha of content_image" not in inputs.by_name()


def test_IMG_52_jpeg_is_refused_for_a_transparent_result(tmp_path, large):
    config = transparent_files(tmp_path, large)
    config = config.replace(background="keep", output_image=tmp_path / "o.jpg", init="content")
    refusal(
        lambda: read_inputs(config),
        "cannot write the image",
        "background is keep, and JPEG holds no transparency; choose .png, .webp, .avif or .tiff",
    )


@pytest.mark.parametrize("depth", [8, 16])
def test_IMG_52_a_tiff_with_alpha_is_one_for_other_readers(random, depth):
    type_ = np.uint8 if depth == 8 else np.uint16
    pixels = random.integers(0, 2**depth, (HEIGHT, WIDTH, 4)).astype(type_)
    data = images.encode(pixels, ".tif", SETTINGS)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        assert np.array_equal(page.asarray(), pixels)
        assert [sample.name for sample in page.extrasamples] == ["UNASSALPHA"]
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == "RGBA"
        assert np.array_equal(np.asarray(image), pixels >> (depth - 8))


# Alpha that is a mistake


def bmp32(rgb: np.ndarray) -> bytes:
    """A BMP of version 4 with a mask for alpha, which is 0 everywhere."""
    rows = np.dstack([rgb[::-1, :, ::-1], np.zeros(rgb.shape[:2], np.uint8)]).tobytes()
    header = struct.pack("<IiiHHIIiiII", 108, WIDTH, HEIGHT, 1, 32, 3, len(rows), 0, 0, 0, 0)
    header += struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
    return struct.pack("<2sIHHI", b"BM", 14 + len(header) + len(rows), 0, 0, 122) + header + rows


EMPTY = np.zeros((HEIGHT, WIDTH), np.uint8)
MISTAKES = {
    "BMP": bmp32,
    "PNG": lambda rgb: saved(Image.fromarray(np.dstack([rgb, EMPTY])), "PNG"),
    "TIFF": lambda rgb: saved(Image.fromarray(np.dstack([rgb, EMPTY])), "TIFF"),
    "WebP": lambda rgb: saved(
        Image.fromarray(np.dstack([rgb, EMPTY])), "WEBP", lossless=True, exact=True
    ),
    "16 bits": lambda rgb: tiff16(
        np.dstack([rgb, EMPTY]).astype(np.uint16) * 257, extrasamples=["unassalpha"]
    ),
    "16 bits, premultiplied": lambda rgb: tiff16(
        np.dstack([rgb, EMPTY]).astype(np.uint16) * 257, extrasamples=["assocalpha"]
    ),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_IMG_53_alpha_of_0_everywhere_counts_as_opaque(rgb, kind, caplog):
    assert np.array_equal(decode(MISTAKES[kind](rgb)), rgb)
    assert caplog.messages == ["image.png: its alpha is 0 everywhere, taken as opaque"]


def test_IMG_53_one_pixel_that_is_seen_makes_alpha_count(rgb, caplog):
    alpha = EMPTY.copy()
    alpha[3, 4] = 255
    array = decode(saved(Image.fromarray(np.dstack([rgb, alpha])), "PNG"))
    assert array.sum() == 255 * 3 * (HEIGHT * WIDTH - 1) + rgb[3, 4].sum()
    assert caplog.messages == ["image.png: transparent, put on white"]


# HEIC


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)


def test_IMG_56_heic_without_its_package_names_the_package(monkeypatch):
    monkeypatch.setattr(decoding, "_reads_heic", lambda: False)
    refusal(
        lambda: decode(HEIC),
        "format HEIC needs the package pillow-heif, which is not installed; "
        "install it (pip install pillow-heif), or convert to PNG or JPEG",
    )


def test_IMG_56_heic_is_read_where_its_package_is_installed(rgb, tmp_path):
    """A stand-in for the package, in a process of its own, as plugins of Pillow are for good."""
    (tmp_path / "pillow_heif.py").write_text(
        "from PIL import Image, ImageFile\n"
        "class Heif(ImageFile.StubImageFile):\n"
        "    format = 'HEIF'\n"
        "    def _open(self):\n"
        "        self._size, self._mode = (3, 2), 'RGB'\n"
        "    def load(self):\n"
        "        self.im = Image.new('RGB', (3, 2), (10, 20, 30)).im\n"
        "        return Image.Image.load(self)\n"
        "def register_heif_opener():\n"
        "    Image.register_open('HEIF', Heif, lambda head: head[4:12] == b'ftypheic')\n"
    )
    (tmp_path / "a.heic").write_bytes(HEIC)
    script = "import sys; from nst_tf.io import images; print(images.read(sys.argv[1])[1, 2])"
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "a.heic")],
        cwd=Path(images.__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "[10. 20. 30.]\n" and done.stderr == ""


def test_IMG_56_heic_of_a_phone_is_read():
    pillow_heif = pytest.importorskip("pillow_heif")
    image = Image.new("RGB", (64, 48), (200, 100, 50))
    file = io.BytesIO()
    pillow_heif.from_pillow(image).save(file)
    assert np.abs(decode(file.getvalue()) - [200, 100, 50]).max() <= 4
    with pytest.raises(InputError, match="cut short or damaged"):
        decode(file.getvalue()[:300])
