"""The engine: images in, a stylized image out."""

import dataclasses
import doctest
import gc
import pickle
import weakref
from collections import Counter

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import nst_tf
from nst_tf import events, optimizers, system
from nst_tf.config import Config
from nst_tf.engine import levels
from nst_tf.engine import stylizer as stylizer_module
from nst_tf.engine.levels import LevelBuilder
from nst_tf.errors import InputError, MachineError
from nst_tf.events import Iteration, Preview, Scoring
from nst_tf.image.arrays import quantize
from nst_tf.image.resize import resize
from nst_tf.models.weights import Parameters
from nst_tf.objective.graphs import Objective
from nst_tf.optimizers import StopReason
from tests import tiny_network
from tests.command import PALACE, STYLE


@pytest.fixture
def content(random):
    return np.kron(random.uniform(0, 255, (6, 10, 3)), np.ones((4, 4, 1)))


@pytest.fixture
def style(random):
    return np.kron(random.uniform(0, 255, (9, 6, 3)), np.ones((3, 3, 1)))


def settings(**changes):
    """The plainest run: one level, from the content, in float32, without a margin."""
    plain = {"image_size": 40, "num_iterations": 5, "pyramid": "none", "init": "content"}
    return Config(**plain | {"precision": "float32", "margin": 0} | changes)


@pytest.fixture(scope="module")
def living(tiny_features):
    """Keeps alive what most tests compute with: as long as a Stylizer lives, its graphs serve."""
    found = [
        nst_tf.Stylizer(settings(init=init), network=tiny_features) for init in ("content", "adain")
    ]
    image = np.zeros((40, 40, 3), np.uint8)
    for stylizer in found:
        stylizer(image, image)
    return found


@pytest.fixture
def stylize(living, tiny_features):
    """Calls `nst_tf.stylize` with a tiny network, unless weights of VGG19 are given."""

    def call(content, style, config, **options):
        network = None if "weights" in options else tiny_features
        return nst_tf.stylize(content, style, config, network=network, **options)

    return call


@pytest.fixture
def losses_of(tiny_features):
    """Evaluates the loss of an image with the tiny network."""

    def call(image, content, style, config):
        return nst_tf.Stylizer(config, network=tiny_features).losses(image, content, style)

    return call


def iterations(seen):
    """Returns a callback that collects iterations alone."""

    def callback(event):
        if isinstance(event, events.Iteration):
            seen.append(event)

    return callback


def test_the_examples_of_the_docstrings():
    found = doctest.testmod(stylizer_module)
    assert found.attempted > 5
    assert found.failed == 0


