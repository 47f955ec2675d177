"""The objective with the trained network: its terms, its gradient, its targets."""

import numpy as np
import pytest
import tensorflow as tf

from nst_tf import losses
from nst_tf.config.schema import Config
from nst_tf.models import vgg19
from nst_tf.models.layers import LAYERS
from nst_tf.objective.terms import Objective, layers_of
from tests.numerical_gradient import gradient_error

STYLE_LAYERS = [f"block{block}_conv1" for block in range(1, 6)]


@pytest.fixture(scope="module")
def network(request):
    return vgg19.build(layers_of(Config()), "max", request.getfixturevalue("weights"))


@pytest.fixture
def pictures(random):
    """A content of 24x35 and two styles of other sizes, smooth as pictures are."""

    def smooth(height, width):
        coarse = random.uniform(0, 255, (height // 4 + 1, width // 4 + 1, 3))
        return np.kron(coarse, np.ones((4, 4, 1)))[:height, :width].astype(np.float32)

    return smooth(24, 35), smooth(31, 18), smooth(20, 40)


def test_terms_equal_a_recomputation_from_the_activations(network, pictures):
    content, style, picture = pictures[0], pictures[1], np.roll(pictures[0], 3, axis=1)
    config = Config(
        content_weight=2.0,
        style_weight=3e4,
        tv_weight=0.5,
        content_layers={"block4_conv2": 0.25},
        style_layers={"block1_conv1": 1.0, "block3_conv1": 4.0},
    )
    F, P, S = (network(x[np.newaxis]) for x in (picture, content, style))

    def gram(x):
        flat = x.numpy().reshape(-1, x.shape[-1]).astype(np.float64)
        return flat.T @ flat / len(flat)

    def style_term(layer, weight):
        G, A = gram(F[layer]), gram(S[layer])
        return weight * np.mean((G - A) ** 2) / G.shape[0] ** 2

    difference = F["block4_conv2"].numpy() - P["block4_conv2"].numpy()
    across, down = np.diff(picture, axis=1), np.diff(picture, axis=0)
    expected = {
        "content/block4_conv2": 2.0 * 0.25 * np.mean(difference**2),
        "style/block1_conv1": style_term("block1_conv1", 3e4),
        "style/block3_conv1": style_term("block3_conv1", 3e4 * 4),
        "tv": 0.5 * (np.mean(across**2) + np.mean(down**2)),
    }
    found, _ = Objective(network, content, [style], config).value_and_grad(picture)
    assert found.terms == pytest.approx(expected, rel=1e-3)
    assert found.total == pytest.approx(sum(expected.values()), rel=1e-3)
    assert found.content == found.terms["content/block4_conv2"]
    assert found.style == found.terms["style/block1_conv1"] + found.terms["style/block3_conv1"]
    assert found.tv == found.terms["tv"]


@pytest.mark.parametrize("sign", [1, -1])
def test_gradient_is_the_numerical_one_and_a_flipped_sign_is_noticed(network, pictures, sign):
    content, style, _ = pictures
    objective = Objective(network, content, [style], Config(tv_weight=1e-2))
    picture = 0.5 * content + 60.0

    def loss(x):
        return objective.value_and_grad(x.astype(np.float32))[0].total

    _, gradient = objective.value_and_grad(picture)
    error = gradient_error(loss, sign * gradient, picture, step=0.05, directions=5)
    assert (error < 1e-2) == (sign == 1), error


def test_the_content_itself_has_no_content_loss(network, pictures):
    content, style, _ = pictures
    found, _ = Objective(network, content, [style], Config()).value_and_grad(content)
    assert found.content == 0.0
    assert found.style > 0.0


def test_the_style_itself_has_no_style_loss(network, pictures):
    content = pictures[0]
    found, gradient = Objective(network, content, [content], Config()).value_and_grad(content)
    assert found.total < 1e-6
    assert np.abs(gradient).max() < 1e-7


def test_a_blend_of_one_style_is_that_style(network, pictures):
    content, style, other = pictures
    plain = Objective(network, content, [style], Config())
    for styles, weights in (
        ([style], (5.0,)),
        ([style, style], (1.0, 3.0)),
        ([style, other], (1.0, 0.0)),
    ):
        config = Config(style_image=["x"] * len(styles), style_blend_weights=weights)
        blend = Objective(network, content, styles, config)
        assert blend.value_and_grad(content)[0].total == pytest.approx(
            plain.value_and_grad(content)[0].total, rel=1e-4
        )


def test_a_blend_aims_at_the_weighted_mean_of_gram_matrices(network, pictures):
    content, style, other = pictures
    layer = "block2_conv1"
    config = Config(
        content_weight=0.0,
        style_weight=1.0,
        style_layers={layer: 1.0},
        style_image=["x", "y"],
        style_blend_weights=(1.0, 3.0),
    )
    G, A, B = (
        losses.gram_matrix(network(x[np.newaxis])[layer]).numpy() for x in (content, style, other)
    )
    expected = np.mean((G - (0.25 * A + 0.75 * B)) ** 2) / 128**2
    found, _ = Objective(network, content, [style, other], config).value_and_grad(content)
    assert found.total == pytest.approx(expected, rel=1e-3)


def test_is_traced_once_however_often_it_is_evaluated(network, pictures):
    traces = []

    def counted(picture):
        traces.append(picture.shape)
        return network(picture)

    content, style, _ = pictures
    objective = Objective(counted, content, [style], Config())
    bound = len(traces)
    for shift in range(4):
        objective.value_and_grad(np.roll(content, shift, axis=0))
    assert len(traces) == bound + 1


def test_layers_without_weight_are_left_out():
    config = Config(content_weight=0.0, style_layers={"block1_conv1": 1.0, "block5_conv1": 0.0})
    assert layers_of(config) == {"block1_conv1"}


def test_RUN_31_a_loss_that_overflows_is_not_hidden(network, pictures):
    content, style, _ = pictures
    objective = Objective(network, content, [style], Config())
    found, gradient = objective.value_and_grad(content * np.float32(1e30))
    assert not np.isfinite(found.total)
    assert not np.isfinite(found.terms["style/block1_conv1"])
    assert not np.isfinite(gradient).all()


def pull(objective, picture, kind):
    """The length of the gradient of one kind of term alone, by unit of the others' sum."""
    with tf.GradientTape() as tape:
        x = tf.constant(picture[np.newaxis])
        tape.watch(x)
        terms = [t for name, t in objective._terms(x).items() if name.startswith(kind)]
        total = tf.add_n(terms)
    return float(tf.norm(tape.gradient(total, x)))


def test_normalised_gradients_pull_alike_whatever_the_layers_and_the_network(
    network, pictures, weights, random
):
    content, style, _ = pictures
    doubled = {name: array * 2 if "kernel" in name else array for name, array in weights.items()}
    other = vgg19.build(list(LAYERS), "max", doubled)
    deep = vgg19.build(list(LAYERS), "max", weights)
    noise = np.clip(np.random.default_rng(0).normal(127.5, 32.0, content.shape), 0, 255)
    noise = noise.astype(np.float32)
    ratios, plain = [], []
    for net, settings in (
        (network, {}),
        (
            deep,
            {"style_layers": "block2_conv1:3,block3_conv3", "content_layers": "block5_conv2"},
        ),
        (other, {}),
    ):
        for normalise, found in ((True, ratios), (False, plain)):
            config = Config(normalize_gradients=normalise, **settings)
            objective = Objective(net, content, [style], config)
            found.append(pull(objective, noise, "style") / pull(objective, noise, "content"))
    assert max(plain) > 10 * min(plain)
    assert max(ratios) == pytest.approx(min(ratios), rel=0.02)


def test_normalised_gradients_leave_a_weights_ratio_as_it_is(network, pictures):
    content, style, picture = pictures[0], pictures[1], np.roll(pictures[0], 3, axis=1)
    one, ten = (
        Objective(network, content, [style], Config(normalize_gradients=True, style_weight=weight))
        for weight in (1e4, 1e5)
    )
    assert ten.losses(picture).style == pytest.approx(10 * one.losses(picture).style, rel=1e-5)
    assert ten.losses(picture).content == pytest.approx(one.losses(picture).content, rel=1e-5)
