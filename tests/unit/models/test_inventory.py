"""The listing tells what is served, what was before, and what is damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from falcon_wsgi.models import promotion
from falcon_wsgi.models.inventory import inventory
from falcon_wsgi.models.manifest import MODEL_FILE
from falcon_wsgi.models.store import ModelStore
from tests.unit.models.stored import store_with


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return store_with(tmp_path, "1.0.0", "1.1.0", "1.2.0")


def test_the_served_and_the_previous_version_are_marked(store: ModelStore) -> None:
    promotion.promote(store, "toy", "1.0.0")
    marks = {each.version: (each.served, each.previous) for each in inventory(store)}
    assert marks == {"1.0.0": (True, False), "1.1.0": (False, False), "1.2.0": (False, True)}


def test_sizes_are_those_of_all_files(store: ModelStore) -> None:
    folder = store.folder("toy") / "1.0.0"
    assert inventory(store)[0].size == sum(path.stat().st_size for path in folder.iterdir())


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda folder: (folder / MODEL_FILE).write_bytes(b"a mOdel"), "is not the file that was recorded"),
        (lambda folder: (folder / MODEL_FILE).unlink(), "cannot be read: No such file"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "manifest.json is not valid"),
        (lambda folder: (folder / "manifest.json").unlink(), "manifest.json cannot be read"),
    ],
)
def test_a_damaged_version_is_listed_as_damaged(
    store: ModelStore, harm: Callable[[Path], object], told: str
) -> None:
    harm(store.folder("toy") / "1.1.0")
    damage = {each.version: each.damage for each in inventory(store)}
    assert told in str(damage.pop("1.1.0"))
    assert set(damage.values()) == {None}


def test_a_pointer_to_nothing_leaves_no_version_served(store: ModelStore) -> None:
    (store.folder("toy") / "current").write_text("9.9.9")
    assert not any(each.served for each in inventory(store))