def test_prints_nothing_and_writes_nothing_however_often(
    content, style, stylize, tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    for size in (36, 40, 44, 48, 52, 56):  # TensorFlow warns of functions that are traced often
        stylize(content, style, settings(num_iterations=1, image_size=size))
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_the_same_call_gives_the_same_bits(content, style, stylize):
    config = settings(init="noise", seed=3)
    first, again = (stylize(content, style, config) for _ in range(2))
    np.testing.assert_array_equal(first.image, again.image)
    other = stylize(content, style, settings(init="noise", seed=4))
    assert np.abs(other.image - first.image).max() > 1


@pytest.mark.parametrize("bounds", [True, False])
def test_the_image_lies_in_the_pixel_range_and_its_loss_is_that_of_8_bits(
    content, style, stylize, losses_of, bounds
):
    config = settings(bounds=bounds, style_weight=1e6)
    found = stylize(content, style, config)
    assert found.image.dtype == np.float32
    assert found.image.min() >= 0.0
    assert found.image.max() <= 255.0
    rounded = np.rint(found.image)
    assert found.losses.terms == losses_of(rounded, content, style, config).terms
    assert found.losses.total != losses_of(found.image, content, style, config).total


def test_bounds_are_kept_all_the_while_unless_they_are_off(content, style, stylize):
    def extremes(bounds):
        seen = []
        config = settings(bounds=bounds, style_weight=1e6, num_iterations=8)
        stylize(content, style, config, callbacks=[iterations(seen)])
        images = [event.image for event in seen]
        return min(x.min() for x in images), max(x.max() for x in images)

    lowest, highest = extremes(True)
    assert lowest >= 0.0
    assert highest <= 255.0
    lowest, highest = extremes(False)
    assert lowest < 0.0
    assert highest > 255.0


def test_the_loss_falls_and_is_reported_iteration_by_iteration(content, style, stylize, losses_of):
    seen = []
    found = stylize(content, style, settings(), callbacks=[iterations(seen)])
    assert [event.iteration for event in seen] == [1, 2, 3, 4, 5]
    assert {event.num_iterations for event in seen} == {5}
    assert seen[-1].losses.total < 0.9 * seen[0].losses.total
    for event in (seen[0], seen[-1]):
        expected = losses_of(event.image, content, style, settings())
        assert expected.total == pytest.approx(event.losses.total, rel=1e-5)
    assert found.iterations == 5
    assert found.stop_reason is StopReason.NUM_ITERATIONS


def test_a_callback_can_end_it(content, style, stylize):
    def at_the_second(event):
        return isinstance(event, events.Iteration) and event.iteration == 2

    found = stylize(content, style, settings(), callbacks=[at_the_second])
    assert found.iterations == 2
    assert found.stop_reason is StopReason.STOPPED


def test_it_can_be_asked_to_stop_after_an_evaluation(content, style, stylize):
    asked = []
    found = stylize(content, style, settings(), should_stop=lambda: bool(asked.append(0)) or True)
    assert (found.iterations, found.evaluations) == (0, 1)
    assert found.stop_reason is StopReason.STOPPED
    assert found.failure == ""


def test_results_and_events_are_plain_data(content, style, stylize):
    seen = []
    found = stylize(content, style, settings(), callbacks=[seen.append])
    copy = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(copy.image, found.image)
    assert copy.losses == found.losses
    assert copy.stop_reason is found.stop_reason
    assert len(pickle.dumps(found)) < 3 * found.image.nbytes
    assert seen.pop() == Scoring()
    preview, *rest = (pickle.loads(pickle.dumps(event)) for event in seen)
    np.testing.assert_array_equal(preview.image, content.astype(np.float32))
    for event, original in zip(rest, seen[1:], strict=True):
        np.testing.assert_array_equal(event.image, original.image)
        assert event.losses == original.losses
        with pytest.raises(ValueError, match="pickled"):
            event.state()


def test_CMD_14_without_a_score_the_losses_are_the_optimizer_s_own(content, style, stylize):
    seen = []
    config = settings(score=False, num_iterations=3)
    found = stylize(content, style, config, callbacks=[seen.append])
    assert [type(event) for event in seen] == [Preview] + 3 * [Iteration]
    assert found.losses == min((event.losses for event in seen[1:]), key=lambda each: each.total)
    scored = stylize(content, style, config.replace(score=True))
    assert scored.losses.total == pytest.approx(found.losses.total, rel=0.05)
    assert scored.losses != found.losses  # of the rounded image
    start = stylize(content, style, config.replace(num_iterations=0))
    np.testing.assert_array_equal(start.image, content.astype(np.float32))
    assert start.losses.content == 0 and start.losses.style > 0


def start_of(stylize, content, style, **changes):
    """Returns the image that a run starts from."""
    return stylize(content, style, settings(num_iterations=0, **changes)).image


def test_starts_from_the_content(content, style, stylize):
    np.testing.assert_array_equal(start_of(stylize, content, style), content.astype(np.float32))


def test_starts_from_the_style_unstretched(style, content, stylize):
    start = start_of(stylize, content, style, init="style", image_size=40, margin=8)
    assert start.shape == (24, 40, 3)
    # The style, 27x18, covers 24x40 when it is 60x40; its middle rows are 18 to 42.
    expected = resize(resize(style.astype(np.float32), (40, 27)), (60, 40))[18:42]
    assert np.abs(start - expected).mean() < 3.0


def test_starts_from_seeded_noise(content, style, stylize):
    first = start_of(stylize, content, style, init="noise", seed=1)
    again = start_of(stylize, content, style, init="noise", seed=1)
    other = start_of(stylize, content, style, init="noise", seed=2)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).mean() > 1
    assert first.std() > 1


