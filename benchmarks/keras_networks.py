"""Small networks in Keras as people bring them to microcontrollers, for `benchmarks/networks.py`.

NETWORKS: shapes of the inputs without the batch, and what is done with the inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial, reduce
from typing import Any

import keras  # type: ignore[import-not-found, unused-ignore]
import numpy as np
import tensorflow as tf
from keras import layers, ops

Layer = Callable[[Any], Any]


class Call(layers.Layer):  # type: ignore[misc]
    """Of TensorFlow's own functions."""

    def __init__(self, how: Layer) -> None:
        super().__init__()
        self.how = how

    def call(self, x: Any) -> Any:
        return self.how(x)


def seq(*parts: Layer) -> Layer:
    return lambda x: reduce(lambda y, part: part(y), parts, x)


def norm() -> Layer:
    return layers.BatchNormalization(momentum=0.5)  # type: ignore[no-any-return]


def act(kind: Any) -> Layer:
    return layers.Activation(kind)  # type: ignore[no-any-return]


def conv(o: int, k: Any = 3, s: int = 1, kind: Any = "relu", **kwargs: Any) -> Layer:
    return seq(layers.Conv2D(o, k, s, "same", use_bias=False, **kwargs), norm(), act(kind))


def conv1(o: int, k: int, s: int = 1, **kwargs: Any) -> Layer:
    return seq(layers.Conv1D(o, k, s, padding="same", **kwargs), norm(), act("relu"))


def depth(k: int = 3, s: int = 1, kind: Any = "relu") -> Layer:
    return seq(layers.DepthwiseConv2D(k, s, "same", use_bias=False), norm(), act(kind))


def separable(o: int, s: int = 1) -> Layer:
    return seq(depth(3, s), conv(o, 1))


def residual(*body: Layer) -> Layer:
    return lambda x: layers.add([x, seq(*body)(x)])


def beside(*ways: Layer) -> Layer:
    return lambda x: layers.concatenate([way(x) for way in ways])


def same(x: Any) -> Any:
    return x


