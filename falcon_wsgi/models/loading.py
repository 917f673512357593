"""From files on disk to an estimator in memory, failing closed.

Each file is read once; the digest is checked over the very bytes that are then deserialised, so a file swapped
between check and load cannot slip through. Only skops and XGBoost's own formats are loaded: no pickle, ever. What
a file holds is looked at before it is built (`archive`), while skops builds it, and before it predicts
(`structure`).
"""

from __future__ import annotations

import hashlib
import lzma
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

from skops.io import loads
from skops.io.exceptions import UntrustedTypesFoundException

from falcon_wsgi.errors import DigestMismatch, ModelNotFound, UntrustedModel
from falcon_wsgi.models import archive, structure
from falcon_wsgi.models.manifest import BOOSTER_FILES, MODEL_FILE, TRANSFORM_FILE, Manifest
from falcon_wsgi.models.packing import unpack
from falcon_wsgi.models.refusal import Refused, explain_refusal
from falcon_wsgi.models.trusted_types import TRUSTED

_ZIP_MAGIC = b"PK\x03\x04"

# What Python, zipfile, numpy, scipy, scikit-learn and skops raise on damaged contents.
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ImportError,
    ArithmeticError,
    AssertionError,
    MemoryError,
    RuntimeError,  # also RecursionError, of what is nested too deeply
)


def load_estimator(folder: Path, manifest: Manifest) -> Any:
    """The fitted estimator of a version: that of `model.skops`, or a `BoostedModel` of XGBoost's file.

    Raises:
        ModelNotFound: a file that the manifest lists is missing or unreadable.
        DigestMismatch: a file's bytes are not those recorded.
        UntrustedModel: a file is not of its format, holds a type outside the allow-list, or would read or write
            outside its arrays.
    """
    contents = {name: _verified(folder, manifest, name) for name in manifest.files}
    label = f"{manifest.name}/{manifest.version}"
    if MODEL_FILE in contents:
        return deserialise(contents[MODEL_FILE], f"{label}/{MODEL_FILE}")
    (name,) = contents.keys() & BOOSTER_FILES
    transform = None
    if TRANSFORM_FILE in contents:
        transform = deserialise(contents[TRANSFORM_FILE], f"{label}/{TRANSFORM_FILE}")
    return deserialise_booster(contents[name], transform, manifest.labels, f"{label}/{name}")


def deserialise(contents: bytes, label: str) -> Any:
    """Rebuild an estimator from a skops archive.

    Raises:
        UntrustedModel: see `load_estimator`.
    """
    if not contents.startswith(_ZIP_MAGIC):
        raise UntrustedModel(explain_refusal(contents, label))
    try:
        estimator = unpack(loads(archive.audit(contents), trusted=TRUSTED))
        structure.check(estimator)
    except Refused as reason:
        raise UntrustedModel(f"{label} is refused: {reason}") from reason
    except UntrustedTypesFoundException as error:
        summary = str(error).partition("\n")[0]  # the rest is advice to a developer
        raise UntrustedModel(f"{label} is refused: {summary}") from error
    except _DAMAGED as error:
        raise _unreadable(label, error) from error
    return estimator


def deserialise_booster(contents: bytes, transform: Any, labels: Any, label: str) -> Any:
    """Rebuild a `BoostedModel` from XGBoost's JSON or UBJSON.

    Args:
        transform: the fitted transformer that rows go through first, or None.
        labels: a classifier's labels in the order of its classes; empty for a regressor.

    Raises:
        UntrustedModel: see `load_estimator`.
    """
    from falcon_wsgi.models.boosted import BoostedModel  # XGBoost is imported only where a model needs it

    try:
        return BoostedModel.load(contents, transform, labels)
    except Refused as reason:
        raise UntrustedModel(f"{label} is refused: {reason}") from reason
    except _DAMAGED as error:
        raise _unreadable(label, error) from error


def _unreadable(label: str, error: BaseException) -> UntrustedModel:
    summary = str(error).partition("\n")[0][:300]
    return UntrustedModel(f"{label} cannot be read: {type(error).__name__}: {summary}")


def _verified(folder: Path, manifest: Manifest, name: str) -> bytes:
    label = f"{manifest.name}/{manifest.version}/{name}"
    try:
        contents = (folder / name).read_bytes()
    except OSError as error:
        raise ModelNotFound(f"{label} cannot be read: {error.strerror}") from error
    found = hashlib.sha256(contents).hexdigest()
    expected = manifest.files[name].sha256
    if found != expected:
        raise DigestMismatch(
            f"{label} is not the file that was recorded: SHA-256 {found}, expected {expected}"
        )
    return contents
