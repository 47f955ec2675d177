"""Videos: reading and writing, cuts, interruptions, and the command, with real files."""

import csv
import importlib.util
import json
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from nst_tf.config import Config
from nst_tf.errors import InputError, MachineError
from nst_tf.image.arrays import quantize
from nst_tf.image.resize import resize
from nst_tf.io import ffmpeg, files, images
from nst_tf.video import frames as video_frames
from nst_tf.video import transfer
from nst_tf.video.settings import VideoSettings
from nst_tf.video.transfer import FrameDone, VideoPlanned, VideoSaved
from tests.command import PALACE, STYLE, environment, run_folder

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("cv2", "imageio_ffmpeg")),
    reason="needs the extra video",
)

RATE = Fraction(30000, 1001)
SHAPE = (48, 66)
CUT = 3
"""The number, from 0, of the frame that begins the second scene of the clip."""


def pictures():
    """Three frames of a window that moves over one photograph, and two of another one."""
    palace = resize(images.read(PALACE), (66, 98))
    scream = resize(images.read(STYLE), (124, 98))
    height, width = SHAPE
    shown = [palace[2 + t : 2 + t + height, 2 * t : 2 * t + width] for t in range(CUT)]
    shown += [scream[20 : 20 + height, t : t + width] for t in (4, 6)]
    return [quantize(frame).astype(np.uint8) for frame in shown]


