"""Files for print: the size of a print, its resolution in every format, and large files.

Resolutions are read by `struct` and by tifffile, for which Exif is a TIFF, too.
"""

import io
import math
import struct

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nst_tf import jobs
from nst_tf.cli import flags
from nst_tf.config import Config, MultiscaleSettings, load_config
from nst_tf.config.fields import print_length
from nst_tf.config.files import portable, settings_affecting_result, to_yaml
from nst_tf.engine.stylizer import Stylizer
from nst_tf.errors import InputError, MachineError
from nst_tf.image.resize import fitted_side, resized_shape
from nst_tf.io import images, tiff
from nst_tf.jobs import estimate, output
from nst_tf.jobs.inputs import read_inputs
from nst_tf.main import main
from tests.command import CONTENT, STYLE
from tests.test_depth import DEEP, EVERY, chunks
from tests.test_images import HEIGHT, SETTINGS, SRGB, WIDTH, refusal, saved

INCH = 2  # of ResolutionUnit


@pytest.fixture
def pixels(random) -> np.ndarray:
    return random.integers(0, 2**16, (HEIGHT, WIDTH, 3), np.uint16)


def encoded(pixels, suffix, depth, **options):
    return images.encode((pixels >> 16 - depth).astype(f"u{depth // 8}"), suffix, **options)


def files_given(folder, **changes):
    return Config(
        content_image=CONTENT, style_image=[STYLE], output_image=folder / "o.png", **changes
    )


# The resolution in the file


def resolution_of_tags(data):
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        tags = file.pages[0].tags
        found = [tags[name].value for name in ("XResolution", "YResolution", "ResolutionUnit")]
    (x, per_x), (y, per_y), unit = found
    assert unit == INCH
    return x / per_x, y / per_y


def resolution_of_jfif(data):
    assert data[2:4] == b"\xff\xe0" and data[6:11] == b"JFIF\0"
    unit, x, y = struct.unpack_from(">BHH", data, 13)
    assert unit == 1  # per inch
    return x, y


