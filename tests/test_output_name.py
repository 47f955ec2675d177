"""The name of the result where none is given."""

import copy
import os
import pickle
from pathlib import Path

import pytest

from nst_tf.cli import flags
from nst_tf.config.files import load_config, portable, to_yaml
from nst_tf.config.schema import Config, OutputSettings
from nst_tf.jobs.output import numbered, run_folder


def name(content="photos/lake.jpg", *styles):
    return Config(content_image=content, style_image=styles or ["s/wave.webp"]).output_image.name


@pytest.mark.parametrize(
    ("styles", "expected"),
    [
        (["s/wave.webp"], "lake_wave.png"),
        (["a.jpg", "b.jpg"], "lake_a_b.png"),
        (["a.jpg", "b.jpg", "c.jpg"], "lake_a_b_c.png"),
        (["a.jpg", "b.jpg", "c.jpg", "d.jpg"], "lake_a_b_and_2_more.png"),
        ([f"{i}.jpg" for i in range(64)], "lake_0_1_and_62_more.png"),
    ],
)
def test_the_result_is_named_after_its_images(styles, expected):
    assert name("photos/lake.jpg", *styles) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("lake.2026.jpg", "lake.2026_wave.png"),
        (".hidden.jpg", "hidden_wave.png"),
        ("./-x.jpg", "x_wave.png"),
        ("..", "content_wave.png"),
        ("/", "content_wave.png"),
        ("a\nb:c.jpg", "a_b_c_wave.png"),
        ("lake .jpg", "lake_wave.png"),
        ("Café am See.jpg", "Café am See_wave.png"),
        (os.fsdecode(b"caf\xe9.jpg"), os.fsdecode(b"caf\xe9_wave.png")),
        ("\ud800.jpg", "\ud800_wave.png"),
    ],
)
def test_a_stem_that_makes_a_bad_name_is_changed(content, expected):
    assert name(content) == expected


def test_names_of_any_length_leave_room_for_the_run_folder_and_a_number():
    path = Path(name("é" * 120 + ".jpg", *(letter * 250 + ".jpg" for letter in "abc")))
    for made in (path, run_folder(path), numbered(path, 10_000)):
        assert len(os.fsencode(made.name)) <= 255
    assert path.name == f"{'é' * 30}_{'a' * 60}_{'b' * 60}_{'c' * 60}.png"
    assert run_folder(path).name == f"{path.name}.run"


def test_it_is_in_the_current_folder_wherever_the_images_are(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "x.yaml").write_text("content_image: in/c.jpg\nstyle_image: s.jpg\n")
    monkeypatch.chdir(tmp_path)
    assert load_config("configs/x.yaml").output_image == tmp_path / "c_s.png"
    assert flags.parse(["in/c.jpg", "s.jpg"]).config.output_image == tmp_path / "c_s.png"
    got = flags.parse(["--config=configs/x.yaml", "--style_image=t.jpg"]).config
    assert got.output_image == tmp_path / "c_t.png"


def test_a_name_that_is_given_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.yaml").write_text(
        "content_image: c.jpg\nstyle_image: s.jpg\noutput_image: o.png"
    )
    assert load_config("x.yaml").output_image == tmp_path / "o.png"
    got = flags.parse(["--config=x.yaml", "-o", "p.webp"]).config
    assert got.output_image == tmp_path / "p.webp"
    given = Config(content_image="c.jpg", style_image="s.jpg", output_image="out.png")
    assert given.replace(content_image="d.jpg").output_image == tmp_path / "out.png"


def test_replace_names_the_result_after_new_images_in_the_same_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = Config(content_image="c.jpg", style_image="s.jpg")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    for same in (config, copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        again = same.replace(seed=3).replace(preset="draft")
        assert again.output_image == tmp_path / "c_s.png"
        changed = again.replace(content_image="d.jpg")
        assert changed.output_image == tmp_path / "d_s.png"
        assert changed.content_image == tmp_path / "below" / "d.jpg"
    moved = config.replace(content_image="d.jpg", output_image="o.png")
    assert moved.output_image == tmp_path / "below" / "o.png"
    assert moved.replace(content_image="e.jpg").output_image == moved.output_image


def test_it_is_recorded_as_if_it_had_been_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = Config(content_image="in/c.jpg", style_image="s.jpg")
    assert portable(config)["output_image"] == "c_s.png"
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    again = load_config("config.yaml", {"content_image": "d.jpg"})
    assert again.output_image == tmp_path / "c_s.png"


def test_without_images_the_name_says_what_it_would_be():
    assert (
        Config().output_image == OutputSettings().output_image == Path.cwd() / "content_style.png"
    )
    assert Config(style_image="s.jpg").output_image.name == "content_s.png"
    line = next(row for row in flags.help_text().splitlines() if "--output_image" in row)
    assert line.endswith("the image file to write, CONTENT_STYLE.png when left out")
