"""The content and style loss for training a network in Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from nst_tf import losses
from nst_tf.errors import InputError
from nst_tf.losses import PerceptualLoss
from nst_tf.models import vgg19_features


@pytest.fixture
def style(random):
    return np.kron(random.uniform(0, 255, (6, 5, 3)), np.ones((4, 4, 1))).astype(np.float32)


@pytest.fixture
def images(random):
    coarse = random.uniform(0, 255, (8, 8, 6, 3))
    return np.kron(coarse, np.ones((1, 4, 4, 1))).astype(np.float32)


def small_model():
    keras.utils.set_random_seed(3)
    image = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    x = keras.layers.Conv2D(3, 3, padding="same", activation="sigmoid")(x)
    return keras.Model(image, keras.layers.Rescaling(255.0)(x))


def test_is_the_sum_of_the_weighted_terms_of_each_image(tiny_features, style, images):
    generated = images[::-1] * 0.9
    loss = PerceptualLoss(
        tiny_features,
        ["block4_conv2"],
        {"block1_conv1": 1.0, "block3_conv1": 0.5},
        style,
        content_weight=2.0,
        style_weight=30.0,
        tv_weight=1e-3,
        reduction=None,
    )
    found = loss(images, generated)
    a, b = tiny_features(generated), tiny_features(images)
    s = tiny_features(style[np.newaxis])

    def gram_loss(layer):
        return losses.gram_loss(losses.gram_matrix(a[layer]), losses.gram_matrix(s[layer]))

    expected = (
        2.0 * losses.content_loss(a["block4_conv2"], b["block4_conv2"])
        + 30.0 * (gram_loss("block1_conv1") + 0.5 * gram_loss("block3_conv1"))
        + 1e-3 * losses.total_variation_loss(generated)
    )
    assert found.shape == (8,)
    assert np.unique(found).size == 8
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_is_zero_for_the_style_itself(tiny_features, style):
    loss = PerceptualLoss(tiny_features, ["block2_conv1"], ["block1_conv1"], style)
    batch = np.stack([style, style])
    assert loss(batch, batch).numpy() == pytest.approx(0.0, abs=1e-6)


def test_any_callable_and_any_style_loss_serve(style, images):
    mean = losses.StyleLoss(
        "mean",
        lambda features, mask: tf.reduce_mean(features, [1, 2]),
        lambda a, b: tf.reduce_mean(tf.math.squared_difference(a, b), -1),
        additive=True,
    )
    loss = PerceptualLoss(
        lambda image: {"pixels": image}, [], ["pixels"], style, style_weight=1.0, style_loss=mean
    )
    expected = np.mean((images.mean((1, 2)) - style.mean((0, 1))) ** 2)
    assert loss(images, images).numpy() == pytest.approx(expected, rel=1e-5)


def test_a_model_learns_from_it_in_fit(tiny_features, style, images):
    before = [variable.numpy() for variable in tiny_features.weights]
    model = small_model()
    loss = PerceptualLoss(
        tiny_features, ["block2_conv1"], ["block1_conv1", "block3_conv1"], style, style_weight=10.0
    )
    model.compile(optimizer=keras.optimizers.Adam(0.01), loss=loss)
    history = model.fit(images, images, batch_size=4, epochs=8, shuffle=False, verbose=0)
    values = history.history["loss"]
    assert values[-1] < 0.75 * values[0]
    np.testing.assert_allclose(
        model.evaluate(images, images, batch_size=4, verbose=0),
        loss(images, model(images)),
        rtol=1e-4,
    )
    for variable, value in zip(tiny_features.weights, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_trains_with_a_vgg19_in_bfloat16_and_reflect_padding(tiny_weights, style, images):
    network = vgg19_features(
        ["block1_conv2", "block2_conv1"], tiny_weights, padding="reflect", dtype="bfloat16"
    )
    model = small_model()
    loss = PerceptualLoss(network, ["block2_conv1"], ["block1_conv2"], style)
    model.compile(optimizer=keras.optimizers.Adam(0.01), loss=loss)
    history = model.fit(images, images, batch_size=4, epochs=3, shuffle=False, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in Keras' save
def test_a_model_compiled_with_it_is_saved_and_loaded_without_it(
    tiny_features, style, images, tmp_path
):
    model = small_model()
    loss = PerceptualLoss(tiny_features, ["block4_conv2"], ["block1_conv1"], style)
    model.compile(optimizer="adam", loss=loss)
    model.fit(images[:2], images[:2], verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_allclose(loaded(images), model(images), rtol=1e-6)
    with pytest.raises(InputError, match="neither the network nor the style image; load the model"):
        keras.models.load_model(tmp_path / "model.keras")


def test_configuration_has_the_settings(tiny_features, style):
    loss = PerceptualLoss(
        tiny_features, ["block4_conv2"], {"block1_conv1": 0.5}, style, style_weight=7.0
    )
    config = loss.get_config()
    assert config["name"] == "perceptual_loss"
    assert config["reduction"] == "sum_over_batch_size"
    assert config["content_layers"] == {"block4_conv2": 1.0}
    assert config["style_layers"] == {"block1_conv1": 0.5}
    assert config["style_weight"] == 7.0
    assert config["style_loss"] == "gram"


def test_wrong_arguments_are_refused(tiny_features, style):
    with pytest.raises(InputError, match=r"the style image has a wrong shape: it is \(1, 24, 20"):
        PerceptualLoss(tiny_features, [], ["block1_conv1"], style[np.newaxis])
    with pytest.raises(
        InputError, match="there is no layer 'block9' in it; known are block1_conv1, "
    ):
        PerceptualLoss(tiny_features, ["block9"], ["block1_conv1"], style)
