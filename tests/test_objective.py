"""The objective: its terms, its gradient, its targets."""

import gc

import numpy as np
import pytest
import tensorflow as tf

import nst_tf
from nst_tf import losses
from nst_tf.config import Config, LossSettings
from nst_tf.errors import InputError
from nst_tf.models import vgg19_features
from nst_tf.models.layers import LAYERS
from nst_tf.objective import terms
from nst_tf.objective.function import batch
from nst_tf.objective.graphs import Objective
from nst_tf.objective.spec import JETS, ExtraLoss, ObjectiveSpec, spec_of, term_weights
from nst_tf.objective.targets import Fixed, Targets, blended_styles, downsampled, weight_tensors
from tests.gradient_ratio import gradient_ratio
from tests.numerical_gradient import gradient_error


@pytest.fixture
def images(random):
    """A content of 24x36 and two styles of its longer side, smooth as images are."""

    def smooth(height, width):
        coarse = random.uniform(0, 255, (height // 4 + 1, width // 4 + 1, 3))
        return np.kron(coarse, np.ones((4, 4, 1)))[:height, :width].astype(np.float32)

    return smooth(24, 36), smooth(36, 18), smooth(20, 36)


def function(network, content, *styles, **settings):
    """Returns the loss of images of the content's size."""
    alone = {"grain_weight": 0.0, **settings}
    config = Config(image_size=36, style_scale=1.0, init="content", **alone)
    return nst_tf.Stylizer(config, network=network).loss_function(content, list(styles))


def evaluated(function, image):
    """Returns the terms and the gradient at an image."""
    value, gradient = function(batch(image.astype(np.float32)))
    found = function.last_losses()
    assert float(value) == pytest.approx(found.total, rel=1e-6)
    return found, gradient.numpy()[0]


def activations(network, image):
    return {layer: maps.numpy() for layer, maps in network(batch(image)).items()}


def gram(maps):
    flat = maps.reshape(-1, maps.shape[-1]).astype(np.float64)
    return flat.T @ flat / len(flat)


@pytest.fixture(scope="module", params=["tiny", "vgg19"])
def network(request):
    if request.param == "tiny":
        return request.getfixturevalue("tiny_features")
    weights = request.getfixturevalue("weights")
    return vgg19_features(spec_of(LossSettings()).layers, weights)


def test_terms_equal_a_recomputation_from_the_activations(network, images):
    content, style, image = images[0], images[1], np.roll(images[0], 3, axis=1)
    F, P, S = (activations(network, each) for each in (image, content, style))

    def style_term(layer, weight):
        G, A = gram(F[layer]), gram(S[layer])
        return weight * np.mean((G - A) ** 2) / G.shape[0] ** 2

    across, down = np.diff(image, axis=1), np.diff(image, axis=0)
    expected = {
        "content/block4_conv2": 2.0 * 0.25 * np.mean((F["block4_conv2"] - P["block4_conv2"]) ** 2),
        "style/block1_conv1": style_term("block1_conv1", 3e4),
        "style/block3_conv1": style_term("block3_conv1", 3e4 * 4),
        "tv": 0.5 * (np.mean(across**2) + np.mean(down**2)),
    }
    found, _ = evaluated(
        function(
            network, content, style, content_weight=2.0, style_weight=3e4, tv_weight=0.5,
            content_layers={"block4_conv2": 0.25},
            style_layers={"block1_conv1": 1.0, "block3_conv1": 4.0},
        ),
        image,
    )  # fmt: skip
    assert dict(found.terms) == pytest.approx(expected, rel=1e-3)
    assert found.total == pytest.approx(sum(expected.values()), rel=1e-3)
    assert found.content == found.terms["content/block4_conv2"]
    assert found.style == found.terms["style/block1_conv1"] + found.terms["style/block3_conv1"]
    assert found.tv == found.terms["tv"]


@pytest.mark.parametrize("sign", [1, -1])
def test_gradient_is_the_numerical_one_and_a_flipped_sign_is_noticed(network, images, sign):
    content, style, _ = images
    loss = function(network, content, style, tv_weight=1e-2)
    image = 0.5 * content + 60.0
    _, gradient = evaluated(loss, image)
    error = gradient_error(lambda x: evaluated(loss, x)[0].total, sign * gradient, image,
                           step=0.02, directions=5)  # fmt: skip
    assert (error < 2e-2) == (sign == 1), error


def test_the_content_itself_has_no_content_loss(network, images):
    content, style, _ = images
    found, _ = evaluated(function(network, content, style), content)
    assert found.content < 1e-9
    assert found.style > 0.0


def test_the_style_itself_has_no_style_loss(network, images):
    content = images[0]
    found, gradient = evaluated(function(network, content, content), content)
    assert found.total < 1e-6
    assert np.abs(gradient).max() < 1e-6


@pytest.mark.parametrize(
    ("number", "weights"), [((1,), (5.0,)), ((1, 1), (1.0, 3.0)), ((1, 2), (1.0, 0.0))]
)
def test_a_blend_of_one_style_is_that_style(tiny_features, images, number, weights):
    content = images[0]
    plain, _ = evaluated(function(tiny_features, content, images[1]), content)
    styles = [images[each] for each in number]
    blend, _ = evaluated(
        function(tiny_features, content, *styles, style_blend_weights=weights), content
    )
    assert blend.total == pytest.approx(plain.total, rel=1e-4)


def test_a_blend_targets_the_weighted_mean_of_gram_matrices(tiny_features, images):
    content, style, other = images
    layer = "block2_conv1"
    G, A, B = (gram(activations(tiny_features, each)[layer]) for each in images)
    expected = np.mean((G - (0.25 * A + 0.75 * B)) ** 2) / len(G) ** 2
    found, _ = evaluated(
        function(
            tiny_features, content, style, other, content_weight=0.0, style_weight=1.0,
            style_layers={layer: 1.0}, style_blend_weights=(1.0, 3.0),
        ),
        content,
    )  # fmt: skip
    assert found.total == pytest.approx(expected, rel=1e-3)


def test_styles_of_a_loss_that_is_not_additive_are_targets_of_their_own(random):
    loss = losses.StyleLoss(
        "means",
        lambda F, mask: tf.reduce_mean(F, [1, 2]),
        lambda a, b: tf.reduce_mean(abs(a - b), -1),
        additive=False,
    )
    a, b = (tf.constant(random.uniform(size=(1, 4)), tf.float32) for _ in range(2))
    found = blended_styles({"x": loss}, [{"x": a}, {"x": b}], [0.25, 0.75], {})
    assert [float(target.share) for target in found["x"]] == [0.25, 0.75]
    np.testing.assert_array_equal(found["x"][1].statistics, b)
    (only,) = blended_styles({"x": loss}, [{"x": a}, {"x": b}], [0.25, 0.75], {"x": 2})["x"]
    np.testing.assert_array_equal(only.statistics, b)


def test_batches_are_evaluated_image_by_image(tiny_features, random):
    spec = spec_of(LossSettings(tv_weight=0.1, content_layers="block2_conv1"))
    objective = Objective(tiny_features, spec)
    content, image = random.uniform(0, 255, (2, 3, 16, 24, 3)).astype(np.float32)
    style = objective.style_features(batch(random.uniform(0, 255, (20, 16, 3))))
    targets = Targets(
        content=objective.content_features(tf.constant(content)),
        style=blended_styles(spec.statistics, [style.statistics], [1.0], {}),
        weights=weight_tensors(term_weights(LossSettings(tv_weight=0.1,
                                                         content_layers="block2_conv1"))),
    )  # fmt: skip
    together = objective.loss_terms(tf.constant(image), targets)
    for number in range(3):
        alone = targets._replace(
            content={name: maps[number : number + 1] for name, maps in targets.content.items()}
        )
        found = objective.loss_terms(tf.constant(image[number : number + 1]), alone)
        for name, value in found.items():
            assert float(value[0]) == pytest.approx(float(together[name][number]), rel=1e-4)


def test_one_graph_serves_all_sizes_and_targets(tiny_features, images):
    traces = []

    def counted(image):
        traces.append(image.shape)
        return tiny_features(image)

    spec = spec_of(LossSettings())
    objective = Objective(counted, spec)
    for shape, seed in (((24, 36), 0), ((24, 36), 1), ((16, 40), 2)):
        image = batch(np.random.default_rng(seed).uniform(0, 255, (*shape, 3)))
        style = objective.style_features(image).statistics
        targets = Targets(
            objective.content_features(image),
            blended_styles(spec.statistics, [style], [1.0], {}),
            weight_tensors(term_weights(LossSettings(style_weight=10.0**seed))),
        )
        for _ in range(3):
            objective.value_and_gradients(image, targets)
    assert [tuple(shape) for shape in traces] == [(1, None, None, 3)] * 3  # one for each function


def test_layers_without_weight_are_left_out():
    settings = LossSettings(
        content_weight=0.0, style_layers={"block1_conv1": 1.0, "block5_conv1": 0.0}
    )
    assert spec_of(settings).layers == ("block1_conv1",)
    assert term_weights(settings) == {"style/block1_conv1": 1e5, "grain": 5.0}
    assert set(spec_of(settings).statistics) == {"block1_conv1", *JETS}
    without = LossSettings(grain_weight=0.0)
    assert "grain" not in term_weights(without)
    assert not set(JETS) & set(spec_of(without).statistics)


def test_specifications_are_hashable_and_hold_no_weights():
    one, other = (spec_of(LossSettings(style_weight=weight)) for weight in (1.0, 2.0))
    assert one == other and hash(one) == hash(other)
    assert spec_of(LossSettings(tv_weight=1.0)) != one


def test_an_extra_loss_is_weighted_and_has_its_gradient(tiny_features, images):
    content, style, _ = images

    def redness(image, activations):
        assert set(activations) >= {"block3_conv1"}
        return tf.reduce_mean(image[..., 0], [1, 2])

    extra = ExtraLoss("redness", redness, weight=2.0, layers=["block3_conv1"])
    config = Config(image_size=36, style_scale=1.0, init="content", style_weight=0.0,
                    content_weight=0.0, tv_weight=1e-3)  # fmt: skip
    stylizer = nst_tf.Stylizer(config, network=tiny_features, extra_losses=[extra])
    found, gradient = evaluated(stylizer.loss_function(content, style), content)
    assert found.terms["redness"] == pytest.approx(2.0 * content[..., 0].mean(), rel=1e-5)
    plain = nst_tf.Stylizer(config, network=tiny_features).loss_function(content, style)
    difference = gradient - evaluated(plain, content)[1]
    expected = np.zeros_like(content)
    expected[..., 0] = 2.0 / content[..., 0].size
    np.testing.assert_allclose(difference, expected, atol=1e-6)


@pytest.mark.parametrize("name", ["redness", "grain", "style/block1_conv1"])
def test_terms_of_equal_names_are_refused(name):
    extra = [ExtraLoss(each, lambda image, _: 0.0) for each in ("redness", name)]
    with pytest.raises(InputError, match=f"cannot have the name '{name}': another term has it"):
        nst_tf.Stylizer(Config(), extra_losses=extra)


@pytest.mark.parametrize("luminance_only", [True, False])
def test_constraints_are_maps_whose_gradient_follows_by_the_chain_rule(random, luminance_only):
    content, variables = random.uniform(0, 255, (2, 1, 5, 7, 3)).astype(np.float32)
    coverage = random.uniform(0, 1, (1, 5, 7, 1)).astype(np.float32)
    if luminance_only:
        content = np.repeat(content[..., :1], 3, axis=-1)
    squares = ExtraLoss("squares", lambda x, _: tf.reduce_sum(x**2, [1, 2, 3]))
    spec = ObjectiveSpec((), (), losses.GRAM, luminance_only=luminance_only, extra=(squares,))
    targets = Targets({}, {}, weight_tensors({"squares": 1.0}),
                      Fixed(tf.constant(content), tf.constant(coverage)))  # fmt: skip
    value, gradient, _ = terms.value_and_gradients(
        tf.constant(variables), targets, spec, lambda image: {}
    )
    free = variables.mean(axis=-1, keepdims=True) if luminance_only else variables
    image = content + coverage * (free - content)
    assert float(value) == pytest.approx(np.sum(image.astype(np.float64) ** 2), rel=1e-5)
    expected = coverage * 2 * image
    if luminance_only:
        expected = np.repeat(expected.mean(axis=-1, keepdims=True), 3, axis=-1)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4)


def test_masks_are_halved_as_poolings_do(random):
    mask = random.uniform(0, 1, (1, 19, 26, 1)).astype(np.float32)
    found = downsampled(tf.constant(mask), (4, 6)).numpy()
    expected = mask[0, :16, :24, 0].reshape(4, 4, 6, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(found[0, :, :, 0], expected, rtol=1e-5)
    np.testing.assert_array_equal(downsampled(tf.constant(mask), (19, 26)), mask)


def test_RUN_31_a_loss_that_overflows_is_not_hidden(network, images):
    content, style, _ = images
    loss = function(network, content, style)
    value, gradient = loss(batch(content * np.float32(1e30)))
    assert not np.isfinite(float(value))
    assert not np.isfinite(loss.last_losses().terms["style/block1_conv1"])
    assert not np.isfinite(gradient.numpy()).all()


def effects(network, content, style, **settings):
    """Returns the ratio of the gradients of style and content on noise."""
    loss = function(network, content, style, **settings)
    return gradient_ratio(loss._objective, loss._targets, content.shape[:2])


def test_normalized_gradients_pull_alike_whatever_the_layers_and_the_network(
    images, weights, tiny_features
):
    content, style, _ = images
    deep = vgg19_features(LAYERS, weights)
    ratios = {True: [], False: []}
    for network, settings in (
        (deep, {}),
        (deep, {"style_layers": "block2_conv1:3,block3_conv3", "content_layers": "block5_conv2"}),
        (tiny_features, {}),
    ):
        for normalize, found in ratios.items():
            found.append(
                effects(network, content, style, normalize_gradients=normalize, **settings)
            )
    assert max(ratios[False]) > 10 * min(ratios[False])
    assert max(ratios[True]) == pytest.approx(min(ratios[True]), rel=0.02)


def test_normalized_gradients_leave_a_weights_ratio_as_it_is(tiny_features, images):
    content, style, image = images[0], images[1], np.roll(images[0], 3, axis=1)
    one, ten = (
        evaluated(
            function(tiny_features, content, style, normalize_gradients=True, style_weight=weight),
            image,
        )[0]
        for weight in (1e4, 1e5)
    )
    assert ten.style == pytest.approx(10 * one.style, rel=1e-5)
    assert ten.content == pytest.approx(one.content, rel=1e-5)


def test_normalized_gradients_have_their_ratio_without_a_content_loss(tiny_features, images):
    weights = [
        function(tiny_features, *images[:2], normalize_gradients=True, tv_weight=1e-3, **settings)
        ._targets.weights for settings in ({}, {"content_weight": 0.0})
    ]  # fmt: skip
    ratios = [float(of["tv"] / of["style/block1_conv1"]) for of in weights]
    assert ratios[1] == pytest.approx(ratios[0], rel=1e-4)
    assert ratios[1] != pytest.approx(1e-8, rel=0.1)


def test_an_objective_that_is_dropped_leaves_no_cycle_of_its_own(tiny_features, images):
    import weakref

    loss = function(tiny_features, images[0], images[1])
    loss(batch(images[0]))
    objective = weakref.ref(loss._objective)
    gc.disable()
    try:
        del loss
        assert objective() is None
    finally:
        gc.enable()
