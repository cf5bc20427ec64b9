"""Inputs for the float models of ../shared/models, calibration and test apart.

kws: MFCCs of the recorded word in ../shared/data, shifted, louder and softer, faster and slower,
with noise. ad: windows of the recorded machine's log-mel frames, a little louder or softer. resnet
and vww: crops at random places and scales of the two photographs that scikit-learn carries.
hello_world: its whole range. These are no test sets: they say how near the answers are, not how
right.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

DATA = Path(__file__).parents[2] / "shared" / "data"
Array = NDArray[Any]
_RATE = 16000


def inputs_of(model: str, count: int, seed: int) -> Array:
    """`count` inputs of the float model `model`, with a leading axis of samples."""
    rng = np.random.default_rng(seed)
    return _MAKERS[model](count, rng).astype(np.float32)


def _kws(count: int, rng: np.random.Generator) -> Array:
    raw = np.fromfile(DATA / "marvin_617de221_0.wav", np.int16)[22:] / 32768.0
    word = raw[:_RATE]
    return np.stack([_mfcc(_varied(word, rng)) for _ in range(count)])[..., None]


def _varied(word: Array, rng: np.random.Generator) -> Array:
    """One second with the word somewhere, in some speed and loudness, and noise."""
    speed = rng.uniform(0.8, 1.25)
    places = np.arange(0, len(word) - 1, speed)
    sound = np.interp(places, np.arange(len(word)), word)
    start = int(rng.integers(-4000, 4000))
    out = np.zeros(_RATE)
    source = sound[max(-start, 0) :][: _RATE - max(start, 0)]
    out[max(start, 0) : max(start, 0) + len(source)] = source
    noise = rng.standard_normal(_RATE) * 10 ** rng.uniform(-5, -2)
    return out * 10 ** rng.uniform(-1, 0.3) + noise


def _mfcc(sound: Array) -> Array:
    """49 x 10: windows of 30 ms every 20 ms, 40 mel bands from 20 to 4000 Hz, a DCT."""
    frames = np.lib.stride_tricks.sliding_window_view(sound, 480)[::320][:49]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(480) / 480)
    power = np.abs(np.fft.rfft(frames * window, 512))
    logs = np.log(power @ _mel_bands(257, 40, 20.0, 4000.0) + 1e-6)
    n = np.arange(40)
    dct = np.cos(np.pi / 40 * (n[:, None] + 0.5) * np.arange(10)) * np.sqrt(2 / 40)
    result: Array = logs @ dct
    return result


def _mel_bands(bins: int, count: int, low: float, high: float) -> Array:
    def mel(hertz: Any) -> Any:
        return 1127.0 * np.log1p(hertz / 700.0)

    edges = np.linspace(mel(low), mel(high), count + 2)
    at = mel(np.linspace(0, _RATE / 2, bins))[:, None]
    rising = (at - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - at) / (edges[2:] - edges[1:-1])
    result: Array = np.maximum(np.minimum(rising, falling), 0.0)
    return result


def _ad(count: int, rng: np.random.Generator) -> Array:
    bands = np.fromfile(DATA / "ad_normal_id_01_00000000.bin", np.float32).reshape(-1, 128)
    starts = rng.integers(0, len(bands) - 5, count)
    windows = np.stack([bands[s : s + 5].reshape(-1) for s in starts])
    return windows + rng.uniform(-3, 3, (count, 1))


def _photographs(size: int, scale: float) -> Callable[[int, np.random.Generator], Array]:
    def make(count: int, rng: np.random.Generator) -> Array:
        from sklearn.datasets import load_sample_images

        photos = load_sample_images().images
        return np.stack([_crop(photos, size, rng) for _ in range(count)]) * scale

    return make


def _crop(photos: list[Array], size: int, rng: np.random.Generator) -> Array:
    """A square of one to five times `size`, averaged down to it, perhaps mirrored, darker."""
    photo = photos[int(rng.integers(len(photos)))]
    times = int(rng.integers(1, min(photo.shape[:2]) // size + 1 if size > 90 else 6))
    side = size * times
    top, left = (int(rng.integers(0, n - side + 1)) for n in photo.shape[:2])
    square = photo[top : top + side, left : left + side].astype(np.float64)
    image = square.reshape(size, times, size, times, 3).mean((1, 3))
    if rng.random() < 0.5:
        image = image[:, ::-1]
    result: Array = np.clip(np.round(image * rng.uniform(0.6, 1.2)), 0, 255)
    return result


def _hello_world(count: int, rng: np.random.Generator) -> Array:
    return rng.uniform(0, 2 * np.pi, (count, 1))


_MAKERS: dict[str, Callable[[int, np.random.Generator], Array]] = {
    "kws": _kws,
    "resnet": _photographs(32, 1.0),
    "ad": _ad,
    "vww": _photographs(96, 1 / 255),
    "hello_world": _hello_world,
}
