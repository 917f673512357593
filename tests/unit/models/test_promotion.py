"""What is served is what was promoted last, until it is rolled back; what is served cannot be removed."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
from pathlib import Path
from threading import Thread

import pytest

from falcon_wsgi.errors import (
    ConfigurationError,
    ModelInUse,
    ModelNotFound,
    ModelVersionExists,
    SignatureChanged,
)
from falcon_wsgi.models import promotion
from falcon_wsgi.models import store as stores
from falcon_wsgi.models.manifest import MODEL_FILE
from falcon_wsgi.models.signature import TextSignature
from falcon_wsgi.models.store import ModelStore
from tests.unit.models.stored import manifest, store_with


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return store_with(tmp_path, "1.0.0", "1.1.0", "1.2.0")


def promote(store: ModelStore, *versions: str) -> None:
    for version in versions:
        promotion.promote(store, "toy", version)


def rollback(store: ModelStore) -> str:
    version = promotion.previous(store, "toy")
    assert version is not None
    promotion.rollback(store, "toy", version)
    return store.current("toy")


def test_a_promoted_version_is_served_though_it_is_not_the_highest(store: ModelStore) -> None:
    assert store.current("toy") == "1.2.0"
    change = promotion.promote(store, "toy", "1.0.0")
    assert (change.former, change.version) == ("1.2.0", "1.0.0")
    assert store.current("toy") == "1.0.0"


def test_a_version_added_later_waits_for_its_promotion(store: ModelStore) -> None:
    promote(store, "1.2.0")
    store.write(manifest("2.0.0"), {MODEL_FILE: b"a model"})
    assert store.current("toy") == "1.2.0"


def test_an_unknown_version_is_not_promoted(store: ModelStore) -> None:
    for name, version in (("toy", "9.9.9"), ("toy", "../1.0.0"), ("absent", "1.0.0"), ("..", "toy")):
        with pytest.raises(ModelNotFound):
            promotion.promote(store, name, version)
    assert store.current("toy") == "1.2.0"
    assert store.pointer("toy") is None


def test_rollbacks_go_further_back_each_time(store: ModelStore) -> None:
    promote(store, "1.0.0", "1.1.0")
    assert [rollback(store), rollback(store)] == ["1.0.0", "1.2.0"]
    assert promotion.previous(store, "toy") is None


def test_a_promotion_after_a_rollback_returns_to_where_it_began(store: ModelStore) -> None:
    promote(store, "1.0.0", "1.1.0")
    rollback(store)
    promote(store, "1.2.0")
    assert rollback(store) == "1.0.0"


def test_a_rollback_passes_over_what_was_removed(store: ModelStore) -> None:
    promote(store, "1.0.0", "1.1.0", "1.2.0")
    promotion.remove(store, "toy", "1.1.0")
    assert rollback(store) == "1.0.0"


def test_a_rollback_leaves_a_broken_pointer_for_what_was_promoted_last(store: ModelStore) -> None:
    promote(store, "1.0.0", "1.1.0")
    for broken in ("9.9.9", ""):
        (store.folder("toy") / "current").write_text(broken)
        assert promotion.previous(store, "toy") == "1.1.0"
    promote(store, "1.2.0")
    assert store.current("toy") == "1.2.0"


def test_a_rollback_that_another_process_was_quicker_with_is_refused(store: ModelStore) -> None:
    promote(store, "1.0.0", "1.1.0")
    promotion.rollback(store, "toy", "1.0.0")
    with pytest.raises(ModelNotFound, match="changed meanwhile"):
        promotion.rollback(store, "toy", "1.0.0")


def test_promoting_the_served_version_writes_nothing(store: ModelStore) -> None:
    promote(store, "1.0.0", "1.0.0", "1.0.0")
    assert rollback(store) == "1.2.0"


def test_a_signature_that_accepts_less_needs_a_word(tmp_path: Path) -> None:
    store = store_with(tmp_path, "1.0.0")
    short = manifest("1.1.0", signature=TextSignature(max_length=50))
    store.write(short, {MODEL_FILE: b"a model"})
    promote(store, "1.0.0")
    with pytest.raises(SignatureChanged, match=r"max_length is 50, not 10000.*--allow-signature-change"):
        promotion.promote(store, "toy", "1.1.0")
    assert store.current("toy") == "1.0.0"
    promotion.promote(store, "toy", "1.1.0", allow_signature_change=True)
    assert store.current("toy") == "1.1.0"
    promote(store, "1.0.0")  # which accepts more


def test_a_served_version_that_cannot_be_read_stops_no_promotion(store: ModelStore) -> None:
    (store.folder("toy") / "1.2.0" / "manifest.json").write_text("{")
    promote(store, "1.0.0")
    assert store.current("toy") == "1.0.0"


def test_the_served_version_is_not_removed(store: ModelStore) -> None:
    with pytest.raises(ModelInUse, match=r"1\.2\.0 is served, as the highest"):
        promotion.remove(store, "toy", "1.2.0")
    promote(store, "1.1.0")
    with pytest.raises(ModelInUse, match=r"1\.1\.0 is served"):
        promotion.remove(store, "toy", "1.1.0", last=True)
    promotion.remove(store, "toy", "1.2.0")
    assert store.versions("toy") == ["1.0.0", "1.1.0"]
    with pytest.raises(ModelNotFound):
        promotion.remove(store, "toy", "1.2.0")


def test_the_last_version_goes_only_by_a_word_and_only_without_a_pointer(tmp_path: Path) -> None:
    store = store_with(tmp_path, "1.0.0")
    with pytest.raises(ModelInUse, match="last version of toy; confirm it with --yes"):
        promotion.remove(store, "toy", "1.0.0")
    promotion.remove(store, "toy", "1.0.0", last=True)
    assert store.names() == []
    store_with(tmp_path, "1.0.0")
    promote(store, "1.0.0")
    with pytest.raises(ModelInUse):
        promotion.remove(store, "toy", "1.0.0", last=True)


def test_a_model_that_comes_again_has_no_history(tmp_path: Path) -> None:
    store = store_with(tmp_path, "1.0.0", "1.1.0")
    promote(store, "1.0.0", "1.1.0")
    (store.folder("toy") / "current").unlink()
    promotion.remove(store, "toy", "1.0.0")
    promotion.remove(store, "toy", "1.1.0", last=True)
    store_with(tmp_path, "1.0.0", "1.1.0")
    assert promotion.previous(store, "toy") is None


def test_promotions_at_once_are_each_whole(store: ModelStore) -> None:
    threads = [Thread(target=promote, args=(store, "1.0.0", "1.1.0", "1.2.0")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    lines = (store.folder("toy") / "history.jsonl").read_text().splitlines()
    steps = [json.loads(line) for line in lines]
    assert all(former["to"] == later["from"] for former, later in itertools.pairwise(steps))
    assert store.current("toy") == steps[-1]["to"]


def test_a_lock_that_is_never_freed_is_told(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "_LOCK_PATIENCE_S", 0.0)
    with (store.folder("toy") / ".lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ConfigurationError, match="another process is writing toy"):
            promote(store, "1.0.0")
    promote(store, "1.0.0")


def test_a_store_that_cannot_be_written_is_told_and_unchanged(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    promote(store, "1.0.0")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigurationError, match="the model store cannot be written: toy: No space left"):
        promote(store, "1.1.0")
    assert store.current("toy") == "1.0.0"


def test_a_version_is_never_changed(store: ModelStore) -> None:
    before = store.state()
    store.write(manifest("1.2.0", metrics={"accuracy": 1}), {MODEL_FILE: b"a model"})
    assert store.state() == before, "the same model again: nothing to do"
    with pytest.raises(ModelVersionExists, match="with other contents"):
        store.write(manifest("1.2.0", b"another"), {MODEL_FILE: b"another"})
    assert store.state() == before


def test_a_damaged_version_is_not_written_over(store: ModelStore) -> None:
    (store.folder("toy") / "1.2.0" / MODEL_FILE).write_bytes(b"damaged")
    with pytest.raises(ModelVersionExists, match="is damaged"):
        store.write(manifest("1.2.0"), {MODEL_FILE: b"a model"})


def test_what_a_killed_writer_left_is_swept_away(store: ModelStore) -> None:
    for left in (".writing-abc", ".removed-def"):
        (store.folder("toy") / left / "1.3.0").mkdir(parents=True)
    assert store.versions("toy") == ["1.0.0", "1.1.0", "1.2.0"]
    promote(store, "1.0.0")
    assert not list(store.folder("toy").glob(".*-*"))
