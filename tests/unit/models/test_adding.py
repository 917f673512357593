"""A version is stored beside the others, under a number of its own, and does not change what is served."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from falcon_wsgi.errors import ConfigurationError, GoldenMismatch, ModelVersionExists
from falcon_wsgi.models import adding
from falcon_wsgi.models.adding import Candidate
from falcon_wsgi.models.manifest import GoldenExample, Manifest
from falcon_wsgi.models.signature import NumberField, TabularSignature
from falcon_wsgi.models.store import ModelStore

X = np.arange(6.0).reshape(-1, 1)


def version_of(alpha: float, answer: float | None = None) -> tuple[Manifest, dict[str, bytes]]:
    """A ridge regression; of each alpha another one."""
    estimator = Ridge(alpha).fit(X, X[:, 0])
    signature = TabularSignature(fields=(NumberField(name="x", type="number"),))
    candidate = Candidate("tabular_regression", estimator, signature, (), (), {}, {})
    files = adding.files_of(estimator)
    value = float(estimator.predict([[1.0]])[0]) if answer is None else answer
    golden = [GoldenExample(input={"x": 1.0}, prediction=value)]
    return adding.manifest_of("mine", "1.0.0", candidate, files, golden), files


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "store")


@pytest.mark.parametrize(
    ("existing", "following"),
    [([], "1.0.0"), (["1.0.0"], "1.1.0"), (["1.0.0", "2.9.4"], "2.10.0")],
)
def test_next_version_is_the_next_minor_one(existing: Sequence[str], following: str) -> None:
    assert adding.next_version(existing) == following


def test_second_version_waits_while_the_first_is_served(store: ModelStore) -> None:
    for alpha in (1.0, 2.0):
        adding.write_beside(store, *version_of(alpha), None)
    assert store.versions("mine") == ["1.0.0", "1.1.0"]
    assert store.current("mine") == "1.0.0"


def test_number_that_is_taken_is_refused_whatever_the_contents(store: ModelStore) -> None:
    adding.write_beside(store, *version_of(1.0), "1.0.0")
    for alpha in (1.0, 2.0):
        with pytest.raises(ModelVersionExists):
            adding.write_beside(store, *version_of(alpha), "1.0.0")
    assert store.versions("mine") == ["1.0.0"]


def test_versions_added_at_once_each_get_a_number(store: ModelStore) -> None:
    made = [version_of(float(alpha)) for alpha in range(1, 7)]
    with ThreadPoolExecutor(6) as pool:
        stored = list(pool.map(lambda one: adding.write_beside(store, *one, None).version, made))
    assert sorted(stored) == sorted(store.versions("mine"))
    assert len(set(stored)) == 6
    for manifest, version in zip((one for one, _ in made), stored, strict=True):
        assert store.manifest("mine", version).digest == manifest.digest


def test_of_two_adds_of_one_number_one_is_refused(store: ModelStore) -> None:
    def attempt(alpha: float) -> bool:
        try:
            adding.write_beside(store, *version_of(alpha), "1.0.0")
        except ModelVersionExists:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(attempt, (1.0, 2.0))) == [False, True]
    store.load("mine", "1.0.0")


def test_answer_that_the_files_do_not_give_is_no_proof() -> None:
    with pytest.raises(GoldenMismatch):
        adding.prove(*version_of(1.0, answer=99.0))


def test_store_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="the model cannot be saved in"):
        adding.write(ModelStore(tmp_path / "file"), *version_of(1.0))


def test_load_of_a_version_made_with_another_scikit_learn_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    manifest, files = version_of(1.0)
    aged = manifest.model_copy(update={"libraries": manifest.libraries | {"scikit-learn": "0.24.1"}})
    adding.prove(aged, files)
    (record,) = [each for each in caplog.records if each.message == "model_library_differs"]
    assert record.__dict__["reason"].startswith("it was made with scikit-learn 0.24.1")
