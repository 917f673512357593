"""A fitted estimator as a stored version: files, golden answers, manifest, and the proof that it loads."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED

from skops.io import dumps

from falcon_wsgi.errors import ConfigurationError, ModelVersionExists
from falcon_wsgi.models import libraries, predictor, promotion
from falcon_wsgi.models.forms import Input, form_of
from falcon_wsgi.models.manifest import (
    MODEL_FILE,
    TRANSFORM_FILE,
    GoldenExample,
    Kind,
    Manifest,
    StoredFile,
)
from falcon_wsgi.models.matrix import matrix_of
from falcon_wsgi.models.packing import pack
from falcon_wsgi.models.prediction import Label
from falcon_wsgi.models.served import ServedModel
from falcon_wsgi.models.signature import TabularSignature, TextSignature
from falcon_wsgi.models.store import ModelStore

FIRST_VERSION = "1.0.0"
# Others that add a version of the same model at the same moment take a number each.
_TRIES = 20


@dataclass(frozen=True, slots=True)
class Candidate:
    """A fitted estimator and what has to be known of it.

    Attributes:
        labels: the classes in the order of the estimator's `classes_`, as they are to be answered; none for a
            regressor.
        golden: valid inputs, as decoded JSON; their answers are recorded, and every load has to reproduce them.
        metrics, data: JSON values for people: how good it is, and what it was trained on.
    """

    kind: Kind
    estimator: Any
    signature: TextSignature | TabularSignature
    labels: tuple[Label, ...]
    golden: Sequence[Any]
    metrics: Mapping[str, Any]
    data: Mapping[str, Any]


def add(store: ModelStore, name: str, version: str, candidate: Candidate) -> Manifest:
    """Store a version. It is loaded and verified as a server would before it appears in the store.

    Raises:
        ModelError: it cannot be stored, does not load, or misses its own golden examples.
        ConfigurationError: the store cannot be written.
    """
    files = files_of(candidate.estimator)
    manifest = manifest_of(name, version, candidate, files, _golden(candidate))
    prove(manifest, files)
    write(store, manifest, files)
    return manifest


def files_of(estimator: Any) -> dict[str, bytes]:
    """What is stored of an estimator, by file name: XGBoost in its own format, the rest with skops.

    Raises:
        UntrustedModel: it is of XGBoost, but cannot be served.
    """
    from falcon_wsgi.models import boosted

    parts = boosted.split(estimator)
    if parts is None:
        return {MODEL_FILE: _archive(estimator)}
    transform, booster, _ = parts
    files = {"model.ubj": booster}
    if transform is not None:
        files[TRANSFORM_FILE] = _archive(transform)
    return files


def manifest_of(
    name: str,
    version: str,
    candidate: Candidate,
    files: Mapping[str, bytes],
    golden: Sequence[GoldenExample],
) -> Manifest:
    """The manifest of a version with these files and golden answers, made here and now."""
    return Manifest(
        format=1,
        name=name,
        version=version,
        kind=candidate.kind,
        signature=candidate.signature,
        labels=candidate.labels,
        files=recorded(files),
        libraries=libraries.installed(files),
        trained_at=datetime.now(UTC).replace(microsecond=0),
        metrics=dict(candidate.metrics),
        data=dict(candidate.data),
        golden=tuple(golden),
    )


def prove(manifest: Manifest, files: Mapping[str, bytes]) -> ServedModel:
    """Load a version that is not in a store yet. Raises a leaf of ModelError."""
    with tempfile.TemporaryDirectory(prefix="falcon-") as scratch:
        for file, contents in files.items():
            (Path(scratch) / file).write_bytes(contents)
        return ServedModel.load(Path(scratch), manifest)


def write(store: ModelStore, manifest: Manifest, files: Mapping[str, bytes]) -> None:
    """Raises ModelVersionExists, or ConfigurationError where the store cannot be written."""
    try:
        store.write(manifest, files)
    except OSError as error:
        raise ConfigurationError(f"the model cannot be saved in {store.root}: {error.strerror}") from error


def write_beside(
    store: ModelStore, manifest: Manifest, files: Mapping[str, bytes], version: str | None
) -> Manifest:
    """Store a version without a change of what is served; only the first version of a new model is.

    Args:
        version: its number; None for the next free one.

    Raises:
        ModelVersionExists: the number is taken.
        ConfigurationError: the store cannot be written.
    """
    name = manifest.name
    require_free(store, name, version)
    for _ in range(_TRIES):
        existing = store.versions(name)
        if existing and store.pointer(name) is None:
            # Without a pointer the highest number is served, which this one may be.
            promotion.promote(store, name, store.current(name))
        numbered = manifest.model_copy(update={"version": version or next_version(existing)})
        try:
            write(store, numbered, files)
        except ModelVersionExists:
            if version is not None:
                raise
            continue
        return numbered
    raise ModelVersionExists(f"others are adding versions of {name} all the time; try again")


def require_free(store: ModelStore, name: str, version: str | None) -> None:
    """Raises ModelVersionExists where that number is taken."""
    if version in store.versions(name):
        raise ModelVersionExists(
            f"{name} {version} is there already; a version is never changed: use another number"
        )


def next_version(existing: Sequence[str]) -> str:
    """The minor version after the highest one; 1.0.0 where there is none."""
    if not existing:
        return FIRST_VERSION
    major, minor, _ = (int(part) for part in existing[-1].split("."))
    return f"{major}.{minor + 1}.0"


def _archive(estimator: Any) -> bytes:
    archive: bytes = dumps(pack(estimator), compression=ZIP_DEFLATED)
    return archive


def recorded(files: Mapping[str, bytes]) -> dict[str, StoredFile]:
    """What a manifest says of its files."""
    return {
        name: StoredFile(sha256=hashlib.sha256(contents).hexdigest(), bytes=len(contents))
        for name, contents in files.items()
    }


def _golden(candidate: Candidate) -> list[GoldenExample]:
    form = form_of(candidate.signature)
    inputs: list[Input] = [form.normalise(form.validate(sent)) for sent in candidate.golden]
    answers = _as_fitted(candidate).predict(inputs)
    return [
        GoldenExample(input=sent, prediction=answer.output, probabilities=answer.probabilities)
        for sent, answer in zip(candidate.golden, answers, strict=True)
    ]


def _as_fitted(candidate: Candidate) -> predictor.Predictor:
    """The estimator itself, given what it was fitted on."""
    signature = candidate.signature
    if isinstance(signature, TabularSignature) and hasattr(candidate.estimator, "feature_names_in_"):
        signature = signature.model_copy(update={"input": "frame"})
    return predictor.plain(candidate.estimator, candidate.labels, matrix_of(signature))