def ffmpeg_run(*words):
    done = subprocess.run(
        [ffmpeg.program(), "-hide_banner", "-y", *map(str, words)], capture_output=True, text=True
    )
    return done


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A video of two scenes, with the sound of a sine."""
    folder = tmp_path_factory.mktemp("clip")
    ffmpeg.encode(folder / "silent.mp4", pictures(), RATE)
    done = ffmpeg_run(
        "-i", folder / "silent.mp4", "-f", "lavfi", "-i", "sine=frequency=440:duration=0.16",
        "-c:v", "copy", "-c:a", "aac", folder / "clip.mp4",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "clip.mp4"


def config(**settings):
    defaults = {"style_image": STYLE, "image_size": 66, "num_iterations": 2}
    return Config(**{**defaults, "init": "content", "pyramid": "none", **settings})


def settings(clip, output, **changes):
    return VideoSettings(
        content_video=clip, output_video=output, **{"frame_iterations": 2, **changes}
    )


def decoded(path):
    """Returns all frames of a video, RGB, and its rate."""
    import cv2

    video = cv2.VideoCapture(str(path))
    found = []
    while (read := video.read())[0]:
        found.append(read[1][:, :, ::-1])
    return found, video.get(cv2.CAP_PROP_FPS)


def streams(path):
    """Returns what ffmpeg says of the streams of a file."""
    return [line.strip() for line in ffmpeg_run("-i", path).stderr.splitlines() if "Stream" in line]


def frame_files(output):
    return sorted((run_folder(output) / "frames").glob("*.png"))


@pytest.fixture(scope="module")
def finished(clip, tmp_path_factory):
    """A run to its end, with its events."""
    output = tmp_path_factory.mktemp("video") / "new" / "out.mp4"
    events = []
    result = transfer.run(config(), settings(clip, output), callbacks=[events.append])
    return result, output, events


def test_VID_07_frame_rate_and_sound_are_kept(finished, clip):
    result, output, _ = finished
    assert result == (output, 5, "finished")
    found, rate = decoded(output)
    assert len(found) == 5 and found[0].shape == (*SHAPE, 3)
    assert rate == pytest.approx(float(RATE), abs=1e-4)
    sound = [line for line in streams(output) if "Audio" in line]
    assert len(sound) == 1 and "aac" in sound[0]
    assert (
        next(line for line in streams(clip) if "Audio" in line).split("Audio")[1]
        == (sound[0].split("Audio")[1])
    )
    raw = [
        subprocess.run(
            [ffmpeg.program(), "-loglevel", "error", "-i", path, "-vn", "-f", "s16le", "-"],
            capture_output=True, check=True,
        ).stdout
        for path in (clip, output)
    ]  # fmt: skip
    assert raw[0] == raw[1] and np.abs(np.frombuffer(raw[0], np.int16)).max() > 1000


def test_the_file_shows_the_frames_of_the_run_folder(finished):
    _, output, _ = finished
    found, _ = decoded(output)
    for frame, path in zip(found, frame_files(output), strict=True):
        kept = np.asarray(Image.open(path)).astype(float)
        assert np.abs(frame - kept).mean() < 6  # H.264 has less color


def test_events_tell_what_is_done(finished):
    _, output, events = finished
    planned, *done, saved = events
    assert isinstance(planned, VideoPlanned) and planned[:4] == (SHAPE, float(RATE), 5, 0)
    assert [event.number for event in done] == [1, 2, 3, 4, 5]
    assert done[-1].seconds_left == 0 and done[0].seconds_left > 0
    assert isinstance(saved, VideoSaved) and saved[:3] == (output, 5, 2)
    record = json.loads((run_folder(output) / "run.json").read_text())
    assert (record["finished"], record["frames"], record["scenes"]) == (True, 5, 2)
    assert record["frame_rate"] == "30000/1001" and record["image_size"] == [66, 48]


def test_VID_04_a_cut_begins_anew(finished):
    _, output, events = finished
    done = [event for event in events if isinstance(event, FrameDone)]
    assert [event.scene_begins for event in done] == [n in (0, CUT) for n in range(5)]
    assert all(event.trusted > 0.6 for event in done if not event.scene_begins)
    with (run_folder(output) / "frames.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["scene_begins"] for row in rows] == ["1", "0", "0", "1", "0"]
    assert all(float(row["flicker"]) > 0 for row in rows if row["scene_begins"] == "0")


def test_frames_follow_the_ones_before(clip, finished, tmp_path):
    """Without iterations, a frame is the one before, moved along the flow."""
    output = tmp_path / "still.mp4"
    events = []
    transfer.run(config(), settings(clip, output, frame_iterations=0), callbacks=[events.append])
    first, second = (np.asarray(Image.open(path), float) for path in frame_files(output)[:2])
    moved = np.roll(first, (-1, -2), axis=(0, 1))
    inner = np.s_[6:-6, 6:-6]
    assert np.abs(second - moved)[inner].mean() < 4 < np.abs(second - first)[inner].mean()


def test_a_temporal_weight_reduces_flicker(clip, tmp_path):
    found = []
    for weight in (0.0, 10.0):
        events = []
        transfer.run(
            config(),
            settings(clip, tmp_path / f"{weight}.mp4", temporal_weight=weight, frame_iterations=5),
            callbacks=[events.append],
        )
        found.append(events[-1].flicker)
    assert found[1] < 0.5 * found[0]


def stopped_after(count):
    """Returns a callback and the question to stop that it answers after so many frames."""
    done = []

    def callback(event):
        if isinstance(event, FrameDone):
            done.append(event)

    return callback, lambda: len(done) >= count


@pytest.mark.parametrize("count", [1, CUT])
def test_VID_05_a_resumed_run_goes_on_to_the_same_frames(clip, finished, tmp_path, count):
    output = tmp_path / "out.mp4"
    callback, stop = stopped_after(count)
    result = transfer.run(config(), settings(clip, output), callbacks=[callback], should_stop=stop)
    assert result == (None, count, "stopped") and not output.exists()
    assert len(frame_files(output)) == count
    events = []
    result = transfer.run(config(), settings(clip, output), resume=True, callbacks=[events.append])
    assert result == (output, 5, "finished")
    assert events[0].frames_done == count
    assert [event.number for event in events[1:-1]] == list(range(count + 1, 6))
    pixels = [
        [np.asarray(Image.open(path)) for path in frame_files(each)]
        for each in (output, finished[1])
    ]
    np.testing.assert_array_equal(*pixels)
    assert events[-1].flicker == finished[2][-1].flicker and events[-1].scenes == 2
    again = transfer.run(config(), settings(clip, output), resume=True)
    assert again == (output, 5, "nothing to do")


def test_VID_05_all_frames_of_a_killed_run_but_no_video_are_enough(clip, finished, tmp_path):
    """As after a kill while the file is written, and with a frame whose row is missing."""
    import shutil

    output = tmp_path / "out.mp4"
    shutil.copytree(run_folder(finished[1]), run_folder(output))
    record = json.loads((run_folder(output) / "run.json").read_text())
    (run_folder(output) / "run.json").write_text(json.dumps({**record, "finished": False}))
    table = run_folder(output) / "frames.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:-1]) + "\n")
    events = []
    transfer.run(config(), settings(clip, output), resume=True, callbacks=[events.append])
    assert events[0].frames_done == 4 and len(decoded(output)[0]) == 5


def test_VID_06_the_frames_of_another_run_are_kept(clip, tmp_path, caplog):
    output = tmp_path / "out.mp4"
    callback, stop = stopped_after(1)
    transfer.run(config(), settings(clip, output), callbacks=[callback], should_stop=stop)
    other = config(style_weight=1e4), settings(clip, output)
    for asked, changed in (
        (other, "style_weight"),
        ((config(), settings(clip, output, temporal_weight=3)), "temporal_weight"),
        ((config(style_image=PALACE), settings(clip, output)), "style_image 1"),
    ):
        for resume in (False, True):
            with pytest.raises(InputError, match=rf"it differs in {changed}; go on .*--overwrite"):
                transfer.run(*asked, resume=resume)
    assert len(frame_files(output)) == 1
    transfer.run(config(), settings(clip, output), callbacks=[callback], should_stop=stop)
    assert "--resume would go on after 1 frames" in caplog.text
    caplog.clear()
    callback, stop = stopped_after(1)
    options = {"callbacks": [callback], "should_stop": stop, "overwrite": True}
    for resume in (False, True):
        result = transfer.run(*other, resume=resume, **options)
        assert result == (None, 1, "stopped") and len(frame_files(output)) == 1
    record = json.loads((run_folder(output) / "run.json").read_text())
    assert json.loads(record["fingerprint"]["style_weight"]) == 1e4 and caplog.records == []


def test_VID_06_the_initial_image_is_part_of_the_run(clip, tmp_path):
    output, start = tmp_path / "out.mp4", tmp_path / "start.png"
    image = quantize(resize(images.read(PALACE), SHAPE))
    start.write_bytes(images.encode(image, ".png", ""))
    asked = config(init=start, num_iterations=0), settings(clip, output)
    callback, stop = stopped_after(1)
    seen = [callback, lambda event: start.unlink(missing_ok=True)]  # it is read by then
    transfer.run(*asked, callbacks=seen, should_stop=stop)
    np.testing.assert_array_equal(np.asarray(Image.open(frame_files(output)[0])), image)
    with pytest.raises(InputError, match=r"cannot read the image .*no such file"):
        transfer.run(*asked, overwrite=True)
    start.write_bytes(images.encode(255 - image, ".png", ""))
    with pytest.raises(InputError, match="it differs in the start; go on"):
        transfer.run(*asked, resume=True)
    assert len(frame_files(output)) == 1


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "it is a directory"),
        (lambda path: path.write_bytes(b""), "there is no video in it"),
        (lambda path: path.write_text("<html>not found</html>"), "there is no video in it"),
        (lambda path: path.write_bytes(bytes(range(256)) * 40), "there is no video in it"),
    ],
    ids=["missing", "folder", "empty", "text", "noise"],
)
def test_VID_01_what_is_no_video_is_refused(tmp_path, capfd, make, why):
    path = tmp_path / "v.mp4"
    make(path)
    with pytest.raises(InputError, match=f"cannot read the video .*{why}"):
        transfer.run(config(), settings(path, tmp_path / "out.mp4"))
    assert capfd.readouterr().err == ""
    assert [each.name for each in tmp_path.iterdir() if each != path] == []


def test_VID_01_sound_without_a_video_is_refused(tmp_path):
    path = tmp_path / "v.mp4"
    done = ffmpeg_run("-f", "lavfi", "-i", "sine=duration=0.2", path)
    assert done.returncode == 0, done.stderr
    with pytest.raises(InputError, match="there is no video in it"):
        transfer.run(config(), settings(path, tmp_path / "out.mp4"))


@pytest.mark.parametrize("name", ["cv2", "imageio_ffmpeg"])
def test_VID_02_without_the_extra_it_is_named(clip, tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MachineError, match=r'is not installed; install it: pip install "nst_tf\['):
        transfer.run(config(), settings(clip, tmp_path / "out.mp4"))
    assert list(tmp_path.iterdir()) == []


def test_VID_03_an_output_that_cannot_be_written_is_refused_before_the_work(clip, tmp_path):
    with pytest.raises(InputError, match=r"it ends in \.avi, and \.mp4 is written; name it x\.mp4"):
        VideoSettings(output_video="x.avi")
    output = tmp_path / "out.mp4"
    output.write_bytes(b"of somebody else")
    for resume in (False, True):
        with pytest.raises(MachineError, match=r"the output exists .*replace it with --overwrite"):
            transfer.run(config(), settings(clip, output), resume=resume)
    assert output.read_bytes() == b"of somebody else"
    with pytest.raises(InputError, match="the output would replace the input"):
        transfer.run(config(), settings(clip, clip), overwrite=True)
    with pytest.raises(MachineError, match="it is a folder"):
        (tmp_path / "folder.mp4").mkdir()
        transfer.run(config(), settings(clip, tmp_path / "folder.mp4"))


def test_VID_03_overwrite_replaces_a_file(clip, tmp_path):
    output = tmp_path / "out.mp4"
    output.write_bytes(b"of somebody else")
    transfer.run(config(num_iterations=0), settings(clip, output), overwrite=True)
    assert len(decoded(output)[0]) == 5


def test_VID_07_odd_sides_other_sound_and_none(clip, tmp_path):
    """An AVI of 65x47 with PCM sound, which MP4 does not hold; then without sound."""
    done = ffmpeg_run(
        "-i", clip, "-vf", "crop=65:47:0:0", "-pix_fmt", "yuv444p", "-c:v", "ffv1",
        "-c:a", "pcm_u8", tmp_path / "a.avi",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    quick = config(num_iterations=0, image_size="content")
    output = tmp_path / "a.mp4"
    transfer.run(quick, settings(tmp_path / "a.avi", output, frame_iterations=0))
    assert decoded(output)[0][0].shape == (46, 64, 3)
    assert ["aac" in line for line in streams(output) if "Audio" in line] == [True]
    ffmpeg_run("-i", clip, "-an", "-c:v", "copy", tmp_path / "b.mp4")
    output = tmp_path / "c.mp4"
    transfer.run(quick, settings(tmp_path / "b.mp4", output, frame_iterations=0))
    assert len(streams(output)) == 1 and len(decoded(output)[0]) == 5


def test_VID_08_two_runs_of_one_output_do_not_meet(clip, tmp_path):
    output = tmp_path / "out.mp4"
    with (
        files.lock_directory(run_folder(output)),
        pytest.raises(MachineError, match="another run writes there"),
    ):
        transfer.run(config(), settings(clip, output))


def test_VID_09_a_video_that_ends_before_its_time_is_stylized_up_to_there(tmp_path, clip):
    done = ffmpeg_run("-i", clip, "-an", "-c:v", "mjpeg", "-q:v", "2", tmp_path / "whole.avi")
    assert done.returncode == 0, done.stderr
    data = (tmp_path / "whole.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(data[: data.rfind(b"00dc", 0, len(data) * 3 // 5)])
    output = tmp_path / "out.mp4"
    quick = config(num_iterations=0)
    result = transfer.run(quick, settings(tmp_path / "cut.avi", output, frame_iterations=0))
    assert 0 < result.frames < 5 and len(decoded(output)[0]) == result.frames


def test_frames_are_read_one_at_a_time_and_colors_are_right(tmp_path):
    color = np.zeros((32, 48, 3), np.uint8)
    color[:, :24], color[:, 24:] = (200, 40, 40), (40, 60, 220)
    ffmpeg.encode(tmp_path / "v.mp4", [color] * 3, Fraction(25))
    info = video_frames.inspect(tmp_path / "v.mp4")
    assert info == video_frames.VideoInfo((32, 48), Fraction(25), 3)
    frames = video_frames.read(tmp_path / "v.mp4", (32, 48), first=2)
    (frame,) = frames
    assert np.abs(frame[:, 4:20] - [200, 40, 40]).max() < 6
    assert np.abs(frame[:, 28:44] - [40, 60, 220]).max() < 6


# The command


def run_command(*flags):
    return subprocess.run(
        [sys.executable, "-m", "nst_tf.video", *map(str, flags)],
        capture_output=True, text=True, env=environment(), timeout=300,
    )  # fmt: skip


@pytest.mark.slow
def test_the_command_makes_a_video(clip, tmp_path):
    output = tmp_path / "out.mp4"
    flags = [
        f"--content_video={clip}", f"--style_image={STYLE}", f"--output-video={output}",
        "--image_size=66", "--num_iterations=1", "--frame_iterations=1", "--pyramid=none",
        "--init=content",
    ]  # fmt: skip
    done = run_command(*flags)
    assert (done.returncode, done.stderr) == (0, "")
    assert "5 frames of 66x48 at 29.97 per second" in done.stdout
    assert "a scene begins at frame 4" in done.stdout
    assert "5 frames, 2 scenes, flicker" in done.stdout.splitlines()[-1]
    assert len(decoded(output)[0]) == 5
    done = run_command(*flags, "--resume")
    assert (done.returncode, done.stdout) == (0, "nothing to do: the video is finished\n")


@pytest.mark.parametrize(
    ("flags", "code", "text"),
    [
        (["--content_video=none.mp4", f"--style_image={STYLE}"], 2, "no such file"),
        (["--content_video=none.mp4"], 2, "style_image is missing"),
        ([f"--style_image={STYLE}"], 2, "content_video is missing"),
        (
            ["--content_video=a.mp4", f"--style_image={STYLE}", "--config=masks.yaml"],
            2,
            "content_masks do not go with a video",
        ),
        (["clip.mp4", "a.jpg"], 2, "unexpected argument 'clip.mp4'"),
        (["--content_image=a.jpg"], 2, "did you mean '--content_video'?"),
        (["--save_iter=3"], 2, "unknown flag --save_iter"),
        (["--output_video=x.gif"], 2, "it ends in .gif, and .mp4 is written"),
        (["--temporal_weight=-1"], 2, "temporal_weight cannot be -1 (--temporal_weight)"),
    ],
)
def test_VID_10_wrong_flags_are_refused_in_one_line(
    tmp_path, monkeypatch, capsys, flags, code, text
):
    from nst_tf.cli import videos

    monkeypatch.chdir(tmp_path)
    (tmp_path / "masks.yaml").write_text("content_masks: m.png\n")
    assert videos.main(flags) == code
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and text in captured.err


def test_the_help_has_the_settings_that_apply_and_no_others(capsys):
    from nst_tf.cli import videos

    assert videos.main(["--help"]) == 0
    names = {line.split()[0] for line in capsys.readouterr().out.splitlines() if "  --" in line}
    assert {"--content_video", "--temporal_weight", "--style_weight", "--resume"} <= names
    assert not {"--content_image", "--output_image", "--timelapse", "--workers"} & names


def test_a_signal_keeps_the_finished_frames(clip, tmp_path, capsys):
    import signal

    from nst_tf.cli import videos

    output = tmp_path / "out.mp4"
    received = [signal.SIGTERM]
    flags = [
        f"--content_video={clip}", f"--style_image={STYLE}", f"--output_video={output}",
        "--image_size=66", "--num_iterations=1", "--pyramid=none", "--init=content",
    ]  # fmt: skip
    assert videos.execute(flags, received) == 128 + signal.SIGTERM
    assert capsys.readouterr().err == (
        "stopped: 0 frames are finished; the same command with --resume goes on\n"
    )
