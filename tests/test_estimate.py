"""The estimate of memory and time."""

from types import SimpleNamespace

import pytest

from nst_tf import system
from nst_tf.config import Config
from nst_tf.engine.pyramid import Level
from nst_tf.errors import MachineError
from nst_tf.jobs import estimate
from nst_tf.jobs.estimate import ResourceEstimate


@pytest.fixture(autouse=True)
def speed(monkeypatch):
    """A processor of 100 GFLOP/s with AVX-512 and without a GPU."""
    monkeypatch.setattr(estimate, "_flop_per_second", lambda: 1e11)
    monkeypatch.setattr(system, "is_x86_without_avx512", lambda: False)
    monkeypatch.setattr(system, "may_have_gpu", lambda: False)


def level(height=400, width=600, num_iterations=10, style=(300, 500)):
    return Level((height, width), (style,), num_iterations)


CONFIG = Config(precision="float32")


def test_memory_grows_with_the_image_the_largest_style_and_the_optimizer():
    base = estimate.estimate([level()], CONFIG).memory_bytes
    assert 1.7e9 < base < 2.5e9
    larger = estimate.estimate([level(height=600)], CONFIG).memory_bytes
    assert larger - base == pytest.approx(200 * 600 * (3300 + 20 + 9 * 24))
    styles = Level((400, 600), ((30, 20), (600, 500)), 10)
    assert estimate.estimate([styles], CONFIG).memory_bytes - base == 300 * 500 * 900
    adam = estimate.estimate([level()], CONFIG.replace(optimizer="adam")).memory_bytes
    assert adam < base
    # Each evaluation but the first two adds a step and a change of the gradient, twenty at most.
    more = [estimate.estimate([level(num_iterations=n)], CONFIG).memory_bytes for n in (21, 99)]
    assert more[0] - base == pytest.approx(400 * 600 * 11 * 24)
    assert more[0] == more[1]


@pytest.mark.parametrize(("without_avx512", "per_pixel"), [(True, 3300), (False, 1000)])
def test_memory_of_large_images_depends_on_the_processor(monkeypatch, without_avx512, per_pixel):
    monkeypatch.setattr(system, "is_x86_without_avx512", lambda: without_avx512)
    one, larger = (
        estimate.estimate([level(height=height)], CONFIG).memory_bytes for height in (1000, 1400)
    )
    assert larger - one == pytest.approx(400 * 600 * (per_pixel + 20 + 9 * 24))


def test_ENV_15_decoding_counts_where_it_is_the_peak():
    base = estimate.estimate([level()], CONFIG).memory_bytes
    assert estimate.estimate([level()], CONFIG, 24_000_000).memory_bytes == base
    assert estimate.estimate([level()], CONFIG, 100_000_000).memory_bytes == 3_350_000_000


def test_time_is_that_of_all_evaluations_of_all_levels():
    one = estimate.estimate([level()], CONFIG)
    # 1.445 MFLOP for each of 240,000 pixels at 95 GFLOP/s
    assert one.seconds_per_evaluation == pytest.approx(240_000 * 1.445e6 / 95e9)
    more = estimate.estimate([level(num_iterations=30)], CONFIG)
    assert more.seconds - one.seconds == pytest.approx(20 * one.seconds_per_evaluation)
    both = estimate.estimate([level(200, 300, 20, (150, 250)), level(num_iterations=30)], CONFIG)
    without = estimate.estimate([level(200, 300, 0, (150, 250)), level(num_iterations=30)], CONFIG)
    assert both.seconds - without.seconds == pytest.approx(5 * one.seconds_per_evaluation)
    fast = estimate.estimate([level()], CONFIG.replace(precision="bfloat16"))
    assert fast.seconds_per_evaluation < one.seconds_per_evaluation


def test_time_is_also_that_of_targets_the_initial_image_and_the_score():
    config = CONFIG.replace(init="content", score=False)
    none = [level(num_iterations=0, style=(200, 300))]
    targets = estimate.estimate(none, config)
    # Half an evaluation of the image, and of a style of a quarter of its pixels; and that of the
    # initial image.
    unit = targets.seconds_per_evaluation
    assert targets.seconds == pytest.approx(8 + (0.5 * 1.25 + 1.0) * unit)
    scored = estimate.estimate(none, config.replace(score=True))
    assert scored.seconds - targets.seconds == pytest.approx(0.5 * unit)
    # It encodes both and decodes once, or twice where it keeps a part of the content.
    for strength, passes in ((1, 2.25), (0.65, 3.25)):
        initial = estimate.estimate(none, config.replace(init="adain", style_strength=strength))
        assert initial.seconds - targets.seconds == pytest.approx(0.35 * passes * unit)