def test_starts_from_a_given_image(content, style, stylize, random):
    start = random.uniform(0, 255, (24, 40, 3)).astype(np.float32)
    for init in ("content", "adain", "noise"):
        config = settings(num_iterations=0, init=init)
        found = stylize(content, style, config, initial=start)
        np.testing.assert_array_equal(found.image, start)


def test_starts_from_a_file_which_is_read_once(content, style, stylize, random, tmp_path):
    colors = random.integers(0, 256, (24, 40, 3), np.uint8)
    alpha = np.repeat(np.uint8([0, 255]), 20) * np.ones((24, 1), np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(np.dstack([colors, alpha])).save(path)
    config = settings(init=path, background="black", num_iterations=0)
    found = stylize(content, style, config)
    np.testing.assert_array_equal(found.image, np.where(alpha[:, :, np.newaxis], colors, 0))

    def remove(event):
        path.unlink(missing_ok=True)

    stylize(content, style, config.replace(pyramid="36:1"), callbacks=[remove])
    assert not path.exists()


@pytest.mark.parametrize(
    ("smallest", "changes"),
    [(8, {"padding": "reflect"}), (8, {"padding": "replicate"}), (8, {"padding": "zero"}),
     (16, {"init": "adain"})],
)  # fmt: skip
def test_the_smallest_images_that_are_allowed_are_stylized(parameters, random, smallest, changes):
    layers = {"content_layers": ["block1_conv1"], "style_layers": ["block4_conv1"]}
    image = random.uniform(0, 255, (smallest, 17, 3))
    config = settings(image_size=17, **layers | changes)
    found = nst_tf.stylize(image, image, config, weights=parameters)
    assert found.image.shape == (smallest, 17, 3)
    assert np.isfinite(found.losses.total)


def test_a_list_of_one_style_is_that_style(content, style, stylize):
    alone = stylize(content, style, settings())
    listed = stylize(content, [style], settings())
    np.testing.assert_array_equal(alone.image, listed.image)


def test_images_may_be_arrays_tensors_pil_images_and_paths(stylize):
    config = settings(num_iterations=1)
    expected = stylize(PALACE, str(STYLE), config).image
    opened = [Image.open(path) for path in (PALACE, STYLE)]
    arrays = [np.asarray(image) for image in opened]
    tensors = [tf.constant(array) for array in arrays]
    for images in (opened, arrays, tensors):
        np.testing.assert_array_equal(stylize(*images, config).image, expected)


@pytest.mark.parametrize("method", ["lbfgs", "l-bfgs-b", "bfgs", "adam"])
def test_every_method_lowers_the_loss(content, style, stylize, losses_of, method):
    config = settings(image_size=20, content_layers=["block3_conv1"],
                      style_layers=["block1_conv1", "block2_conv1"], optimizer=method)  # fmt: skip
    found = stylize(content, style, config)
    start = resize(content.astype(np.float32), (12, 20))
    assert found.losses.total < 0.9 * losses_of(start, content, style, config).total


def test_IMG_44_an_image_of_one_color_is_finished(style, stylize, losses_of):
    flat = np.full((24, 40, 3), 200.0)
    found = stylize(flat, style, settings())
    assert np.isfinite(found.losses.total)
    assert found.losses.total < losses_of(flat, flat, style, settings()).total


@pytest.mark.parametrize(
    ("array", "why"),
    [
        (np.zeros((24, 3)), "shape [24, 3]"),
        (np.zeros((24, 40, 4)), "shape [24, 40, 4]"),
        (np.zeros((0, 40, 3)), "shape [0, 40, 3]"),
        (np.full((24, 40, 3), 256.0), "values from 256 to 256"),
        (np.full((24, 40, 3), np.nan), "values from nan to nan"),
        (np.linspace(0, 1, 24 * 40 * 3).reshape(24, 40, 3), "multiply by 255"),
    ],
)
def test_what_is_no_image_is_refused(content, style, stylize, array, why):
    for images in ((array, style), (content, array), (content, [style, array])):
        with pytest.raises(InputError) as error:
            stylize(*images, settings())
        assert why in str(error.value)


def test_input_errors_are_value_errors(content, stylize):
    with pytest.raises(ValueError, match="no style image"):
        stylize(content, [], settings())


def test_blend_weights_that_do_not_fit_the_styles_are_refused(content, style, stylize):
    config = settings(style_blend_weights=[1.0, 2.0])
    with pytest.raises(InputError, match=r"2 weights for 1 style image"):
        stylize(content, style, config)


def test_optimizes_level_by_level_and_counts_over_all_levels(content, style, stylize):
    seen = []
    config = settings(image_size=64, pyramid="32:3,48:2", num_iterations=4)
    found = stylize(content, style, config, callbacks=[iterations(seen)])
    assert [event.image.shape[1] for event in seen] == [32] * 3 + [48] * 2 + [64] * 4
    assert [event.width for event in seen] == [32] * 3 + [48] * 2 + [64] * 4
    assert [event.iteration for event in seen] == list(range(1, 10))
    assert found.iterations == 9
    # By hand: 32x19, 48x29 and 64x38 pixels, 3, 2 and 4 times.
    work = 3 * 32 * 19 + 2 * 48 * 29 + 4 * 64 * 38
    assert seen[0].done == pytest.approx(32 * 19 / work)
    assert seen[3].done == pytest.approx((3 * 32 * 19 + 48 * 29) / work)
    assert seen[-1].done == 1.0
    assert seen[0].seconds_left > 0.0 == seen[-1].seconds_left
    evaluations = [event.evaluations for event in seen]
    assert evaluations == sorted(set(evaluations))
    assert found.evaluations == evaluations[-1]
    assert found.image.shape == (38, 64, 3)


def test_the_feed_forward_image_comes_first_and_at_full_size(content, style, stylize):
    seen = []
    config = settings(image_size=64, pyramid="32:3", init="adain", num_iterations=1)
    stylize(content, style, config, callbacks=[seen.append])
    assert seen.pop() == Scoring()
    assert [event.image.shape[:2] for event in seen] == [(38, 64)] + [(19, 32)] * 3 + [(38, 64)]
    instant = stylize(content, style, settings(image_size=64, init="adain", num_iterations=0))
    np.testing.assert_array_equal(seen[0].image, instant.image)


def test_features_shared_with_the_network_of_the_losses_give_the_same_start(
    content, style, stylize, parameters
):
    config = settings(image_size=64, init="adain", num_iterations=0)
    shared = nst_tf.stylize(content, style, config, weights=parameters)
    apart = stylize(content, style, config)  # another network: AdaIN has its own encoder
    np.testing.assert_allclose(shared.image, apart.image, atol=0.05)


def test_detail_that_a_coarse_level_cannot_represent_comes_from_the_feed_forward_image(
    content, style, stylize
):
    seen = {}
    for init in ("adain", "content"):
        config = settings(image_size=64, pyramid="32:3", init=init, num_iterations=1)
        seen[init] = []
        stylize(content, style, config, callbacks=[iterations(seen[init])])

    def fine(image):
        return np.abs(image - resize(resize(image, (19, 32)), (38, 64))).mean()

    assert fine(seen["adain"][3].image) > 1.5 * fine(seen["content"][3].image)
    # What the coarse level found stays.
    coarse = resize(seen["adain"][2].image, (19, 32))
    upsampled = resize(seen["adain"][3].image, (19, 32))
    assert np.abs(upsampled - coarse).mean() < 12.0


def test_a_level_starts_from_the_image_of_the_one_before(content, style, stylize):
    seen = []
    config = settings(image_size=64, pyramid="32:6", num_iterations=1, style_weight=1e4)
    stylize(content, style, config, callbacks=[iterations(seen)])
    upsampled = resize(seen[5].image, (38, 64))
    # A first step changes no pixel by more than two gray levels.
    assert np.abs(seen[6].image - upsampled).max() < 2.1
    assert np.abs(seen[6].image - resize(content.astype(np.float32), (38, 64))).max() > 9


def test_a_callback_that_ends_it_on_a_coarse_level_gets_the_full_size(content, style, stylize):
    config = settings(image_size=64, pyramid="32:3")
    found = stylize(content, style, config, callbacks=[lambda event: True])
    assert found.iterations == 1
    assert found.image.shape == (38, 64, 3)
    assert np.isfinite(found.losses.total)


@pytest.mark.parametrize("iteration", [2, 3, 5])
def test_continues_from_a_state_to_the_same_bits(content, style, stylize, iteration):
    config = settings(image_size=64, pyramid="32:3", num_iterations=4, init="noise")
    states = {}
    whole = stylize(
        content, style, config,
        callbacks=[lambda e: states.update({e.iteration: e.state()})
                   if isinstance(e, events.Iteration) else None],
    )  # fmt: skip
    state = pickle.loads(pickle.dumps(states[iteration]))
    continued = stylize(content, style, config, state=state)
    np.testing.assert_array_equal(continued.image, whole.image)
    assert (continued.iterations, continued.evaluations) == (whole.iterations, whole.evaluations)
    assert continued.losses == whole.losses


@pytest.mark.slow
def test_bfloat16_finds_an_image_of_nearly_the_same_loss(content, style, parameters):
    losses = {}
    for precision in ("float32", "bfloat16"):
        config = settings(precision=precision, num_iterations=15)
        found = nst_tf.stylize(content, style, config, weights=parameters)
        assert found.precision == precision
        losses[precision] = found.losses.total
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.1)


