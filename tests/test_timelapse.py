"""The time-lapse of a run: its frames, its formats, and what happens when a run is interrupted."""

import io
import logging
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from nst_tf import jobs
from nst_tf.config import Config
from nst_tf.engine.pyramid import Level
from nst_tf.errors import InputError, MachineError
from nst_tf.events import Iteration, Losses, Saved
from nst_tf.io import images
from nst_tf.jobs import timelapse
from nst_tf.jobs.timelapse import Frames
from tests.command import CONTENT, STYLE, run_folder

LEVELS = (Level((20, 30), ((20, 30),), 60), Level((40, 60), ((40, 60),), 60))
"""Of four fifths of the work at the second level."""

WORK = 60 * 600 + 60 * 2400


class Gray:
    def __init__(self, value, shape):
        self.value, self.shape = value, shape

    def image(self):
        return np.full((*self.shape, 3), self.value, np.float32)


def iterations(levels=LEVELS, first=1):
    """All iterations of a plan; the image is as bright as the work is done."""
    total = sum(level.num_iterations * np.prod(level.shape) for level in levels)
    number, work = 0, 0
    for level in levels:
        for _ in range(level.num_iterations):
            number, work = number + 1, work + int(np.prod(level.shape))
            done = work / total
            if number >= first:
                source = Gray(200 * done, level.shape)
                yield Iteration(number, 0, 0, 0.0, done, 0.0, Losses({}), *level.shape, source)


def works(folder):
    """Returns the work of each frame in a run folder."""
    return sorted(int(path.stem) for path in (folder / "timelapse").iterdir())


def brightness(frames):
    return [float(frame.mean()) for frame in frames]


def shown(path):
    """Returns the frames of a WebP or GIF file and the milliseconds of each."""
    with Image.open(path) as file:
        found = [
            (np.asarray(frame.convert("RGB")), frame.info["duration"])
            for frame in ImageSequence.Iterator(file)
        ]
    return tuple(zip(*found, strict=True))


def test_frames_are_few_of_one_size_and_evenly_spaced_over_the_work(tmp_path):
    frames = Frames(tmp_path, LEVELS, seconds=1.0)
    for event in iterations():
        frames(event)
    kept = list(frames.read())
    assert 13 <= len(kept) <= 16
    assert {frame.shape for frame in kept} == {(40, 60, 3)}
    steps = np.diff(brightness(kept[:-1]))
    assert np.all(np.abs(steps - 200 / 15) < 4.5)  # one iteration is 2.7
    durations = frames.durations(1.0)
    assert sum(durations[:-1]) == pytest.approx(1.0) and durations[-1] == 2.0
    assert max(durations[:-3]) < 1.5 * min(durations[:-3])


@pytest.mark.slow
def test_the_number_and_the_size_of_frames_are_bounded(tmp_path):
    levels = (Level((900, 1800), ((1, 1),), 1000),)
    frames = Frames(tmp_path, levels, seconds=60.0)
    for number in range(1, 1001):
        source = Gray(number % 255, (9, 18))
        frames(Iteration(number, 0, 0, 0.0, number / 1000, 0.0, Losses({}), 900, 1800, source))
    kept = list((tmp_path / "timelapse").iterdir())
    assert 230 <= len(kept) <= 241
    with Image.open(kept[0]) as image:
        assert image.size == (640, 320)


def test_a_run_that_goes_on_with_more_iterations_keeps_the_frames_of_its_beginning(tmp_path):
    first = Frames(tmp_path, LEVELS, seconds=2.0)
    for event in list(iterations())[:100]:
        first(event)
    before = works(tmp_path)
    longer = (LEVELS[0], Level((40, 60), ((40, 60),), 240))
    second = Frames(tmp_path, longer, seconds=2.0)
    thinned = works(tmp_path)
    assert 4 <= len(thinned) < len(before) and set(thinned) < set(before)
    for event in iterations(longer, first=91):  # from a checkpoint before the end
        second(event)
    kept = works(tmp_path)
    again = 60 * 600 + 31 * 2400  # the work of iteration 91
    assert [work for work in kept if work < again] == [work for work in thinned if work < again]
    assert kept[-1] > 0.97 * (60 * 600 + 240 * 2400)
    assert 20 < len(kept) <= 31 and min(np.diff(kept[:-1])) > 2400


@pytest.mark.parametrize("suffix", [".webp", ".gif"])
def test_an_animation_lasts_as_long_as_asked_and_holds_its_last_image(tmp_path, suffix):
    frames = [np.full((20, 30, 3), value, np.uint8) for value in (0, 60, 120, 250)]
    path = timelapse.write(tmp_path / f"t{suffix}", frames, [0.5, 0.25, 0.25, 2.0], Path("x.png"))
    found, milliseconds = shown(path)
    assert list(milliseconds) == [500, 250, 250, 2000]
    assert brightness(found) == pytest.approx([0, 60, 120, 250], abs=2)


