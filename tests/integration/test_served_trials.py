"""The master's set with versions on trial, from a store on disk."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from falcon_wsgi.errors import DigestMismatch, ModelNotFound, TrialRefused
from falcon_wsgi.models.store import ModelStore
from falcon_wsgi.server.served_set import ServedSet
from falcon_wsgi.settings import VersionShare
from tests.e2e.trial_models import serve, write_step


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    write_step(tmp_path, "1.0.0", 500)
    write_step(tmp_path, "1.1.0", 600)
    write_step(tmp_path, "2.0.0", 600, maximum=800)
    serve(tmp_path, "step", "1.0.0")
    return ModelStore(tmp_path)


def asked(version: str, fraction: float = 0.5) -> list[VersionShare]:
    return [VersionShare("step", version, fraction)]


@pytest.fixture
def served(store: ModelStore) -> ServedSet:
    made = ServedSet()
    made.ask_for(asked("1.1.0"), asked("1.1.0"))
    made.load(store)
    return made


def versions(served: ServedSet) -> list[str]:
    return [served.versions["step"], *(model.version for model in served.trials)]


def damage(store: ModelStore, version: str) -> None:
    path = store.folder("step") / version / "model.skops"
    path.write_bytes(path.read_bytes() + b"x")


def test_trials_are_loaded_beside_the_current_version(served: ServedSet) -> None:
    assert versions(served) == ["1.0.0", "1.1.0", "1.1.0"]
    assert served.trials.shadow["step"].fraction == 0.5


@pytest.mark.parametrize(
    ("shadow", "canary", "error"),
    [
        (asked("9.9.9"), [], ModelNotFound),
        ([], [VersionShare("other", "1.0.0", 0.5)], ModelNotFound),
        (asked("2.0.0"), [], TrialRefused),
        ([], asked("2.0.0"), TrialRefused),
    ],
    ids=["no such version", "no such model", "shadow refuses live inputs", "canary takes others"],
)
def test_a_trial_that_cannot_be_stops_the_start(
    store: ModelStore, shadow: list[VersionShare], canary: list[VersionShare], error: type[Exception]
) -> None:
    made = ServedSet()
    made.ask_for(shadow, canary)
    with pytest.raises(error):
        made.load(store)


def test_a_damaged_candidate_stops_the_start(store: ModelStore) -> None:
    damage(store, "1.1.0")
    made = ServedSet()
    made.ask_for(asked("1.1.0"), [])
    with pytest.raises(DigestMismatch):
        made.load(store)


def test_a_refused_trial_leaves_the_former_set_and_is_said_once(
    served: ServedSet, store: ModelStore, caplog: pytest.LogCaptureFixture
) -> None:
    served.ask_for(asked("2.0.0"), [])
    with caplog.at_level(logging.ERROR):
        served.refresh(store)
        served.refresh(store)
    assert versions(served) == ["1.0.0", "1.1.0", "1.1.0"]
    assert [record.message for record in caplog.records] == ["models_refused"]
    assert "maximum is 800" in (served.refused or "")


def test_a_promotion_that_a_canary_does_not_fit_is_refused(served: ServedSet, store: ModelStore) -> None:
    serve(store.root, "step", "2.0.0")
    served.refresh(store)
    assert versions(served) == ["1.0.0", "1.1.0", "1.1.0"]
    assert "CANARY: step 1.1.0 takes other inputs than 2.0.0" in (served.refused or "")


def test_a_new_share_is_taken_without_loading_again(served: ServedSet, store: ModelStore) -> None:
    former = served.trials.canary["step"].model
    served.ask_for([], asked("1.1.0", 0.75))
    served.refresh(store)
    assert served.trials.canary["step"].fraction == 0.75
    assert served.trials.canary["step"].model is former
    assert served.trials.shadow == {}


def test_a_candidate_that_is_damaged_later_keeps_the_set_that_works(
    served: ServedSet, store: ModelStore
) -> None:
    damage(store, "1.1.0")
    served.refresh(store)
    assert versions(served) == ["1.0.0", "1.1.0", "1.1.0"]
    assert "is not the file that was recorded" in (served.refused or "")


def test_a_canary_that_was_promoted_is_the_current_version(served: ServedSet, store: ModelStore) -> None:
    serve(store.root, "step", "1.1.0")
    served.refresh(store)
    assert versions(served) == ["1.1.0"] * 3
    assert served.trials.canary["step"].model is served.models["step"]


def test_an_unchanged_store_is_not_loaded_again(served: ServedSet, store: ModelStore) -> None:
    former = served.models
    served.refresh(store)
    assert served.models is former
