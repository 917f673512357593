"""`falcon models add` and `falcon models signature`."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from falcon_wsgi import settings
from falcon_wsgi.errors import CandidateInvalid, ModelCrashed, UntrustedModel
from falcon_wsgi.launch import proving
from falcon_wsgi.models import adding, bringing, examples, offer, tables
from falcon_wsgi.models.columns import Examples
from falcon_wsgi.models.examination import Offer
from falcon_wsgi.models.examples import Wishes
from falcon_wsgi.models.inventory import served_version
from falcon_wsgi.models.manifest import MODEL_FILE, TRANSFORM_FILE, Manifest
from falcon_wsgi.models.refusal import XGBOOST_REMEDY, explain_refusal
from falcon_wsgi.models.signature import TabularSignature
from falcon_wsgi.models.store import ModelStore

_BOOSTERS = {".ubj": "model.ubj", ".json": "model.json"}


@dataclass(frozen=True, slots=True)
class Given:
    """The arguments of `falcon models add`."""

    name: str
    model: Path | None
    booster: Path | None
    transform: Path | None
    signature: Path
    golden: Path
    labels: str | None
    version: str | None
    promote: bool


def add(given: Given) -> None:
    """Check everything, store the version, say what came of it.

    Raises:
        ModelError: one line that names the file; nothing is stored.
        ConfigurationError: the store cannot be written.
    """
    store = ModelStore(settings.load().model_store)
    bringing.check_name(given.name, given.version)
    adding.require_free(store, given.name, given.version)
    paths = _files(given)
    described = offer.signature(given.signature)
    offered = Offer(
        name=given.name,
        version=given.version or adding.FIRST_VERSION,
        files=tuple(paths),
        called={stored: path.name for stored, path in paths.items()},
        signature=described,
        labels=offer.labels(given.labels),
        examples=offer.examples(given.golden, described),
    )
    contents = {stored: offer.contents(path) for stored, path in paths.items()}
    _require_archives(contents, offered)
    manifest, notes = _proved(offered, contents)
    manifest = adding.write_beside(store, manifest, contents, given.version)
    _tell(manifest, offered, notes)
    if given.promote:
        bringing.promote_stored(store, manifest)
    click.echo(_standing(store, manifest))


def _files(given: Given) -> dict[str, Path]:
    """Paths by the name that each file has in the store."""
    if (given.model is None) is (given.booster is None):
        raise CandidateInvalid("give either the model as a skops file, or an XGBoost model with --booster")
    if given.model is not None:
        if given.transform is not None:
            raise CandidateInvalid("--transform goes with --booster; a skops file holds all steps itself")
        if given.model.suffix in _BOOSTERS:
            raise CandidateInvalid(f"{given.model.name} is not named like a skops file; {XGBOOST_REMEDY}")
        return {MODEL_FILE: given.model}
    assert given.booster is not None
    if given.booster.suffix not in _BOOSTERS:
        raise CandidateInvalid(f"--booster: {given.booster.name} must end in .ubj or .json; {XGBOOST_REMEDY}")
    files = {_BOOSTERS[given.booster.suffix]: given.booster}
    if given.transform is not None:
        files[TRANSFORM_FILE] = given.transform
    return files


def _require_archives(contents: dict[str, bytes], offered: Offer) -> None:
    """What is plainly no skops file is told at once, without a process that tries it."""
    for stored in contents.keys() & {MODEL_FILE, TRANSFORM_FILE}:
        if not contents[stored].startswith(b"PK"):
            raise UntrustedModel(explain_refusal(contents[stored], offered.called[stored]))


def _proved(offered: Offer, contents: dict[str, bytes]) -> tuple[Manifest, list[str]]:
    with tempfile.TemporaryDirectory(prefix="falcon-") as scratch:
        folder = Path(scratch)
        for stored, content in contents.items():
            (folder / stored).write_bytes(content)
        manifest, notes = proving.prove(folder, offered)
    if manifest.files != adding.recorded(contents) or manifest.signature != offered.signature:
        raise ModelCrashed(
            f"{' and '.join(offered.called.values())}: the process that tried it was tampered with"
        )
    return manifest, notes


def _tell(manifest: Manifest, offered: Offer, notes: list[str]) -> None:
    for note in notes:
        click.echo(f"falcon: WARNING: {note}", err=True)
    fields = ""
    if isinstance(manifest.signature, TabularSignature):
        fields = f", {len(manifest.signature.fields)} fields"
    labels = f", {len(manifest.labels)} classes" if manifest.classifies else ""
    click.echo(f"added {manifest.name} {manifest.version}: {manifest.kind}{fields}{labels}")
    checked = sum(example.prediction is not None for example in offered.examples)
    recorded = len(offered.examples) - checked
    click.echo(
        f"golden examples: {checked} answered as expected, {recorded} without an expected answer, recorded from "
        "this load"
    )


def _standing(store: ModelStore, manifest: Manifest) -> str:
    name, version = manifest.name, manifest.version
    served = served_version(store, name)
    if served == version:
        return f"{name} {version} is the served version; a running instance takes it with: falcon reload"
    return (
        f"{name} {served} stays the served version; to serve this one: falcon models promote {name} {version}"
    )


def signature(path: Path, target: tuple[str, ...]) -> str:
    """The signature that a file of example rows tells, as JSON.

    Raises:
        CandidateInvalid: the file cannot be read, or has a column of no type that JSON has.
    """
    found = tables.read(path, target)
    described = examples.infer(found, None, Wishes())
    dumped: dict[str, Any] = described.model_dump(mode="json", exclude_defaults=True)
    return json.dumps({"type": described.type, **_with_types(dumped, found)}, indent=2, ensure_ascii=False)


def _with_types(dumped: dict[str, Any], found: Examples) -> dict[str, Any]:
    """Arrays where all is numbers: what most such models are fitted on, or take as well."""
    if found.columns is not None and all(column.kind != "text" for column in found.columns):
        return {**dumped, "input": "array"}
    return dumped
