"""From a recipe to a stored version: train, record, and prove by loading it as a server would."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from falcon_wsgi import resources
from falcon_wsgi.errors import ModelNotFound
from falcon_wsgi.models.adding import Candidate, add, next_version
from falcon_wsgi.models.manifest import Manifest
from falcon_wsgi.models.recipe import Trained
from falcon_wsgi.models.store import ModelStore

Progress = Callable[[str, float], None]


def train(name: str, data: Path | None, store: Path, progress: Progress) -> Manifest:
    """Run the recipe of `name` and add the result to the store.

    The first version is the recipe's own number; each further one is the next free minor version. It is loaded back
    and verified before this returns.

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
    existing = models.versions(name)
    version = next_version(existing) if existing else recipe.VERSION
    candidate = Candidate(
        kind=trained.kind,
        estimator=trained.estimator,
        signature=trained.signature,
        labels=trained.labels,
        golden=trained.golden_inputs,
        metrics=trained.metrics,
        data=trained.data,
    )
    return add(models, name, version, candidate)


def _recipe(name: str) -> ModuleType:
    if name not in resources.recipes():
        raise ModelNotFound(
            f"there is no recipe {name!r}; there is: {', '.join(resources.recipes()) or 'none'}"
        )
    module_name = f"falcon_recipe_{name.replace('-', '_')}"
    spec = importlib.util.spec_from_file_location(module_name, resources.RECIPES / name / "recipe.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look their module up while it is being executed
    spec.loader.exec_module(module)
    return module
