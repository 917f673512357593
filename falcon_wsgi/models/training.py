"""From a recipe to a stored version: train, record, and prove by loading it as a server would."""

from __future__ import annotations

import hashlib
import importlib.util
import platform
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from pathlib import Path
from types import ModuleType
from zipfile import ZIP_DEFLATED

from skops.io import dumps

from falcon_wsgi import resources
from falcon_wsgi.errors import ConfigurationError, ModelNotFound
from falcon_wsgi.models.manifest import MODEL_FILE, GoldenExample, Manifest, StoredFile
from falcon_wsgi.models.packing import pack
from falcon_wsgi.models.predictor import EstimatorPredictor
from falcon_wsgi.models.recipe import Trained
from falcon_wsgi.models.signature import TextSignature, normalise_text
from falcon_wsgi.models.store import ModelStore

Progress = Callable[[str, float], None]

_RECORDED_LIBRARIES = ("scikit-learn", "skops", "numpy", "scipy")


def train(name: str, data: Path | None, store: Path, progress: Progress) -> Manifest:
    """Run the recipe of `name` and add the result to the store.

    With the project's own data the version is the recipe's; with a user's file it is the next free minor
    version. The new version is loaded back and verified before this returns.

    Raises:
        ModelNotFound: there is no such recipe.
        TrainingDataInvalid: the file cannot be trained on.
        ConfigurationError: the store cannot be written.
        ModelError: the result does not load, or misses its own golden example.
    """
    recipe = _recipe(name)
    trained: Trained = recipe.train(data, progress)
    progress("saving", 1.0)
    models = ModelStore(store)
    version = recipe.VERSION if data is None else _next_version(models.versions(name), recipe.VERSION)
    archive = dumps(pack(trained.estimator), compression=ZIP_DEFLATED)
    manifest = Manifest(
        format=1,
        name=name,
        version=version,
        kind="text_classification",
        signature=TextSignature(),
        labels=trained.labels,
        files={MODEL_FILE: StoredFile(sha256=hashlib.sha256(archive).hexdigest(), bytes=len(archive))},
        libraries={"python": platform.python_version()}
        | {p: installed_version(p) for p in _RECORDED_LIBRARIES},
        trained_at=datetime.now(UTC).replace(microsecond=0),
        metrics=dict(trained.metrics),
        data=dict(trained.data),
        golden=_golden(trained),
    )
    try:
        models.write(manifest, {MODEL_FILE: archive})
    except OSError as error:
        raise ConfigurationError(f"the model cannot be saved in {store}: {error.strerror}") from error
    models.load(name, version)
    return manifest


def recipes() -> list[str]:
    """Names of the models that can be trained."""
    return sorted(path.parent.name for path in resources.RECIPES.glob("*/recipe.py"))


def _recipe(name: str) -> ModuleType:
    if name not in recipes():
        raise ModelNotFound(f"there is no recipe {name!r}; there is: {', '.join(recipes()) or 'none'}")
    module_name = f"falcon_recipe_{name.replace('-', '_')}"
    spec = importlib.util.spec_from_file_location(module_name, resources.RECIPES / name / "recipe.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look their module up while it is being executed
    spec.loader.exec_module(module)
    return module


def _golden(trained: Trained) -> tuple[GoldenExample, ...]:
    inputs = [normalise_text(text) for text in trained.golden_inputs]
    answers = EstimatorPredictor(trained.estimator).predict(inputs)
    return tuple(
        GoldenExample(input=text, prediction=str(answer.output), probabilities=answer.probabilities or {})
        for text, answer in zip(inputs, answers, strict=True)
    )


def _next_version(existing: list[str], first: str) -> str:
    if not existing:
        return first
    major, minor, _ = (int(part) for part in existing[-1].split("."))
    return f"{major}.{minor + 1}.0"
