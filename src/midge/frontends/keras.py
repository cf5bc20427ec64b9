"""Keras and TensorFlow models (.keras, .h5, a SavedModel's folder) by TensorFlow's own converter to
TFLite. Lambda layers, whose code would be unpickled, are refused by Keras itself.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

from midge.core import leaving
from midge.core.errors import MidgeError, ModelError, UsageError
from midge.core.extras import how_to_get
from midge.frontends import FRONTENDS, SAVED_MODEL, Frontend
from midge.frontends.shapes import Shapes
from midge.frontends.tflite import read as read_tflite
from midge.graph.ir import Graph

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"
_MOST = 1 << 31  # bytes of a SavedModel


def read(data: bytes, name: str, shapes: Shapes = MappingProxyType({})) -> Graph:
    """The graph of a Keras model or of a packed SavedModel. ModelError if Keras or the converter
    refuses it, UsageError without TensorFlow."""
    return read_tflite(converted(data, name), name, shapes)


def converted(data: bytes, name: str) -> bytes:
    """The TFLite file that TensorFlow makes of the model; float, nothing is quantised."""
    try:
        folder = leaving.temporary_folder("midge-keras-")
    except OSError as error:
        raise _no_room(error, name) from error
    try:
        with _quiet():
            tf = _tensorflow(name)
            return bytes(_converter(tf, _unpacked(data, folder, name)).convert())
    except MidgeError:
        raise
    except Exception as error:  # they raise whatever they like
        raise ModelError(
            f"TensorFlow refuses the model ({type(error).__name__}: {_first_line(error)})",
            where=name,
            hint="load and convert it with tf.lite.TFLiteConverter to see more",
        ) from error
    finally:
        leaving.remove(folder)


def _tensorflow(name: str) -> Any:
    try:
        import tensorflow
    except ImportError:
        raise UsageError(
            "Keras models need TensorFlow, which is not installed",
            where=name,
            hint=f"{how_to_get('keras')}, or convert the model to .tflite elsewhere",
        ) from None
    return tensorflow


def _unpacked(data: bytes, folder: Path, name: str) -> Path:
    try:
        if data[:4] == _ZIP and _is_saved_model(data):
            with zipfile.ZipFile(io.BytesIO(data)) as packed:
                if sum(e.file_size for e in packed.infolist()) > _MOST:
                    raise ModelError("the SavedModel is too large", where=name)
                packed.extractall(folder)
            return folder
        path = folder / ("model.h5" if data[:8] == _HDF5 else "model.keras")
        path.write_bytes(data)
    except OSError as error:
        raise _no_room(error, name) from error
    return path


def _no_room(error: OSError, name: str) -> UsageError:
    return UsageError(
        f"cannot be handed to TensorFlow in a temporary file: {error.strerror or error}",
        where=name,
        hint="let TMPDIR name a folder that can be written and has space",
    )


def _converter(tf: Any, path: Path) -> Any:
    if path.is_dir():
        return tf.lite.TFLiteConverter.from_saved_model(str(path))
    model = tf.keras.models.load_model(path, compile=False, safe_mode=True)
    return tf.lite.TFLiteConverter.from_keras_model(_of_one(tf, model))


def _of_one(tf: Any, model: Any) -> Any:
    """The model for a batch of one: a free batch wanders through transpositions and reshapes."""
    inputs = [
        tf.keras.Input(batch_shape=(1, *t.shape[1:]), dtype=t.dtype, name=t.name)
        for t in model.inputs
    ]
    return tf.keras.Model(inputs, model(inputs[0] if len(inputs) == 1 else inputs))


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """TensorFlow writes to the standard error stream, some of it without Python."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with open(os.devnull, "wb") as nowhere:
        saved = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            logger.setLevel(level)


def _is_saved_model(data: bytes) -> bool:
    return SAVED_MODEL.encode() in data[-(1 << 16) :]


def looks_like_keras(data: bytes) -> bool:
    """HDF5, a zip with a Keras configuration, or a packed SavedModel."""
    if data[:8] == _HDF5:
        return True
    end = data[-(1 << 16) :]
    return data[:4] == _ZIP and (_is_saved_model(data) or b"model.weights.h5" in end)


FRONTENDS.add("keras", Frontend("keras", (".keras", ".h5", ".hdf5"), looks_like_keras, read))