def test_the_loss_reported_is_float32_whatever_the_precision(content, style, parameters):
    low = nst_tf.stylize(content, style, settings(precision="bfloat16"), weights=parameters)
    high = nst_tf.Stylizer(settings(precision="float32"), weights=parameters)
    assert low.losses.terms == high.losses(quantize(low.image), content, style).terms


def test_goes_on_in_float32_where_bfloat16_finds_no_step(content, style, parameters):
    # From an image that float32 has long been at, the noise of bfloat16 hides every step.
    shallow = {"content_layers": "block2_conv1", "style_layers": "block1_conv1,block2_conv1"}
    config = settings(num_iterations=60, style_weight=1e3, **shallow)
    stylizer = nst_tf.Stylizer(config, weights=parameters)
    start = stylizer(content, style).image
    found = nst_tf.stylize(
        content,
        style,
        settings(precision="bfloat16", num_iterations=30, style_weight=1e3, **shallow),
        initial=start,
        weights=parameters,
    )
    before = stylizer.losses(start, content, style).total
    assert stylizer.losses(found.image, content, style).total <= before


@pytest.mark.parametrize(("pyramid", "precision"), [("none", "float32"), ("32:3", "bfloat16")])
def test_float32_helps_out_at_the_last_level_only(
    content, style, parameters, monkeypatch, pyramid, precision
):
    # The first level is made to end where bfloat16 sees no step, before its iterations are done.
    minimize = optimizers.minimize
    ended = []

    def ends_early(function, initial, **given):
        found = minimize(function, initial, **given | {"max_iterations": 2})
        ended.append(found)
        reason = StopReason.LINE_SEARCH if len(ended) == 1 else found.stop_reason
        return dataclasses.replace(found, stop_reason=reason)

    monkeypatch.setattr(optimizers, "minimize", ends_early)
    config = settings(precision="bfloat16", num_iterations=4, pyramid=pyramid)
    found = nst_tf.stylize(content, style, config, weights=parameters)
    assert len(ended) == 2
    assert found.precision == precision


