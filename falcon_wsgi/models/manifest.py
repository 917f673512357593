"""The manifest: what a stored model version is, and what it must prove before it is served."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from falcon_wsgi.errors import ManifestInvalid
from falcon_wsgi.models.prediction import Label, label_text
from falcon_wsgi.models.signature import Signature, TextSignature

FILE_NAME = "manifest.json"
MODEL_FILE = "model.skops"
BOOSTER_FILES = frozenset({"model.ubj", "model.json"})
MODEL_FILES = BOOSTER_FILES | {MODEL_FILE}
TRANSFORM_FILE = "transform.skops"  # what a booster's input goes through first
MIN_LABELS = 2
NAME_PATTERN = r"^[a-z0-9][a-z0-9-]{0,62}$"
VERSION_PATTERN = r"^[0-9]{1,6}\.[0-9]{1,6}\.[0-9]{1,6}$"

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Version = Annotated[str, Field(pattern=VERSION_PATTERN)]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StoredFile(_Strict):
    """One file of the version: its SHA-256 as lower-case hex and its size."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=1)


class GoldenExample(_Strict):
    """An input and the answer recorded at training; a load that misses it is refused."""

    input: Any
    prediction: Label | float
    probabilities: dict[str, float] | None = None


Kind = Literal["text_classification", "text_regression", "tabular_classification", "tabular_regression"]


class Manifest(_Strict):
    """Contents of `manifest.json`.

    `labels` are a classifier's classes in the order of its probabilities; a regressor has none.
    """

    format: Literal[1]
    name: Name
    version: Version
    kind: Kind
    signature: Signature
    labels: tuple[Label, ...] = ()
    files: dict[FileName, StoredFile] = Field(min_length=1)
    libraries: dict[str, str]
    trained_at: datetime
    metrics: dict[str, Any]
    data: dict[str, Any]
    golden: tuple[GoldenExample, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Manifest:
        if len(self.files.keys() & MODEL_FILES) != 1:
            raise ValueError(f"files must list one of {', '.join(sorted(MODEL_FILES))}")
        text = isinstance(self.signature, TextSignature)
        if text is not self.kind.startswith("text_"):
            raise ValueError(f"a signature of type {self.signature.type} does not fit the kind {self.kind}")
        if len(self.labels) < MIN_LABELS if self.classifies else self.labels:
            raise ValueError(f"a classifier has at least {MIN_LABELS} labels, a regressor none")
        if len(set(map(label_text, self.labels))) != len(self.labels):
            raise ValueError("two labels are written alike")
        return self

    @property
    def classifies(self) -> bool:
        return self.kind.endswith("_classification")

    @property
    def digest(self) -> str:
        """SHA-256 over all that decides an answer: kind, signature, labels and the files' digests.

        Cache keys carry it, so that two versions never share an entry, whatever they are called.
        """
        decisive = self.model_dump(mode="json", include={"kind", "signature", "labels", "files"})
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def read(folder: Path) -> Manifest:
    """Parse the manifest in `folder`.

    Raises:
        ManifestInvalid: missing, unreadable, not JSON, or not of this schema.
    """
    path = folder / FILE_NAME
    label = f"{folder.parent.name}/{folder.name}/{FILE_NAME}"
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ManifestInvalid(f"{label} cannot be read: {error.strerror}") from error
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = "/".join(str(part) for part in first["loc"])
        raise ManifestInvalid(f"{label} is not valid: {where or 'document'}: {first['msg']}") from error
    if (manifest.name, manifest.version) != (folder.parent.name, folder.name):
        raise ManifestInvalid(
            f"{label} is of {manifest.name}/{manifest.version}, not of the folder it lies in"
        )
    return manifest