def test_a_video_lasts_as_long_as_asked_and_holds_its_last_image(tmp_path):
    cv2 = pytest.importorskip("cv2", reason="needs the extra video")
    pytest.importorskip("imageio_ffmpeg", reason="needs the extra video")
    frames = [np.full((20, 30, 3), value, np.uint8) for value in (0, 60, 120, 250)]
    path = timelapse.write(tmp_path / "t.mp4", frames, [0.5, 0.25, 0.25, 2.0], Path("x.png"))
    video = cv2.VideoCapture(str(path))
    found = []
    while (read := video.read())[0]:
        found.append(read[1].mean())
    assert len(found) == 90 and video.get(cv2.CAP_PROP_FPS) == 30
    assert found[:15] == pytest.approx([0] * 15, abs=4)
    assert found[30:] == pytest.approx([250] * 60, abs=4)


def test_frames_that_are_shorter_than_a_tick_are_left_out_and_cost_no_time(tmp_path):
    frames = [np.full((20, 30, 3), 2 * value, np.uint8) for value in range(101)]
    path = timelapse.write(tmp_path / "t.gif", frames, [0.004] * 100 + [2.0], Path("x.png"))
    _, milliseconds = shown(path)
    assert sum(milliseconds[:-1]) == 400 and milliseconds[-1] == 2000


def test_only_the_time_lapse_of_the_same_image_is_replaced(tmp_path):
    frame = [np.zeros((20, 30, 3), np.uint8)]
    for suffix in (".webp", ".gif"):
        path = tmp_path / f"t{suffix}"
        assert timelapse.write(path, frame, [2.0], Path("x.png")) == path
        assert timelapse.write(path, frame, [2.0], Path("x.png")) == path
        other = timelapse.write(path, frame, [2.0], Path("y.png"))
        assert other.name == f"t-2{suffix}"
        assert timelapse.write(path, frame, [2.0], Path("y.png")) == other
        assert timelapse.write(path, frame, [2.0], Path("y.png"), overwrite=True) == path
    (tmp_path / "own.gif").write_bytes(b"of somebody else")
    assert timelapse.write(tmp_path / "own.gif", frame, [2.0], Path("x.png")).name == "own-2.gif"
    assert (tmp_path / "own.gif").read_bytes() == b"of somebody else"


def test_OUT_28_a_time_lapse_does_not_replace_the_image_that_was_saved_under_its_name(tmp_path):
    image = tmp_path / "o-2.webp"  # as "o.webp" was taken
    image.write_bytes(b"the result")
    frame = [np.zeros((20, 30, 3), np.uint8)]
    path = timelapse.write(tmp_path / "o-2.webp", frame, [2.0], image, overwrite=True)
    assert path.name == "o-2-2.webp" and image.read_bytes() == b"the result"


def test_colors_of_another_profile_are_converted(tmp_path):
    import imagecodecs

    wide = imagecodecs.cms_profile("adobergb")
    frame = [np.full((20, 30, 3), (40, 200, 40), np.uint8)]
    (plain,), _ = shown(timelapse.write(tmp_path / "a.gif", frame, [2.0], Path("x.png")))
    (found,), _ = shown(timelapse.write(tmp_path / "b.gif", frame, [2.0], Path("x.png"), wide))
    assert plain[0, 0].tolist() == [40, 200, 40]
    assert found[0, 0, 0] < 20 and found[0, 0, 1] >= 200


def test_CFG_39_a_time_lapse_of_another_format_is_refused_with_the_nearest():
    with pytest.raises(InputError, match=r"it ends in \.webm; did you mean '\.webp'"):
        Config(timelapse="t.webm")
    with pytest.raises(InputError, match=r"it ends in no suffix; known are \.webp, \.gif, \.mp4"):
        Config(timelapse="t")