def test_touches_neither_the_precision_nor_the_seeds_of_the_caller(content, style, parameters):
    policy = keras.config.dtype_policy().name
    seeds = tf.random.get_global_generator().state.numpy()
    numpy_state = np.random.get_state()[1].copy()
    config = settings(precision="bfloat16", init="adain")
    nst_tf.stylize(content, style, config, weights=parameters)
    assert keras.config.dtype_policy().name == policy
    np.testing.assert_array_equal(tf.random.get_global_generator().state.numpy(), seeds)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)


def test_stylizers_of_a_network_compute_a_style_once_for_each_size(content, style, monkeypatch):
    computed = []
    style_features = Objective.style_features

    def counted(self, image, *others):
        computed.append(tuple(image.shape))
        return style_features(self, image, *others)

    monkeypatch.setattr(Objective, "style_features", counted)
    config = settings(image_size=64, pyramid="32:1", num_iterations=1)
    network = tiny_network.tiny_features()
    stylizer = nst_tf.Stylizer(config, network=network)
    first = stylizer(content, style)
    assert len(computed) == 2  # one for each level
    again = stylizer(content, style.copy())
    assert len(computed) == 2
    np.testing.assert_array_equal(first.image, again.image)
    stylizer(content, style[::-1])
    assert len(computed) == 4
    other = nst_tf.Stylizer(config.replace(style_weight=1e6), network=network)
    assert other(content, style).losses.style > first.losses.style
    assert len(computed) == 4
    nst_tf.Stylizer(config, network=tiny_network.tiny_features(seed=2))(content, style)
    assert len(computed) == 6