def exif_of(data, suffix):
    """The Exif of a JPEG's APP1, of a WebP's chunk, or of an AVIF's item."""
    if suffix in (".jpg", ".jpeg"):
        (length,) = struct.unpack_from(">H", data, at := data.index(b"\xff\xe1") + 2)
        assert data[at + 2 : at + 8] == b"Exif\0\0"
        return data[at + 8 : at + length]
    if suffix == ".webp":
        at = 12
        while data[at : at + 4] != b"EXIF":
            length = int.from_bytes(data[at + 4 : at + 8], "little")
            at += 8 + length + length % 2
        return data[at + 8 : at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")]
    return data[min(data.find(start) % len(data) for start in (b"II*\0", b"MM\0*")) :]


@pytest.mark.parametrize("dpi", [1, 72, 200, 10_000])
@pytest.mark.parametrize(("suffix", "depth"), EVERY)
@pytest.mark.parametrize("settings", [SETTINGS, ""], ids=["settings", "no settings"])
def test_OUT_24_the_resolution_is_in_every_format(pixels, suffix, depth, dpi, settings):
    data = encoded(pixels, suffix, depth, settings=settings, dpi=dpi)
    if suffix == ".png":
        found = dict(chunks(data))
        assert list(found).index(b"pHYs") < list(found).index(b"IDAT")
        x, y, unit = struct.unpack(">IIB", found[b"pHYs"])
        assert unit == 1 and x == y  # per meter
        assert x * 0.0254 == pytest.approx(dpi, abs=0.0254 / 2)
    elif suffix.startswith(".tif"):
        assert resolution_of_tags(data) == (dpi, dpi)
    else:
        assert resolution_of_tags(exif_of(data, suffix)) == (dpi, dpi)
        if suffix != ".webp" and suffix != ".avif":
            assert resolution_of_jfif(data) == (dpi, dpi)


@pytest.mark.parametrize(("suffix", "depth"), EVERY)
def test_OUT_24_without_a_resolution_none_is_told(pixels, suffix, depth):
    data = encoded(pixels, suffix, depth, settings="")
    if suffix.startswith(".jp"):
        assert struct.unpack_from(">BHH", data, 13) == (0, 1, 1)  # of JFIF: no unit
    with Image.open(io.BytesIO(data)) as image:
        assert not {282, 283} & set(image.getexif())
    assert b"pHYs" not in data


@pytest.mark.parametrize(("suffix", "depth"), EVERY)
def test_OUT_24_the_resolution_changes_no_pixel_and_no_setting(pixels, tmp_path, suffix, depth):
    paths = [tmp_path / f"{dpi}{suffix}" for dpi in (0, 300)]
    for path in paths:
        data = encoded(pixels, suffix, depth, settings=SETTINGS, dpi=int(path.stem))
        path.write_bytes(data)
    plain, printed = (images.read(path) for path in paths)
    assert np.array_equal(plain, printed)
    assert [images.settings_of(path) for path in paths] == [SETTINGS] * 2


@pytest.mark.parametrize("metadata", ["settings", "none"])
def test_OUT_24_the_settings_decide_what_is_written(pixels, metadata):
    small = (pixels >> 8).astype(np.uint8)
    config = Config(metadata=metadata)

    def resolution(**changes):
        changed = config.replace(**changes)
        return resolution_of_jfif(output.encode(small, ".jpg", changed, None))

    assert resolution(dpi=240) == (240, 240)
    assert resolution(print_size="30cm") == (300, 300)
    assert resolution(print_size="30cm", dpi=150) == (150, 150)
    assert b"JFIF\0\1\1\0\0\1\0\1" in output.encode(small, ".jpg", config, None)  # no unit


# Large files


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("channels", [3, 4])
def test_OUT_23_a_tiff_with_offsets_of_more_than_32_bits_is_a_bigtiff(
    pixels, tmp_path, monkeypatch, depth, channels
):
    large = np.tile(pixels, (40, 9, 1)) >> 16 - depth  # of several strips
    large = np.dstack([large, large[..., 0]])[..., :channels].astype(f"u{depth // 8}")
    options = {"settings": SETTINGS, "profile": SRGB, "dpi": 300}
    classic = images.encode(large, ".tif", **options)
    monkeypatch.setattr(tiff, "LARGEST_CLASSIC", len(classic))
    data = images.encode(large, ".tif", **options)
    assert classic[:4] == b"II*\0" and data[:8] == b"II+\0\x08\0\0\0"
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        (page,) = file.pages
        assert file.is_bigtiff and len(page.dataoffsets) > 1
        assert np.array_equal(page.asarray(), large)
        assert page.tags["StripOffsets"].dtype == tifffile.DATATYPE.LONG8
        assert page.tags["ExifTag"].value["UserComment"] == SETTINGS
        assert page.software == "nst_tf" and page.iccprofile == SRGB
    assert resolution_of_tags(data) == (300, 300)
    paths = [tmp_path / "classic.tif", tmp_path / "big.tif"]
    for path, content in zip(paths, (classic, data), strict=True):
        path.write_bytes(content)
        assert images.settings_of(path) == SETTINGS
    one, other = (images.read_layers(path) for path in paths)
    assert np.array_equal(one.rgb, other.rgb)
    assert (one.alpha is None) == (other.alpha is None) == (channels == 3)


def test_OUT_23_other_tiffs_stay_classic(pixels, monkeypatch):
    assert tiff.LARGEST_CLASSIC == 2**32 - 1  # the largest offset in a classic TIFF
    classic = images.encode(pixels, ".tif", SETTINGS)
    monkeypatch.setattr(tiff, "LARGEST_CLASSIC", 2 * len(classic) + 4096)
    assert images.encode(pixels, ".tif", SETTINGS) == classic


@pytest.mark.parametrize(("suffix", "depth"), [each for each in EVERY if each != (".webp", 8)])
def test_OUT_25_results_above_pillows_limit_are_read_back(
    pixels, tmp_path, monkeypatch, suffix, depth
):
    path = tmp_path / f"o{suffix}"
    path.write_bytes(encoded(pixels, suffix, depth, settings=SETTINGS))
    before = images.read(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", HEIGHT * WIDTH // 2 - 1)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(path)
    assert images.settings_of(path) == SETTINGS
    config = Config(output_image=path)
    assert np.array_equal(output.read_back(path, pixels.shape, config, None), before)
    few = config.replace(max_pixels=HEIGHT * WIDTH - 1)
    with pytest.raises(MachineError, match="it has more than 850 pixels"):
        output.read_back(path, pixels.shape, few, None)


def test_OUT_25_results_above_the_limit_of_inputs_are_read_back(pixels, tmp_path):
    path = tmp_path / "o.tif"
    path.write_bytes(images.encode(pixels, ".tif", SETTINGS))
    with path.open("ab") as file:
        file.truncate(2**28 + 1)  # sparse
    refusal(lambda: images.read(path), "it has 268435457 bytes and 268435456 are allowed")
    assert images.settings_of(path) == SETTINGS
    image = output.read_back(path, pixels.shape, Config(output_image=path), None)
    assert np.array_equal(np.rint(image * 257), pixels)


# What a format cannot hold


@pytest.mark.parametrize(
    ("name", "shape", "has_alpha", "words"),
    [
        ("o.webp", (16_384, 1), False, "WEBP holds at most 16383 pixels a side, not 16384; choose"
         " .png, .tiff or .jpg, or a smaller size"),
        ("o.webp", (1, 16_384), True, "choose .png or .tiff, or a smaller size"),
        ("o.webp", (16_000, 16_000), False, "is read with at most 178956970 pixels, not 25600"),
        ("o.avif", (16_385, 16_384), False, "AVIF is read with at most 268435456 pixels, not 26845"
         "1840; choose .png, .tiff or .jpg, or a smaller size"),
        ("o.jpg", (65_501, 1), False, "choose .png or .tiff, or a smaller size"),
    ],
)  # fmt: skip
def test_OUT_22_an_image_too_large_for_its_format_is_refused(
    tmp_path, name, shape, has_alpha, words
):
    path = tmp_path / name
    refusal(lambda: images.check_output(path, shape, has_alpha=has_alpha), words)
    for other in (".png", ".tiff", *([".jpg"] if ".jpg," in words else [])):
        images.check_output(path.with_suffix(other), shape, has_alpha=has_alpha)
    half = -(-shape[0] // 2), -(-shape[1] // 2)
    images.check_output(path, half, has_alpha=has_alpha)


@pytest.mark.parametrize(("sides", "fits"), [((2**14, 2**14), True), ((2**14, 2**14 + 1), False)])
def test_OUT_22_the_most_pixels_of_an_avif_are_what_can_be_opened_again(tmp_path, sides, fits):
    data = saved(Image.new("RGB", (WIDTH, HEIGHT)), "AVIF")
    header = b"ispe" + bytes(4)
    path = tmp_path / "o.avif"
    before, after = (header + struct.pack(">II", *size) for size in ((WIDTH, HEIGHT), sides))
    path.write_bytes(data.replace(before, after))
    words = "it has more than 1000 pixels" if fits else "damaged"
    refusal(lambda: images.read(path, max_pixels=1000), words)
    if fits:
        images.check_output(path, sides)
    else:
        refusal(lambda: images.check_output(path, sides), "AVIF is read with at most")


def test_OUT_22_it_is_refused_before_the_run(tmp_path):
    config = files_given(tmp_path, image_size=16_384, max_pixels=10**9, style_scale=0.05)
    assert read_inputs(config).shape == (5079, 16_384)
    refusal(lambda: jobs.run(config.replace(output_image=tmp_path / "o.webp")), "choose .png, ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", sorted(set(images.FORMATS) - {".png", *DEEP, ".tiff"}))
def test_OUT_22_so_are_16_bits(tmp_path, suffix):
    config = files_given(tmp_path, bit_depth=16).replace(output_image=tmp_path / f"o{suffix}")
    words = "bit_depth is 16, and", "choose .png or .tiff, or bit_depth 8"
    refusal(lambda: jobs.run(config), *words)
    assert list(tmp_path.iterdir()) == []


# The size of a print


@pytest.mark.parametrize(
    ("given_", "kept"),
    [
        ("42x29.7cm", "42x29.7cm"),
        (" 29.7 X 42 CM ", "42x29.7cm"),
        ("420mm", "420mm"),
        ("16.50x11.0in", "16.5x11in"),
        ("8x8in", "8in"),
        (".5in", "0.5in"),
        ("1234.56789x000001cm", "1234.56789x1cm"),
    ],
)
def test_a_print_size_is_kept_in_one_form(given_, kept):
    config = MultiscaleSettings(print_size=given_, dpi=10)
    assert (config.print_size, config.image_size) == (kept, "print")


@given(st.floats(0.01, 9e5), st.floats(0.01, 9e5), st.sampled_from(["cm", "mm", "in"]))
def test_a_print_size_reads_what_was_written(width, height, unit):
    found = print_length(f"{width:.6f}x{height:.6f}{unit}")
    rounded = sorted((round(width, 6), round(height, 6)))
    assert [found.shorter, found.longer, found.unit] == [*rounded, unit]


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ("42", "it has no unit; write 42cm, or mm, or in for inches"),
        ("42x29.7", "it has no unit; write 42x29.7cm"),
        ("42m", "the unit m is unknown; did you mean 'mm'?"),
        ("42ft", "the unit ft is unknown; known are cm, mm, in"),
        ("42x29,7cm", "it is one length or two, and a unit, as in 42x29.7cm or 42cm"),
        ("1x2x3cm", "it is one length or two, and a unit"),
        ("-42cm", "it is one length or two, and a unit"),
        ("A3", "it is one length or two, and a unit"),
        ("", "it is one length or two, and a unit"),
        ("0x3cm", "a length is more than 0"),
        (42, "it is text with a unit, as in 42x29.7cm or 42cm"),
        (True, "it is text with a unit"),
    ],
)
def test_CFG_35_what_is_no_size_of_a_print_is_refused(size, words):
    text = refusal(lambda: Config(print_size=size), words)
    assert text.startswith(f"print_size cannot be {size!r}: ")
    assert text.endswith("print_size is the size of the print, as 42x29.7cm, 16x12in or 420mm (the "
                         "longer side), in place of image_size")  # fmt: skip


@pytest.mark.parametrize("dpi", ["-1", "10001", "299.5", "many"])
def test_CFG_35_so_is_what_is_no_resolution(dpi):
    words = "dpi cannot be ", "(--dpi)", "the pixels per inch of the print, 1 to 10000"
    refusal(lambda: flags.parse(["c.jpg", "s.jpg", f"--dpi={dpi}"]), *words)


def test_CFG_37_a_print_of_too_many_pixels_is_refused_with_the_dpi_that_fits():
    text = refusal(lambda: Config(print_size="5000x10mm"), "cannot be '5000x10mm' at 300 dpi",
                   "its longer side has 59055 pixels, and 32768 are allowed")  # fmt: skip
    assert text.endswith("take a dpi of up to 166, or a smaller print")
    assert Config(print_size="5000x10mm", dpi=166).longest_side == 32_677
    refusal(lambda: Config(print_size="5000x10mm", dpi=167), "its longer side has 32874 pixels")
    refusal(lambda: Config(print_size="900000in", dpi=1), "allowed; make it smaller")


@pytest.mark.parametrize(
    ("size", "dpi", "content", "expected"),
    [
        ("42x29.7cm", 200, (2970, 4200), (2339, 3307)),
        ("42x29.7cm", 200, (4200, 2970), (3307, 2339)),  # in either orientation
        ("29.7x42cm", 200, (2970, 4200), (2339, 3307)),
        ("42x29.7cm", 0, (2970, 4200), (3508, 4961)),  # at 300 dpi
        ("42x29.7cm", 200, (1000, 2000), (1654, 3307)),  # the longer side decides
        ("42x29.7cm", 200, (1000, 1000), (2339, 2339)),  # the shorter one
        ("42x29.7cm", 200, (900, 1000), (2339, 2599)),
        ("42cm", 200, (900, 1000), (2976, 3307)),
        ("420mm", 200, (1000, 900), (3307, 2976)),
        ("10in", 72, (1000, 900), (720, 648)),
        ("1mm", 1, (9, 10), (1, 1)),
    ],
)
def test_a_print_decides_the_size_in_pixels(size, dpi, content, expected):
    config = Config(print_size=size, dpi=dpi)
    assert resized_shape(content, config.longer_side(content)) == expected


@given(
    st.tuples(st.integers(1, 9000), st.integers(1, 9000)),
    st.tuples(st.integers(1, 9000), st.integers(1, 9000)),
)
def test_the_largest_size_that_fits_into_a_rectangle(shape, sides):
    """The content is reduced to the size that it is planned at, and planned again."""
    rectangle = max(sides), min(sides)
    fitted = resized_shape(shape, fitted_side(shape, rectangle))
    assert max(fitted) <= max(sides) and min(fitted) <= min(sides)
    assert max(fitted) == max(sides) or min(fitted) == min(sides)
    assert fitted_side(fitted, rectangle) == max(fitted)
    scale = min(max(sides) / max(shape), min(sides) / min(shape))
    assert max(fitted) == pytest.approx(scale * max(shape), abs=0.5 + 1e-6)


def test_CFG_36_two_sizes_at_one_place_are_refused(tmp_path):
    words = "image_size and print_size do not go together", "512 and 42cm", "leave one of them out"
    refusal(lambda: Config(print_size="42cm", image_size=512), *words)
    refusal(lambda: MultiscaleSettings(print_size="42cm", image_size=512), *words)
    both = "--print_size=42cm", "--image_size=512"
    refusal(lambda: flags.parse(["c.jpg", "s.jpg", *both]), *words, "(--print_size)")
    (tmp_path / "x.yaml").write_text("image_size: 512\nprint_size: 42cm\n")
    refusal(lambda: load_config(tmp_path / "x.yaml"), *words, "x.yaml, line 2)")
    refusal(
        lambda: Config(image_size="print"), "there is no print_size; give print_size, as in 42x"
    )


def test_CFG_36_the_size_of_what_takes_precedence_counts(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("print_size: 42x29.7cm\ndpi: 200\n")
    found = load_config(path, {"image_size": 64})
    assert (found.image_size, found.print_size, found.dpi) == (64, None, 200)
    assert load_config(path, {"dpi": 100}).longer_side((1, 9)) == 1654
    assert load_config(path, {"preset": "draft"}).print_size == "42x29.7cm"
    path.write_text("image_size: content\n")
    found = load_config(path, {"print_size": "10in"})
    assert (found.image_size, found.longer_side((3, 4))) == ("print", 3000)
    in_python = Config(image_size=64).replace(print_size="10in")
    assert in_python == found.replace(output_image=in_python.output_image)
    assert in_python.replace(image_size=64) == Config(image_size=64)
    assert in_python.multiscale.replace(image_size=64) == Config(image_size=64).multiscale
    assert in_python.replace(dpi=100).longer_side((3, 4)) == 1000


def test_a_print_comes_back_from_yaml_and_from_the_image(tmp_path, pixels):
    config = files_given(tmp_path, print_size="42x29.7cm", dpi=200)
    (tmp_path / "x.yaml").write_text(to_yaml(config))
    assert load_config(tmp_path / "x.yaml") == config
    data = output.encode((pixels >> 8).astype(np.uint8), ".png", config, None)
    (tmp_path / "made.png").write_bytes(data)
    rerun = f"--rerun={tmp_path / 'made.png'}"
    again = flags.parse([rerun]).config
    assert (again.image_size, again.print_size, again.dpi) == ("print", "42x29.7cm", 200)
    assert again.content_image.samefile(CONTENT)
    again = flags.parse([rerun, "--image_size=64"]).config
    assert (again.image_size, again.print_size) == (64, None)


def test_the_fingerprint_has_the_size_in_pixels():
    def size(**changes):
        return settings_affecting_result(Config(**changes))["image_size"]

    assert size(print_size="42x29.7cm", dpi=200) == "3307x2339"
    assert size(print_size="420x297mm", dpi=200) == "3307x2339"
    assert size(print_size="10in", dpi=100) == size(image_size=1000) == 1000
    assert size(print_size="10in") == 3000
    assert size(image_size="content", dpi=200) == "content"
    assert settings_affecting_result(Config(dpi=200)) == settings_affecting_result(Config())
    assert portable(Config(print_size="10in"))["image_size"] == "print"


def test_the_network_is_chosen_for_the_longest_side(parameters):
    def side(**changes):
        return Stylizer(Config(style_scale=2.0, **changes), weights=parameters)._longest_side()

    assert side(print_size="10x1in", dpi=9) == 180
    assert side(image_size="content") == math.inf


def test_the_size_of_a_print_is_told_before_the_run(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (420, 297), "teal").save("c.png")

    def told(*words):
        assert main(["c.png", str(STYLE), *words, "--dry_run"]) == 0
        *_, note, plan = capsys.readouterr().out.splitlines()
        return note, plan

    note, plan = told("--print_size=42x29.7cm", "--dpi=20")
    assert note == "# 331x234 pixels, 42x29.7 cm at 20 dpi"
    assert "331x234: 40" in plan
    note, _ = told("--print_size=2x2in")
    assert note == "# 600x424 pixels, 2x1.41 in at 300 dpi, the default"
    note, _ = told("--print_size=30mm")
    assert note == "# 354x250 pixels, 30x21 mm at 300 dpi, the default"
    note, _ = told("--image_size=200", "--dpi=100")
    assert note == "# 200x141 pixels, 5.1x3.6 cm at 100 dpi"
    note, _ = told("--image_size=200")
    assert " dpi" not in note


def test_a_print_that_does_not_fit_is_told_the_dpi_that_does(tmp_path, monkeypatch):
    config = files_given(tmp_path, print_size="100cm")
    refusal(lambda: read_inputs(config.replace(max_pixels=10**6)), "lower --dpi or --style_scale")
    needed = estimate.ResourceEstimate(9_000_000_000, 1.0, 1.0)
    monkeypatch.setattr("nst_tf.system.available_memory", lambda: 3_000_000_000)
    with pytest.raises(MachineError, match="the memory does not suffice") as caught:
        estimate.check_memory(needed, 11_811, config)
    remedy = caught.value.remedy
    assert remedy.startswith("try --dpi=") and 100 < int(remedy.removeprefix("try --dpi=")) < 200


def test_OUT_24_a_print_is_made_and_found_again(tmp_path):
    config = files_given(
        tmp_path, print_size="3.2x2.1cm", dpi=50, num_iterations=0, init="content", bit_depth=16
    ).replace(output_image=tmp_path / "o.tif")
    done = jobs.run(config)
    data = done.path.read_bytes()
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        assert file.pages[0].shape == (20, 63, 3) and file.pages[0].bitspersample == 16
    assert resolution_of_tags(data) == (50, 50)
    assert done.record["image_size"] == [63, 20]
    same = config.replace(print_size="32x21mm")
    assert jobs.run(same, resume=True).status == "nothing to do"
    with pytest.raises(InputError, match=r"it differs in .*image_size;"):
        jobs.run(config.replace(dpi=60), resume=True)
    # Without its record, only the settings in the image tell what it is.
    assert output.inspect(done.path).settings is not None
    for path in done.path.with_name("o.tif.run").iterdir():
        path.unlink()
    occupant = output.inspect(done.path)
    assert occupant.is_of(config.replace(print_size="32x21mm"), {})
    assert not occupant.is_of(config.replace(dpi=60), {})