def excite(kind: Any = "relu", gate: Any = "sigmoid") -> Layer:
    def through(x: Any) -> Any:
        c = x.shape[-1]
        y = layers.GlobalAveragePooling2D(keepdims=True)(x)
        y = layers.Conv2D(c, 1, activation=gate)(layers.Conv2D(c // 4, 1, activation=kind)(y))
        return layers.multiply([x, y])

    return through


def inverted(o: int, t: int, s: int = 1, k: int = 3, kind: Any = "relu6", se: Any = same) -> Layer:
    def through(x: Any) -> Any:
        c = x.shape[-1]
        body = seq(conv(c * t, 1, 1, kind), depth(k, s, kind), se, conv(o, 1, 1, "linear"))
        return residual(body)(x) if s == 1 and c == o else body(x)

    return through


def head(classes: int = 10) -> Layer:
    return seq(layers.GlobalAveragePooling2D(), layers.Dense(classes, activation="softmax"))


def basic(o: int, s: int = 1) -> Layer:
    """A block of ResNet."""

    def through(x: Any) -> Any:
        short = x if x.shape[-1] == o else layers.Conv2D(o, 1, s, "same")(x)
        return layers.ReLU()(layers.add([short, seq(conv(o, 3, s), conv(o, kind="linear"))(x)]))

    return through


def fire(s: int, e: int) -> Layer:
    wide = [layers.Conv2D(e, k, padding="same", activation="relu") for k in (1, 3)]
    return seq(layers.Conv2D(s, 1, activation="relu"), beside(*wide))


def shuffle(x: Any) -> Any:
    _, h, w, c = x.shape
    left, right = ops.split(x, 2, axis=-1)
    right = seq(conv(c // 2, 1), depth(kind="linear"), conv(c // 2, 1))(right)
    y = layers.Reshape((h, w, 2, c // 2))(layers.concatenate([left, right]))
    return layers.Reshape((h, w, c))(layers.Permute((1, 2, 4, 3))(y))


def dense(x: Any) -> Any:
    return beside(same, seq(norm(), act("relu"), layers.Conv2D(8, 3, padding="same")))(x)


def ghost(o: int) -> Layer:
    return seq(conv(o // 2, 1), beside(same, depth()))


def repvgg(o: int) -> Layer:
    return lambda x: layers.ReLU()(
        layers.add([conv(o, 3, kind="linear")(x), conv(o, 1, kind="linear")(x), norm()(x)])
    )


def u_shaped(up: Layer) -> Layer:
    def through(x: Any) -> Any:
        fine = conv(8)(x)
        low = up(conv(8)(layers.MaxPooling2D()(fine)))
        return layers.Conv2D(2, 1, activation="softmax")(conv(8)(beside(same, lambda _: low)(fine)))

    return through


def fcn(x: Any) -> Any:
    y = conv(8, s=2)(x)
    y = layers.Conv2D(4, 1)(beside(*[conv(8, dilation_rate=d) for d in (1, 2, 3)])(y))
    return Call(lambda y: tf.argmax(y, -1))(layers.UpSampling2D(interpolation="bilinear")(y))


def yolo(x: Any) -> Any:
    leaky = partial(ops.leaky_relu, negative_slope=0.1)
    y = seq(conv(8, 3, 2, leaky), conv(12, 3, 2, leaky), conv(24, 3, 2, leaky))(x)
    y = ops.sigmoid(layers.Reshape((16, 2, 8))(layers.Conv2D(16, 1)(y)))
    grid = np.stack(np.meshgrid(np.arange(4.0), np.arange(4.0)), -1).reshape(1, 16, 1, 2)
    sizes = np.array([[10.0, 13], [16, 30]]).reshape(1, 1, 2, 2)
    xy = (y[..., :2] * 2 - 0.5 + grid.astype("float32")) * 8
    return ops.concatenate([xy, (y[..., 2:4] * 2) ** 2 * sizes.astype("float32"), y[..., 4:]], -1)


def ssd(x: Any) -> Any:
    large = seq(conv(8, s=2), separable(16, 2))(x)
    maps = (large, separable(16, 2)(large))
    boxes = [layers.Reshape((-1, 4))(layers.Conv2D(8, 3, padding="same")(m)) for m in maps]
    kinds = [layers.Reshape((-1, 3))(layers.Conv2D(6, 3, padding="same")(m)) for m in maps]
    return [layers.concatenate(boxes, axis=1), layers.Softmax()(layers.concatenate(kinds, axis=1))]


def keypoints(x: Any) -> Any:
    y = layers.Conv2D(4, 1)(seq(conv(8, s=2), separable(16, 2))(x))
    p = layers.Reshape((8, 8, 4))(layers.Softmax(axis=1)(layers.Reshape((64, 4))(y)))
    line = np.linspace(-1, 1, 8, dtype="float32").reshape(1, 8, 1)
    return ops.stack([ops.sum(ops.sum(p, axis) * line, 1) for axis in (1, 2)], -1)


def causal(o: int, d: int) -> Layer:
    def through(x: Any) -> Any:
        y = layers.Conv1D(o, 3, padding="causal", dilation_rate=d, activation="relu")(x)
        short = x if x.shape[-1] == o else layers.Conv1D(o, 1)(x)
        return layers.ReLU()(layers.add([short, y]))

    return through


def gated(d: int) -> Layer:
    """A block of WaveNet."""
    way = partial(layers.Conv1D, 8, 2, padding="causal", dilation_rate=d)
    parts = [way(activation=kind) for kind in ("tanh", "sigmoid")]
    return residual(lambda x: layers.multiply([p(x) for p in parts]), layers.Conv1D(8, 1))


def inception(x: Any) -> Any:
    narrow = seq(
        layers.Conv1D(8, 1), beside(*[layers.Conv1D(4, k, padding="same") for k in (5, 9, 20)])
    )
    pooled = seq(layers.MaxPooling1D(3, 1, "same"), layers.Conv1D(4, 1))
    return seq(beside(narrow, pooled), norm(), act("relu"))(x)


def attend(x: Any) -> Any:
    return layers.MultiHeadAttention(2, 8)(x, x)


def encoder(x: Any) -> Any:
    feed = (layers.Dense(32, activation="gelu"), layers.Dense(16))
    x = layers.LayerNormalization(epsilon=1e-6)(residual(attend)(x))
    return layers.LayerNormalization(epsilon=1e-6)(residual(*feed)(x))


def places(x: Any) -> Any:
    return x + layers.Embedding(x.shape[1], x.shape[2])(np.arange(x.shape[1]))


def text(ids: Any) -> Any:
    """Of tokens, of which 0 is padding, with Keras's mask."""
    y = places(layers.Embedding(60, 16)(ids))
    y = layers.add(
        [y, layers.MultiHeadAttention(2, 8)(y, y, attention_mask=(ids != 0)[:, None, :])]
    )
    return layers.Dense(3)(layers.GlobalAveragePooling1D()(layers.LayerNormalization()(y)))


def text_cnn(ids: Any) -> Any:
    x = layers.Embedding(60, 8)(ids)
    ways = [seq(layers.Conv1D(6, k, activation="relu"), layers.GlobalMaxPool1D()) for k in (2, 4)]
    return layers.Dense(3)(beside(*ways)(x))


def mixer(x: Any) -> Any:
    x = layers.Reshape((16, 16))(layers.Conv2D(16, 8, 8)(x))
    turn = layers.Permute((2, 1))
    tokens = (turn, layers.Dense(8, "gelu"), layers.Dense(16), turn)
    x = residual(layers.LayerNormalization(), *tokens)(x)
    channels = (layers.Dense(32, activation="gelu"), layers.Dense(16))
    x = residual(layers.LayerNormalization(), *channels)(x)
    return layers.Dense(10)(layers.GlobalAveragePooling1D()(x))


def conformer(x: Any) -> Any:
    half = layers.Rescaling(0.5)
    feed = (layers.LayerNormalization(), layers.Dense(32, "silu"), layers.Dense(16), half)
    mix = (layers.Conv1D(32, 1), ops.glu, layers.DepthwiseConv1D(7, padding="same"), norm())
    x = residual(layers.LayerNormalization(), attend)(residual(*feed)(x))
    x = residual(layers.LayerNormalization(), *mix, act("silu"), layers.Conv1D(16, 1))(x)
    return layers.LayerNormalization()(residual(*feed)(x))


def convnext(x: Any) -> Any:
    body = (layers.LayerNormalization(), layers.Dense(24, activation="gelu"), layers.Dense(12))
    x = layers.Conv2D(12, 4, 4)(x)
    return head()(residual(layers.DepthwiseConv2D(7, padding="same"), *body)(x))


def vit(x: Any) -> Any:
    x = places(layers.Reshape((16, 16))(layers.Conv2D(16, 8, 8)(x)))
    return layers.Dense(10)(encoder(encoder(x))[:, 0])


def siamese(a: Any, b: Any) -> Any:
    shared = keras.Sequential(
        [layers.Conv2D(8, 3, 2, activation="relu"), layers.Conv2D(12, 3, 2, activation="relu"),
         layers.GlobalAveragePooling2D(), layers.Dense(16), layers.UnitNormalization()]
    )  # fmt: skip
    a, b = shared(a), shared(b)
    return layers.concatenate([layers.Dot(1)([a, b]), ops.norm(a - b, axis=1, keepdims=True)])


def several(x: Any) -> Any:
    first = conv(8, s=2)(x)
    y = layers.GlobalAveragePooling2D()(conv(12, s=2)(first))
    return [layers.Dense(1)(y), layers.Dense(3, activation="softmax")(y), ops.mean(first, (1, 2))]


def factors(user: Any, item: Any) -> Any:
    y = layers.Dot(1)([layers.Flatten()(layers.Embedding(50, 8)(i)) for i in (user, item)])
    return ops.sigmoid(y) * 4 + 1


def crnn(x: Any) -> Any:
    y = seq(conv(8), layers.MaxPooling2D(), conv(8), layers.MaxPooling2D((4, 2)))(x)
    y = layers.Reshape((8, 16))(layers.Permute((2, 1, 3))(y))
    y = layers.Bidirectional(layers.GRU(8, return_sequences=True, unroll=True))(y)
    return layers.Dense(11, activation="softmax")(y)


def activations(*kinds: Any) -> Layer:
    parts = [p for kind in kinds for p in (layers.Conv2D(8, 3, padding="same"), kind)]
    return seq(conv(8, s=2), *parts, head(8))


def _two(cell: Any, **kwargs: Any) -> Layer:
    return seq(cell(12, return_sequences=True, **kwargs), cell(12, **kwargs), layers.Dense(4))


Entry = tuple[tuple[tuple[int, ...], ...], Callable[[], Callable[..., Any]]]
IMAGE, GREY, LINE = ((32, 32, 3),), ((24, 24, 1),), ((16, 6),)
UP = partial(layers.Conv2DTranspose, strides=2, padding="same")
NETWORKS: Mapping[str, Entry] = {
    "mobilenet_v1": (IMAGE, lambda: seq(
        conv(8, s=2), separable(16), separable(24, 2), separable(32, 2), head())),
    "mobilenet_v2": (IMAGE, lambda: seq(
        conv(8, 3, 2, "relu6"), inverted(12, 4, 2), inverted(12, 4), inverted(16, 6, 2),
        conv(48, 1, 1, "relu6"), head())),
    "mobilenet_v3": (IMAGE, lambda: seq(
        conv(8, 3, 2, "hard_swish"),
        inverted(8, 2, 2, 3, "relu", excite(gate="hard_sigmoid")),
        inverted(12, 4, 2, 5, "hard_swish", excite(gate="hard_sigmoid")),
        layers.GlobalAveragePooling2D(), layers.Dense(32, activation="hard_swish"),
        layers.Dropout(0.2), layers.Dense(10))),
    "mcunet": (((40, 40, 3),), lambda: seq(
        conv(8, 3, 2, "relu6"), inverted(8, 3, 2, 7), inverted(8, 4, 1, 5), inverted(12, 5, 2, 7),
        head())),
    "resnet8": (IMAGE, lambda: seq(conv(8, s=2), basic(8), basic(12, 2), basic(16, 2), head())),
    "ds_cnn": (((49, 10, 1),), lambda: seq(
        conv(16, (10, 4), 2), layers.Dropout(0.2), separable(16), separable(16), head(12))),
    "squeezenet": (IMAGE, lambda: seq(
        layers.Conv2D(16, 3, 2, activation="relu"), layers.MaxPooling2D(3, 2), fire(4, 8),
        layers.MaxPooling2D(3, 2), fire(6, 12), layers.Conv2D(10, 1, activation="relu"),
        layers.GlobalAveragePooling2D(), layers.Softmax())),
    "shufflenet": (IMAGE, lambda: seq(
        conv(8, s=2), beside(separable(8, 2), seq(conv(8, 1), separable(8, 2))), shuffle, shuffle,
        conv(32, 1), head())),
    "densenet": (IMAGE, lambda: seq(
        conv(8, s=2), dense, dense, norm(), act("relu"), layers.Conv2D(12, 1),
        layers.AveragePooling2D(2), dense, norm(), act("relu"), head())),
    "efficientnet": (IMAGE, lambda: seq(
        conv(8, 3, 2, "silu"), inverted(12, 4, 2, 3, "silu", excite("silu")),
        inverted(12, 4, 1, 5, "silu", excite("silu")), conv(32, 1, 1, "silu"), head())),
    "ghostnet": (IMAGE, lambda: seq(
        conv(16, s=2), residual(ghost(32), excite(gate="hard_sigmoid"), ghost(16)), depth(3, 2),
        ghost(24), head())),
    "repvgg": (IMAGE, lambda: seq(conv(12, s=2), repvgg(12), conv(16, s=2), head())),
    "unet": (((24, 24, 3),), lambda: u_shaped(UP(8, 2))),
    "unet_nearest": (((24, 24, 3),), lambda: u_shaped(layers.UpSampling2D())),
    "fcn": (((24, 24, 3),), lambda: fcn),
    "yolo": (IMAGE, lambda: yolo),
    "ssd": (IMAGE, lambda: ssd),
    "keypoints": (((32, 32, 1),), lambda: keypoints),
    "autoencoder_conv": (GREY, lambda: seq(
        conv(8, s=2), conv(12, s=2), UP(8, 3, activation="relu"), UP(1, 3, activation="sigmoid"))),
    "vae_decoder": (((8,),), lambda: seq(
        layers.Dense(256, activation="relu"), layers.Reshape((4, 4, 16)), UP(8, 4), norm(),
        act("relu"), UP(1, 4, activation="tanh"))),
    "super_resolution": (((16, 16, 1),), lambda: seq(
        layers.Conv2D(12, 5, padding="same", activation="tanh"),
        layers.Conv2D(9, 3, padding="same"), Call(lambda x: tf.nn.depth_to_space(x, 3)))),
    "siamese": (GREY * 2, lambda: siamese),
    "several": (GREY, lambda: several),
    "convnext": (IMAGE, lambda: convnext),
    "mixer": (IMAGE, lambda: mixer),
    "vit": (IMAGE, lambda: vit),
    "group_norm": (GREY, lambda: seq(
        layers.Conv2D(8, 3, 2), layers.GroupNormalization(4), act("relu"), layers.Conv2D(8, 3),
        layers.LayerNormalization(), act("relu"), head())),
    "prelu": (GREY, lambda: activations(
        layers.PReLU(shared_axes=[1, 2]), layers.LeakyReLU(0.2), layers.ReLU(6))),
    "gelu": (GREY, lambda: activations(*map(act, ("gelu", "silu", "mish", "softplus")))),
    "elu": (GREY, lambda: activations(*map(act, ("elu", "selu", "celu", "exponential")))),
    "hard": (GREY, lambda: activations(
        *map(act, ("hard_swish", "hard_sigmoid", "softsign", "hard_tanh", "relu6")))),
    "lenet": (((28, 28, 1),), lambda: seq(
        layers.Conv2D(6, 5, padding="same", activation="tanh"), layers.AveragePooling2D(2),
        layers.Conv2D(12, 5, activation="tanh"), layers.AveragePooling2D(2), layers.Flatten(),
        layers.Dense(32, activation="tanh"), layers.Dense(10, activation="softmax"))),
    "autoencoder_dense": (((160,),), lambda: seq(
        layers.Dense(32), norm(), act("relu"), layers.Dense(8), norm(), act("relu"),
        layers.Dense(32, activation="relu"), layers.Dense(160))),
    "mlp_batchnorm": (((20,),), lambda: seq(
        norm(), layers.Dense(32), norm(), act("relu"), layers.Dropout(0.5),
        layers.Dense(16, activation="relu"), layers.Dense(5, activation="softmax"))),
    "regression": (((6,),), lambda: seq(
        layers.Normalization(mean=0.5, variance=2.0), layers.Dense(16, activation="tanh"),
        layers.Dense(16, activation="tanh"), layers.Dense(1))),
    "tcn": (((64, 4),), lambda: seq(
        causal(8, 1), causal(8, 2), causal(8, 4), lambda x: x[:, -1], layers.Dense(3))),
    "wavenet": (((40, 1),), lambda: seq(
        layers.Conv1D(8, 1), gated(1), gated(2), gated(4), act("relu"), layers.Conv1D(16, 1))),
    "kws_conv1d": (((50, 13),), lambda: seq(
        conv1(16, 9, 2), layers.MaxPooling1D(2), conv1(16, 5), layers.GlobalMaxPooling1D(),
        layers.Dense(8, activation="log_softmax"))),
    "inception_time": (((64, 3),), lambda: seq(
        inception, residual(inception), layers.GlobalAveragePooling1D(), layers.Dense(4))),
    "ecg": (((180, 1),), lambda: seq(
        conv1(8, 15, 2), residual(norm(), act("relu"), layers.Conv1D(8, 15, padding="same")),
        layers.MaxPooling1D(2), layers.Flatten(), layers.Dense(5, activation="softmax"))),
    "separable_conv1d": (((64, 3),), lambda: seq(
        layers.SeparableConv1D(12, 5, activation="relu"), layers.AveragePooling1D(2),
        layers.SpatialDropout1D(0.1), layers.SeparableConv1D(12, 3), layers.Flatten(),
        layers.Dense(4))),
    "attention": (((10, 16),), lambda: attend),
    "transformer": (((12, 16),), lambda: seq(encoder, encoder)),
    "conformer": (((12, 16),), lambda: conformer),
    "lstm": (LINE, lambda: _two(layers.LSTM)),
    "lstm_unrolled": (LINE, lambda: _two(layers.LSTM, unroll=True)),
    "gru": (LINE, lambda: seq(layers.GRU(12), layers.Dense(4))),
    "gru_unrolled": (LINE, lambda: seq(layers.GRU(12, unroll=True), layers.Dense(4))),
    "bidirectional": (LINE, lambda: seq(
        layers.Bidirectional(layers.LSTM(8, unroll=True)), layers.Dense(4))),
    "crnn": (((16, 32, 1),), lambda: crnn),
    "text": (((12,),), lambda: text),
    "text_cnn": (((12,),), lambda: text_cnn),
    "factors": (((1,), (1,)), lambda: factors),
}  # fmt: skip
FIXED = {"lstm", "gru"}  # batch: the converter refuses their loops with a free one
IDS = {"text": 60, "text_cnn": 60, "factors": 50}