def test_equal_networks_and_graphs_are_shared_by_stylizers(weights):
    parameters = Parameters(weights, "a" * 64)
    one, other = (
        nst_tf.Stylizer(settings(style_weight=weight), weights=parameters) for weight in (1e4, 1e5)
    )
    shared = one._networks.objective("float32")
    assert other._networks.objective("float32") is shared
    average = nst_tf.Stylizer(settings(pooling="average"), weights=parameters)
    assert average._networks.objective("float32") is not shared


def test_another_network_with_named_layers_takes_the_place_of_vgg19(content, style):
    vgg16 = keras.applications.VGG16(weights=None, include_top=False, input_shape=(None, None, 3))
    with pytest.raises(InputError, match="unknown layer 'block3_conv4'; did you mean"):
        nst_tf.stylize(content, style, settings(style_layers="block3_conv4"), network=vgg16)
    config = settings(style_layers="block1_conv1,block3_conv3", content_layers="block2_conv2")
    found = nst_tf.stylize(content, style, config, network=vgg16)
    assert set(found.losses.terms) == {
        "content/block2_conv2", "style/block1_conv1", "style/block3_conv3", "grain"
    }  # fmt: skip
    with pytest.raises(InputError, match="block3_conv3 needs a shorter side of at least 4"):
        nst_tf.stylize(content, style, config.replace(image_size=5), network=vgg16)


def test_memory_that_runs_out_is_an_error_of_ours(content, style, stylize, monkeypatch):
    def exhausted(*_, **__):
        tf.zeros((2**20, 2**20, 2**10))  # four petabytes

    monkeypatch.setattr(optimizers, "minimize", exhausted)
    with pytest.raises(MachineError, match="memory ran out"):
        stylize(content, style, settings())


def test_an_evaluated_image_of_another_size_is_refused(content, style, losses_of):
    with pytest.raises(InputError, match="it has 40x24 pixels, the result 64x38"):
        losses_of(content, content, style, settings(image_size=64))


def test_calls_leave_no_reference_cycles_that_hold_images(content, style, tiny_features):
    names = {"LevelBuilder", "MultiscaleOptimizer", "LossFunction", "Inputs", "Iteration"}

    def alive():
        return Counter(
            type(each).__name__ for each in gc.get_objects() if type(each).__name__ in names
        )

    stylizer = nst_tf.Stylizer(settings(num_iterations=2), network=tiny_features)
    stylizer(content, style)
    gc.collect()
    gc.disable()
    try:
        before = alive()
        stylizer(content, style, callbacks=[lambda event: None])
        assert alive() == before
    finally:
        gc.enable()


def test_calls_in_a_row_share_networks_and_graphs(content, style):
    config = settings(
        num_iterations=0, style_layers=["block1_conv1"], content_layers=["block1_conv2"]
    )

    def models():
        return sum(isinstance(each, keras.Model) for each in gc.get_objects())

    nst_tf.stylize(content, style, config)
    gc.collect()
    gc.disable()
    try:
        before = models()
        nst_tf.stylize(content, style, config)
        assert models() == before
    finally:
        gc.enable()


