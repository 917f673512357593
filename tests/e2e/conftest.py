"""Trained models for the session, and instances of a test's own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from falcon_wsgi import resources
from falcon_wsgi.models.training import train
from tests.e2e.instance import Instance, running
from tests.parallel import SHARED_FOLDER


@pytest.fixture(scope="session")
def model_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the project's own models. Read-only by agreement: a test that changes it copies it.

    The parts of a whole run share one, which the first that needs it trains.
    """
    folder = Path(os.environ.get(SHARED_FOLDER) or tmp_path_factory.mktemp("shared"))
    store = folder / "model-store"
    with (folder / "model-store.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not store.exists():
            unfinished = Path(tempfile.mkdtemp(dir=folder))
            for name in resources.recipes():
                train(name, None, unfinished, lambda stage, fraction: None)
            unfinished.rename(store)
    return store


@pytest.fixture
def start_instance(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Instance]]:
    """Starts instances with the given settings; all of them are stopped after the test."""
    with contextlib.ExitStack() as stack:

        def start(**settings: object) -> Instance:
            store = settings.pop("model_store", None) or request.getfixturevalue("model_store")
            return stack.enter_context(running(Instance(tmp_path, Path(str(store)), **settings)))

        yield start


@pytest.fixture(scope="module")
def module_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("instance")


@pytest.fixture(scope="module")
def plain_instance(module_folder: Path, model_store: Path) -> Iterator[Instance]:
    """One instance for a module, without Redis or Postgres."""
    with running(Instance(module_folder, model_store)) as instance:
        yield instance
