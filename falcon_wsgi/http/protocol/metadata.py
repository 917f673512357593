"""What the protocol tells of the server, its models and its repository."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from falcon_wsgi import __version__
from falcon_wsgi.http.protocol.inputs import described
from falcon_wsgi.http.protocol.outputs import outputs_of
from falcon_wsgi.models.catalogue import Catalogue
from falcon_wsgi.models.manifest import MODEL_FILE
from falcon_wsgi.models.served import ServedModel
from falcon_wsgi.models.store import ModelStore
from falcon_wsgi.models.trials import Trials

EXTENSIONS = ("binary_tensor_data", "model_repository")


def of_server() -> dict[str, Any]:
    return {"name": "falcon", "version": __version__, "extensions": EXTENSIONS}


def of_model(served: ServedModel, versions: Sequence[str]) -> dict[str, Any]:
    """`versions` are those that may be asked for."""
    return {
        "name": served.name,
        "versions": versions,
        "platform": platform(served),
        "inputs": described(served.manifest),
        "outputs": [output.described() for output in outputs_of(served.manifest).values()],
    }


def platform(served: ServedModel) -> str:
    """Library and format, as the protocol writes it: PROJECT_FORMAT."""
    if MODEL_FILE in served.manifest.files:
        return "sklearn_skops"
    return "xgboost_json" if "model.json" in served.manifest.files else "xgboost_ubj"


def index(
    served: Mapping[str, Sequence[str]], store: ModelStore, *, ready_only: bool
) -> list[dict[str, str]]:
    """The versions that are served, by name, and unless `ready_only` the others that the store has."""
    found = [_indexed(name, version, "READY", "") for name, those in served.items() for version in those]
    if not ready_only:
        reason = "it is not served; promote it, then load the model"
        found += [
            _indexed(name, version, "UNAVAILABLE", reason)
            for name in store.names()
            for version in store.versions(name)
            if version not in served.get(name, ())
        ]
    return sorted(found, key=lambda entry: (entry["name"], entry["state"], entry["version"]))


def _indexed(name: str, version: str, state: str, reason: str) -> dict[str, str]:
    return {"name": name, "version": version, "state": state, "reason": reason}


def served_versions(models: Catalogue, trials: Trials) -> dict[str, list[str]]:
    """By the model's name: its current version, and the canary if there is one."""
    versions = {model.name: [model.version] for model in models}
    for name, trial in trials.canary.items():
        versions[name].append(trial.model.version)
    return versions