def test_the_image_that_a_level_starts_from_is_let_go(content, style, monkeypatch):
    taken, alive = [], []
    take = LevelBuilder.take_initial_image

    def spied(self, level):
        image = take(self, level)
        taken.append(weakref.ref(image))
        return image

    monkeypatch.setattr(LevelBuilder, "take_initial_image", spied)

    def look(event):
        if isinstance(event, Iteration):
            alive.append(taken[0]() is not None)

    config = Config(image_size=64, num_iterations=2, pyramid="none", score=False)
    nst_tf.stylize(content, style, config, callbacks=[look])
    assert alive == [False, False]


def test_the_arrays_of_a_state_are_let_go(content, style):
    """All of them: they are views of one file where a job continues."""
    config = Config(image_size=64, num_iterations=4, pyramid="none", init="content", score=False)
    states, kept, alive = [], [], []

    def keep(event):
        if isinstance(event, Iteration) and event.iteration == 2:
            states.append(event.state())

    def look(event):
        if isinstance(event, Iteration):
            alive.append([name for name, each in kept if each() is not None])

    whole = nst_tf.stylize(content, style, config, callbacks=[keep])
    arrays = {"image": states[0].image, **states[0].optimizer_state}
    kept += [(name, weakref.ref(array)) for name, array in arrays.items()]
    del arrays
    call = nst_tf.Stylizer(config).__call__  # as jobs do it; otherwise Python keeps the arguments
    resumed = call(content, style, callbacks=[look], state=states.pop())
    assert alive == [[], []]
    np.testing.assert_array_equal(resumed.image, whole.image)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_network_of_ones_own_has_its_own_precision(content, style, precision):
    other = {"float32": "bfloat16", "bfloat16": "float32"}[precision]
    config = Config(image_size=32, num_iterations=1, pyramid="none", init="content",
                    precision=other)  # fmt: skip
    stylizer = nst_tf.Stylizer(config, network=tiny_network.tiny_features(precision))
    assert stylizer.precision == stylizer(content, style).precision == precision


@pytest.mark.parametrize("settings", [{"pyramid": "none"}, {"pyramid": "48:1", "init": "content"}])
def test_the_image_of_a_preview_is_let_go(content, style, settings):
    shown, alive = [], []

    def look(event):
        if isinstance(event, Preview):
            shown.append(weakref.ref(event.image))
        elif isinstance(event, Iteration) and max(event.height, event.width) == 64:
            alive.append(shown[0]() is not None)

    config = Config(image_size=64, num_iterations=2, score=False, **settings)
    nst_tf.stylize(content, style, config, callbacks=[look])
    assert alive == [False, False]


def test_statistics_of_styles_take_limited_memory(content, style, monkeypatch):
    config = Config(image_size=32, num_iterations=0, init="content", score=False)
    stylizer = nst_tf.Stylizer(config, network=tiny_network.tiny_features())
    monkeypatch.setattr(levels, "_MOST_STYLE_BYTES", 10_000)
    for change in range(30):
        stylizer(content, style * (1 - change / 100))
    kept = [leaf for each in stylizer._styles._features.values() for leaf in tf.nest.flatten(each)]
    assert 5_000 < sum(leaf.numpy().nbytes for leaf in kept if leaf is not None) <= 10_000


def test_freed_memory_goes_back_every_twenty_evaluations(content, style, monkeypatch):
    released = []
    monkeypatch.setattr(system, "release_memory", lambda: released.append(len(seen)))
    seen = []

    def count(event):
        if isinstance(event, Iteration):
            seen.append(event.evaluations)

    config = Config(image_size=32, num_iterations=50, pyramid="none", init="content", score=False)
    result = nst_tf.stylize(content, style, config, callbacks=[count])
    during = [iterations for iterations in released if iterations]
    assert len(during) == result.evaluations // 20 >= 2
