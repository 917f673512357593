"""The master's models change only for ones that can be used."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Mapping
from typing import Any

import pytest

from falcon_wsgi.errors import DigestMismatch
from falcon_wsgi.server.served_set import ServedSet


class FakeModel:
    """Of some size and, as many estimators are, part of a reference cycle."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.myself = self


class FakeStore:
    """What `version` of the sentiment model it holds, or the error that it raises, and other models."""

    def __init__(self, holds: str | Exception) -> None:
        self.holds = holds
        self.others: dict[str, str] = {}
        self.loads = 0

    def state(self) -> dict[str, object]:
        if isinstance(self.holds, FileNotFoundError):
            raise self.holds
        return {"sentiment": str(self.holds), **self.others}

    def load_current(self, keep: Mapping[str, Any]) -> dict[str, Any]:
        self.loads += 1
        if isinstance(self.holds, Exception):
            raise self.holds
        held = {"sentiment": self.holds, **self.others}
        return {name: keep[name] if name in keep else FakeModel(version) for name, version in held.items()}


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
    assert served.refused is not None
    assert "\n" not in served.refused


def test_the_reason_of_a_refusal_stands_until_a_set_is_taken(served: ServedSet, store: FakeStore) -> None:
    store.holds = DigestMismatch("damaged")
    served.refresh(store)
    served.refresh(store)
    assert served.refused == "damaged"
    store.holds = "1.1.0"
    served.refresh(store)
    assert served.refused is None


def test_the_set_of_before_can_come_back_after_a_refusal(served: ServedSet, store: FakeStore) -> None:
    held = served.models["sentiment"]
    store.holds = DigestMismatch("damaged")
    served.refresh(store)
    store.holds = "1.0.0"
    served.refresh(store)
    assert served.refused is None
    assert served.models["sentiment"] is held


def test_only_what_has_changed_is_loaded(served: ServedSet, store: FakeStore) -> None:
    sentiment = served.models["sentiment"]
    store.others = {"iris": "1.0.0"}
    served.refresh(store)
    iris = served.models["iris"]
    store.holds = "1.1.0"
    served.refresh(store)
    assert served.versions == {"sentiment": "1.1.0", "iris": "1.0.0"}
    assert served.models["iris"] is iris
    assert served.models["sentiment"] is not sentiment


def test_a_model_that_left_the_store_is_let_go(served: ServedSet, store: FakeStore) -> None:
    store.others = {"iris": "1.0.0"}
    served.refresh(store)
    store.others = {}
    served.refresh(store)
    assert served.versions == {"sentiment": "1.0.0"}


def test_a_replaced_model_is_freed_though_it_is_part_of_a_cycle(served: ServedSet, store: FakeStore) -> None:
    """The collector is kept off what workers share, and must still find what nobody needs any more."""
    former = weakref.ref(served.models["sentiment"])
    try:
        store.holds = "1.1.0"
        served.refresh(store)
        assert former() is None
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


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