def test_OUT_28_a_time_lapse_that_cannot_be_written_is_refused_before_the_work(
    tmp_path, monkeypatch
):
    config = small(tmp_path / "o.webp", timelapse=tmp_path / "o.webp")
    with pytest.raises(InputError, match="would replace the result"):
        jobs.run(config)
    (tmp_path / "here").symlink_to(tmp_path)
    with pytest.raises(InputError, match="would replace the result"):
        jobs.run(config.replace(timelapse=tmp_path / "here" / "o.webp"))
    for name, changes in (("c.gif", "content_image"), ("s.gif", "style_image"), ("i.gif", "init")):
        shutil.copy(STYLE, tmp_path / name)
        changed = {changes: tmp_path / name, "timelapse": tmp_path / "here" / name}
        with pytest.raises(InputError, match="the time-lapse would replace an input"):
            jobs.run(small(tmp_path / "o.png").replace(**changed), overwrite=True)
        (tmp_path / name).unlink()
    (tmp_path / "here").unlink()
    with pytest.raises(MachineError, match=r"cannot write to the folder .*it is a file; choose"):
        jobs.run(small(tmp_path / "o.png", timelapse=STYLE / "t.gif"))
    with pytest.raises(MachineError, match="it is a folder"):
        (tmp_path / "t.gif").mkdir()
        jobs.run(small(tmp_path / "o.png", timelapse=tmp_path / "t.gif"))
    (tmp_path / "t.gif").rmdir()
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(MachineError) as caught:
        jobs.run(small(tmp_path / "o.png", timelapse=tmp_path / "t.mp4"))
    assert str(caught.value) == (
        "cannot write a video: the package imageio-ffmpeg is not installed; "
        'install it: pip install "nst_tf[video]"'
    )
    assert list(tmp_path.iterdir()) == []


# With the network


def small(output, **settings):
    defaults = {"image_size": 64, "num_iterations": 6, "init": "content", "pyramid": "none"}
    return Config(
        content_image=CONTENT, style_image=[STYLE], output_image=output, **defaults | settings
    )


def test_OUT_29_an_interrupted_run_has_a_time_lapse_and_goes_on_with_it(tmp_path):
    path = tmp_path / "new" / "t.webp"
    config = small(tmp_path / "o.png", timelapse=path, pyramid="56:4", init="noise")
    seen = []

    def stop(event):
        seen.append(event)
        return isinstance(event, Iteration) and event.iteration == 7

    assert jobs.run(config, callbacks=[stop]).status == "stopped"
    saved = next(event for event in seen if isinstance(event, Saved))
    assert saved.timelapse == path
    first, milliseconds = shown(path)
    assert len(first) == 7 and sum(milliseconds) == 10_000
    assert jobs.run(config, resume=True).status == "finished"
    whole, milliseconds = shown(path)
    assert len(whole) > len(first)
    assert sum(milliseconds[:-1]) == 8000 and milliseconds[-1] == 2000
    assert np.abs(whole[2].astype(int) - first[2]).max() <= 2
    result = images.read(tmp_path / "o.png")[: whole[-1].shape[0]]
    assert np.abs(whole[-1] - result).mean() < 8
    assert jobs.run(config.replace(num_iterations=9), resume=True).status == "finished"
    assert len(shown(path)[0]) > len(whole)
    assert list(path.parent.iterdir()) == [path]


def test_OUT_29_a_time_lapse_that_fails_costs_no_result(tmp_path, caplog):
    path = tmp_path / "t.gif"
    config = small(tmp_path / "o.png", timelapse=path, keep_state=False)

    def spoil(event):
        if isinstance(event, Iteration) and event.iteration == 5:
            for frame in (run_folder(tmp_path / "o.png") / "timelapse").iterdir():
                frame.write_bytes(b"damaged")

    with caplog.at_level(logging.WARNING, "nst_tf"):
        assert jobs.run(config, callbacks=[spoil]).status == "finished"
    assert "the time-lapse could not be written" in caplog.text
    assert not path.exists() and (tmp_path / "o.png").exists()
    assert not (run_folder(tmp_path / "o.png") / "timelapse").exists()


def test_a_new_run_drops_the_frames_of_the_one_before(tmp_path):
    config = small(tmp_path / "o.png", timelapse=tmp_path / "t.gif")
    for settings in ({}, {"num_iterations": 3}):
        jobs.run(config.replace(**settings), overwrite=True)
    assert len(shown(tmp_path / "t.gif")[0]) == 3


def test_a_batch_has_no_single_time_lapse(tmp_path):
    from nst_tf.batch.plan import pictures

    with pytest.raises(InputError, match="timelapse names one file"):
        pictures(Config(timelapse="t.gif"), [CONTENT, STYLE], [STYLE])


def test_a_frame_is_encoded_without_loss_of_its_size(tmp_path):
    frames = Frames(tmp_path, (Level((31, 47), ((31, 47),), 1),), 8.0)
    assert frames.frame(np.zeros((31, 47, 3), np.float32)).shape == (30, 46, 3)
    data = io.BytesIO()
    Image.fromarray(frames.frame(np.zeros((16, 24, 3), np.float32))).save(data, "WEBP")
    assert Image.open(data).size == (46, 30)
