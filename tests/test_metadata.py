"""Metadata of results: where the settings are, where they are not, and how they are read again."""

import io
import json

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, PngImagePlugin

from nst_tf.cli import flags
from nst_tf.config import Config
from nst_tf.io import images
from nst_tf.jobs import output
from nst_tf.jobs.inputs import read_inputs
from tests.test_depth import EVERY
from tests.test_images import HEIGHT, SETTINGS, WIDTH, refusal, saved

CAPTIONS = (0x010E, 0x9C9B, 0x9C9C, 0x9C9F)
"""ImageDescription, and XPTitle, XPComment and XPSubject of Windows."""


@pytest.fixture
def pixels(random) -> np.ndarray:
    return random.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize(("suffix", "depth"), EVERY)
def test_IMG_57_no_caption_holds_the_settings(pixels, suffix, depth):
    image = opened(images.encode(pixels.astype(f"u{depth // 8}"), suffix, SETTINGS))
    exif = image.getexif()
    assert not set(CAPTIONS) & set(exif)
    assert not {"Title", "Description", "Comment"} & set(image.info)
    if suffix == ".png":
        assert not exif
        assert image.info["nst_tf"] == SETTINGS and image.info["Software"] == "nst_tf"
    else:
        comment = exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment]
        assert comment == b"ASCII\0\0\0" + SETTINGS.encode()
        assert exif[ExifTags.Base.Software] == "nst_tf"


@pytest.mark.parametrize(("suffix", "depth"), EVERY)
def test_IMG_57_without_settings_nothing_is_written(tmp_path, pixels, suffix, depth):
    data = images.encode(pixels.astype(f"u{depth // 8}"), suffix, "")
    assert b"nst_tf" not in data and b"ASCII" not in data
    exif = opened(data).getexif()
    assert ExifTags.Base.Software not in exif and not exif.get_ifd(ExifTags.IFD.Exif)
    (tmp_path / "a").write_bytes(data)
    assert images.settings_of(tmp_path / "a") is None


def test_IMG_57_the_setting_leaves_settings_out(pixels, tmp_path):
    config = Config(output_image=tmp_path / "o.png", content_image="secret-name.png")
    assert b"secret-name" in output.encode(pixels, ".png", config, None)
    bare = output.encode(pixels, ".png", config.replace(metadata="none"), None)
    assert b"secret-name" not in bare and b"nst_tf" not in bare
    refusal(lambda: Config(metadata="some"), "metadata cannot be 'some'")


def old_files(pixels: np.ndarray) -> dict[str, bytes]:
    """As version 0.1.0 wrote them: everything in Exif's ImageDescription."""
    exif = Image.Exif()
    exif[ExifTags.Base.Software], exif[ExifTags.Base.ImageDescription] = "nst_tf", SETTINGS
    found = {
        name: saved(Image.fromarray(pixels), name, exif=exif)
        for name in ("PNG", "JPEG", "WEBP", "TIFF", "AVIF")
    }
    found["deep TIFF"] = bytes(
        imagecodecs.tiff_encode(
            pixels.astype(np.uint16), photometric=2, description=SETTINGS, software="nst_tf"
        )
    )
    file = io.BytesIO(found["PNG"][:33])
    file.seek(33)
    PngImagePlugin.putchunk(file, b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    found["eXIf"] = file.getvalue() + found["PNG"][33:]
    return found


@pytest.mark.parametrize("kind", old_files(np.zeros((4, 5, 3), np.uint8)))
def test_IMG_57_settings_of_files_of_version_0_1_are_read(tmp_path, pixels, kind):
    (tmp_path / "a").write_bytes(old_files(pixels)[kind])
    assert images.settings_of(tmp_path / "a") == SETTINGS


def test_IMG_57_settings_that_another_program_copied_are_not_ours(tmp_path, pixels):
    info = PngImagePlugin.PngInfo()
    info.add_text("Software", "GIMP")
    info.add_text("nst_tf", SETTINGS)
    (tmp_path / "a.png").write_bytes(saved(Image.fromarray(pixels), "PNG", pnginfo=info))
    assert images.settings_of(tmp_path / "a.png") is None
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = b"ASCII\0\0\0" + SETTINGS.encode()
    (tmp_path / "a.jpg").write_bytes(saved(Image.fromarray(pixels), "JPEG", exif=exif))
    assert images.settings_of(tmp_path / "a.jpg") is None


@pytest.mark.parametrize("suffix", images.FORMATS)
def test_IMG_57_long_settings_fit(tmp_path, pixels, suffix):
    settings = json.dumps({"style_image": ["x" * 990] * 64})
    assert 63_000 < len(settings) < 65_000
    (tmp_path / "a").write_bytes(images.encode(pixels, suffix, settings))
    assert images.settings_of(tmp_path / "a") == settings


# TIFF


@pytest.mark.parametrize("type_", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (700, 1), (333, 1111)], ids=str)
def test_IMG_57_tiffs_are_whole_for_other_readers(random, type_, shape):
    pixels = random.integers(0, np.iinfo(type_).max, (*shape, 3), type_, endpoint=True)
    data = images.encode(pixels, ".tif", SETTINGS, profile=b"profile of odd length")
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        (page,) = file.pages
        assert np.array_equal(page.asarray(), pixels)
        assert page.compression.name == "ADOBE_DEFLATE" and page.photometric.name == "RGB"
        assert page.software == "nst_tf" and page.iccprofile == b"profile of odd length"
        assert page.tags["ExifTag"].value["UserComment"] == SETTINGS
    assert np.array_equal(imagecodecs.tiff_decode(data).reshape(pixels.shape), pixels)


def test_a_tiff_of_16_bits_depends_on_nothing_but_its_pixels(random):
    pixels = random.integers(0, 2**16, (HEIGHT, WIDTH, 3), np.uint16)
    data = {images.encode(pixels, ".tif", SETTINGS) for _ in range(3)}
    view = pixels[:, :, ::-1].astype(">u2")[:, :, ::-1]
    assert data == {images.encode(view, ".tif", SETTINGS)}


# Images that were moved


def test_IMG_58_inputs_that_are_gone_are_asked_for_by_their_flags(tmp_path, pixels):
    (tmp_path / "there.png").write_bytes(saved(Image.fromarray(pixels), "PNG"))
    config = Config(
        content_image=tmp_path / "gone.jpg",
        style_image=[tmp_path / "there.png", tmp_path / "lost.jpg"],
        init=tmp_path / "away.png",
    )
    text = refusal(
        lambda: read_inputs(config), "no such file; say where it is now with --content_image=FILE"
    )
    assert "gone.jpg" in text
    assert text.endswith("--content_image=FILE --style_image=FILE --init=FILE")
    named = config.replace(content_image=tmp_path / "there.png", init="content")
    text = refusal(lambda: read_inputs(named), "lost.jpg", "with --style_image=FILE")
    assert "content_image" not in text


def test_IMG_57_an_image_without_settings_is_made_again_from_its_run_folder(tmp_path, pixels):
    (tmp_path / "o.png").write_bytes(images.encode(pixels, ".png", ""))
    text = refusal(lambda: flags.parse([f"--rerun={tmp_path / 'o.png'}"]), "no settings to recall")
    assert text.endswith("name an image that nst_tf made")
    folder = output.run_folder(tmp_path / "o.png")
    folder.mkdir()
    (folder / "config.yaml").write_text("seed: 1\n")
    text = refusal(lambda: flags.parse([f"--rerun={tmp_path / 'o.png'}"]), "no settings to recall")
    assert text.endswith(f"give --config={folder / 'config.yaml'}")
