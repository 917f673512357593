"""A file that is not loaded is told apart by its first bytes, and the way to convert it is said in one line."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import zlib
from typing import Any

import cloudpickle
import joblib
import pytest

from falcon_wsgi.models.refusal import explain_refusal, untrusted_types

LABEL = "flowers/1.0.0/model.skops"


def dumped(compress: Any = 0) -> bytes:
    buffer = io.BytesIO()
    joblib.dump({"weights": [1, 2]}, buffer, compress=compress)
    return buffer.getvalue()


@pytest.mark.parametrize("value", [{"a": 1}, [1], (1, 2), LABEL, 7, None, LookupError("a")], ids=repr)
@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_of_every_protocol_is_named(protocol: int, value: Any) -> None:
    message = explain_refusal(pickle.dumps(value, protocol=protocol), LABEL)
    assert message.startswith(f"{LABEL} is a pickle")
    assert "skops.io.dump(estimator, 'model.skops')" in message
    assert "\n" not in message


def test_joblib_and_cloudpickle_files_are_named_as_pickles() -> None:
    for contents in (dumped(), cloudpickle.dumps(lambda: 1)):
        assert "is a pickle" in explain_refusal(contents, LABEL)


@pytest.mark.parametrize(
    ("contents", "name"),
    [
        (dumped(("zlib", 3)), "zlib"),
        (dumped(("zlib", 9)), "zlib"),
        (dumped(("gzip", 3)), "gzip"),
        (dumped(("bz2", 3)), "bz2"),
        (dumped(("lzma", 3)), "lzma"),
        (dumped(("xz", 3)), "xz"),
        (gzip.compress(b"a"), "gzip"),
        (bz2.compress(b"a"), "bz2"),
        (lzma.compress(b"a"), "xz"),
        (zlib.compress(b"a", 1), "zlib"),
        (b"\x04\x22\x4d\x18rest", "lz4"),
        (b"\x28\xb5\x2f\xfdrest", "zstd"),
    ],
)
def test_a_compressed_file_is_named_by_its_compression(contents: bytes, name: str) -> None:
    message = explain_refusal(contents, LABEL)
    assert f"{name}-compressed" in message
    assert "Pickle and joblib files can run code" in message


@pytest.mark.parametrize(
    ("contents", "meaning"),
    [
        (b"\x89HDF\r\n\x1a\nrest", "HDF5"),
        (b"\x93NUMPY\x01\x00", "numpy array"),
        (b"PK\x05\x06", "zip"),
        (b'{"learner": {}}', "model.json"),
        (b"\x08\x07\x12\x07pytorch", "ONNX"),
        (b"nothing", "is not a skops archive"),
        (b"", "is not a skops archive"),
    ],
)
def test_other_files_are_named_too(contents: bytes, meaning: str) -> None:
    message = explain_refusal(contents, LABEL)
    assert meaning in message
    assert message.startswith(LABEL)


@pytest.mark.parametrize(
    ("names", "remedy"),
    [
        (["xgboost.sklearn.XGBClassifier", "xgboost.core.Booster"], "model.ubj"),
        (["lightgbm.sklearn.LGBMClassifier"], "XGBoost are served"),
        (["sklearn.cluster._kmeans.KMeans"], "these parts of scikit-learn"),
        (["__main__.shout"], "code of its own"),
    ],
)
def test_an_untrusted_type_is_named_with_a_remedy(names: list[str], remedy: str) -> None:
    message = untrusted_types(names)
    assert names[0] in message
    assert remedy in message
