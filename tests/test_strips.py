"""Convolutions in strips give what the same convolution gives as a whole."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from nst_tf import system
from nst_tf.models import strips
from nst_tf.models.strips import StripConv2D, convolution_class


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("height", [19, 41])
def test_strips_give_the_value_and_the_gradients_of_the_whole(padding, height, random, monkeypatch):
    monkeypatch.setattr(strips, "_LARGEST_MATRIX", 0)
    convolved = []
    monkeypatch.setattr(strips, "_in_strips", lambda *a, do=strips._in_strips: (
        convolved.append(a[0].shape), do(*a))[1])  # fmt: skip
    x = tf.constant(random.normal(size=(2, height, 23, 3)).astype(np.float32))
    kernel = random.normal(size=(3, 3, 3, 4)).astype(np.float32)
    weight = tf.constant(random.normal(size=(2, height, 23, 4)).astype(np.float32))

    def evaluated(kind):
        layer = kind(4, 3, padding=padding, data_format="channels_last", activation="relu")
        image = keras.Input((None, None, 3))
        model = keras.Model(image, layer(image))
        layer.set_weights([kernel, np.full(4, 0.1, np.float32)])

        @tf.function
        def function(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = model(x)
                value = tf.reduce_sum(y * weight[:, : y.shape[1], : y.shape[2]])
            return y, *tape.gradient(value, [x, layer.kernel])

        return function(x)

    for found, expected in zip(evaluated(StripConv2D), evaluated(keras.layers.Conv2D), strict=True):
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert convolved


def test_small_and_flat_images_are_convolved_as_a_whole(random, monkeypatch):
    monkeypatch.setattr(strips, "_in_strips", None)  # is not called
    layer = StripConv2D(4, 3, padding="same", data_format="channels_last")
    assert layer(random.normal(size=(1, 30, 20, 3)).astype(np.float32)).shape == (1, 30, 20, 4)
    monkeypatch.setattr(strips, "_LARGEST_MATRIX", 0)
    assert layer(random.normal(size=(1, 9, 20, 3)).astype(np.float32)).shape == (1, 9, 20, 4)


@pytest.mark.parametrize(
    ("flags", "side", "kind"),
    [
        ("fma avx2", 1024, StripConv2D),
        ("fma avx2", 512, keras.layers.Conv2D),
        ("avx2 avx512f", 1024, keras.layers.Conv2D),
        ("", 1024, keras.layers.Conv2D),
    ],
)
def test_is_used_for_large_images_where_the_processor_has_avx2_alone(
    flags, side, kind, monkeypatch
):
    monkeypatch.setattr(strips.sys, "platform", "linux")
    monkeypatch.setattr(system, "_lines", lambda _: [f"flags : {flags}"])
    assert convolution_class(side) is kind
