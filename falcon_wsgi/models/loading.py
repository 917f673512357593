"""From files on disk to an estimator in memory, failing closed.

Each file is read once; the digest is checked over the very bytes that are then deserialised, so a file swapped
between check and load cannot slip through. Only skops is loaded, with a fixed allow-list: no pickle, ever.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from skops.io import loads
from skops.io.exceptions import UntrustedTypesFoundException

from falcon_wsgi.errors import DigestMismatch, ModelNotFound, UntrustedModel
from falcon_wsgi.models.manifest import MODEL_FILE, Manifest
from falcon_wsgi.models.packing import unpack

# Types beyond those that skops itself trusts (scikit-learn, numpy and scipy ones). Code of this package only.
ALLOWED_TYPES = ("falcon_wsgi.models.negation.tokenize",)

_ZIP_MAGIC = b"PK\x03\x04"


def load_estimator(folder: Path, manifest: Manifest) -> Any:
    """The fitted estimator of a version.

    Raises:
        ModelNotFound: a file that the manifest lists is missing or unreadable.
        DigestMismatch: a file's bytes are not those recorded.
        UntrustedModel: the file is no skops archive or holds a type outside the allow-list.
    """
    contents = {name: _verified(folder, manifest, name) for name in manifest.files}
    return deserialise(contents[MODEL_FILE], f"{manifest.name}/{manifest.version}/{MODEL_FILE}")


def deserialise(archive: bytes, label: str) -> Any:
    """Rebuild an estimator from a skops archive.

    Raises:
        UntrustedModel: see `load_estimator`.
    """
    if not archive.startswith(_ZIP_MAGIC):
        raise UntrustedModel(
            f"{label} is not a skops archive. Pickle and joblib files can run code when loaded and are refused; "
            "load the estimator where it was trained and save it with skops.io.dump"
        )
    try:
        return unpack(loads(archive, trusted=list(ALLOWED_TYPES)))
    except UntrustedTypesFoundException as error:
        summary = str(error).partition("\n")[0]  # the rest is advice to a developer
        raise UntrustedModel(f"{label} is refused: {summary}") from error
    except (
        BadZipFile,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ImportError,
        RuntimeError,
    ) as error:
        raise UntrustedModel(f"{label} cannot be read: {type(error).__name__}: {error}") from error


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