def test_evaluations_take_longer_without_avx512(monkeypatch):
    before = estimate.estimate([level()], CONFIG).seconds_per_evaluation
    monkeypatch.setattr(system, "is_x86_without_avx512", lambda: True)
    found = estimate.estimate([level()], CONFIG).seconds_per_evaluation
    assert found / before == pytest.approx(95 / 60)


def test_passes_over_tiles_are_over_their_borders_too():
    config = CONFIG.replace(init="content", score=False, tile_size=240)
    found = estimate.estimate([level(480, 480, num_iterations=0, style=(240, 240))], config)
    # The borders add 1.2^2 - 1 to the image: a pass of two, then three of two; the style is small.
    pixels = 480 * 480 * 1.2**2
    unit = found.seconds_per_evaluation / (1.5 * pixels)
    assert found.seconds == pytest.approx(8 + (0.5 * (pixels + 240 * 240) + 1.5 * pixels) * unit)


def test_with_a_gpu_no_time_is_known_and_no_memory_refused(monkeypatch):
    monkeypatch.setattr(estimate, "_has_gpu", lambda config: True)
    found = estimate.estimate([level()], CONFIG)
    assert (found.seconds, found.seconds_per_evaluation) == (None, None)
    monkeypatch.setattr(system, "available_memory", lambda: 1)
    estimate.check_memory(found, 512, CONFIG)


def test_a_device_file_is_no_gpu_until_tensorflow_sees_one(monkeypatch):
    monkeypatch.setattr(system, "may_have_gpu", lambda: True)
    import tensorflow as tf

    for devices in ([], [SimpleNamespace(name="GPU:0")]):
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind, found=devices: found)
        known = estimate.estimate([level()], CONFIG).seconds is not None
        assert known == (devices == [])


def test_RUN_29_more_than_max_memory_is_refused(monkeypatch):
    needed = ResourceEstimate(9_200_000_000, 100.0, 1.0)
    monkeypatch.setattr(system, "available_memory", lambda: 64_000_000_000)
    estimate.check_memory(needed, 512, CONFIG.replace(max_memory=9_200_000_000))
    with pytest.raises(
        MachineError, match=r"3\.2 GB are available by max_memory; try --image_size=256$"
    ):
        estimate.check_memory(needed, 512, CONFIG.replace(max_memory=3_200_000_000))
    with pytest.raises(MachineError, match=r"raise it to 9200MB$"):
        estimate.check_memory(needed, 512, CONFIG.replace(max_memory="1GB"))


def test_RUN_29_the_refusal_names_the_size_that_would_fit(monkeypatch):
    needed = ResourceEstimate(9_200_000_000, 100.0, 1.0)
    monkeypatch.setattr(system, "available_memory", lambda: 9_200_000_000)
    estimate.check_memory(needed, 512, CONFIG)
    # A quarter of what grows with the pixels is left: half the side.
    monkeypatch.setattr(system, "available_memory", lambda: 3_200_000_000)
    with pytest.raises(MachineError, match=r"about 9\.2 GB, 3\.2 GB are .*--image_size=256"):
        estimate.check_memory(needed, 512, CONFIG)
    monkeypatch.setattr(system, "available_memory", lambda: 900_000_000)
    with pytest.raises(MachineError, match="free some memory"):
        estimate.check_memory(needed, 512, CONFIG)


def test_the_final_loss_takes_a_second_pass_where_there_is_a_margin():
    """That of the content without its margin, whose activations nothing has computed before."""

    def of_score(margin):
        levels = (Level((300, 400), ((300, 400),), 10, margin),)
        scored, plain = (
            estimate.estimate(levels, Config(image_size=400, margin=margin, score=score)).seconds
            for score in (True, False)
        )
        return scored - plain

    assert of_score(8) == pytest.approx(2 * of_score(0))
