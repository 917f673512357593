"""The master's models change only for ones that can be used."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from falcon_wsgi.errors import DigestMismatch
from falcon_wsgi.server.served_set import ServedSet


class FakeStore:
    """What `version` it holds, or the error that it raises."""

    def __init__(self, holds: str | Exception) -> None:
        self.holds = holds
        self.loads = 0

    def state(self) -> tuple[object, ...]:
        if isinstance(self.holds, FileNotFoundError):
            raise self.holds
        return (str(self.holds),)

    def load_current(self) -> dict[str, Any]:
        self.loads += 1
        if isinstance(self.holds, Exception):
            raise self.holds
        return {"sentiment": SimpleNamespace(version=self.holds)}


@pytest.fixture
def store() -> FakeStore:
    return FakeStore("1.0.0")


@pytest.fixture
def served(store: FakeStore) -> ServedSet:
    served = ServedSet()
    served.load(store)
    return served


def version(served: ServedSet) -> str:
    return served.models["sentiment"].version


def test_the_first_load_raises(store: FakeStore) -> None:
    store.holds = DigestMismatch("damaged")
    with pytest.raises(DigestMismatch):
        ServedSet().load(store)


def test_an_unchanged_store_is_not_loaded_again(served: ServedSet, store: FakeStore) -> None:
    served.refresh(store)
    served.look_again()
    served.refresh(store)
    assert store.loads == 1


def test_a_changed_store_is_loaded(served: ServedSet, store: FakeStore) -> None:
    store.holds = "1.1.0"
    served.refresh(store)
    assert version(served) == "1.1.0"


@pytest.mark.parametrize(
    "error", [DigestMismatch("damaged"), RecursionError("a strange file"), MemoryError()]
)
def test_a_set_that_fails_is_refused_once_and_the_former_stays(
    served: ServedSet, store: FakeStore, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    store.holds = error
    with caplog.at_level(logging.ERROR):
        served.refresh(store)
        served.refresh(store)
    assert [record.message for record in caplog.records] == ["models_refused"]
    assert version(served) == "1.0.0"


def test_what_was_refused_is_tried_again_when_asked(served: ServedSet, store: FakeStore) -> None:
    store.holds = DigestMismatch("damaged")
    served.refresh(store)
    served.look_again()
    served.refresh(store)
    assert store.loads == 3


def test_a_store_that_changes_while_it_is_looked_at_is_looked_at_again(
    served: ServedSet, store: FakeStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.holds = FileNotFoundError(2, "No such file")
    with caplog.at_level(logging.WARNING):
        served.refresh(store)
    assert [record.message for record in caplog.records] == ["model_store_unreadable"]
    assert version(served) == "1.0.0"
    store.holds = "1.1.0"
    served.refresh(store)
    assert version(served) == "1.1.0"
