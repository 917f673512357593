"""A model that cannot be used stops the start, or leaves the old version serving; a good new one takes over."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from tests.e2e.instance import Instance, wait_until
from tests.e2e.scrape import Scrape
from tests.e2e.toy_models import LABELS, write_model
from tests.e2e.traffic import Traffic
from tests.e2e.workers import wait_for_replacement

OTHER_LABELS = tuple({"positive": "negative", "negative": "positive"}.get(label, label) for label in LABELS)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    write_model(tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def start(start_instance: Callable[..., Instance], store: Path) -> Callable[..., Instance]:
    return lambda **settings: start_instance(**{"model_store": store, **settings})


def reload(instance: Instance) -> None:
    former = instance.worker_pids()
    instance.signal_master(signal.SIGHUP)
    wait_for_replacement(instance, former)


def model_file(store: Path, version: str = "1.0.0") -> Path:
    return store / "sentiment" / version / "model.skops"


def damage(path: Path) -> None:
    """One bit of its content."""
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 1
    path.write_bytes(contents)


def delete(path: Path) -> None:
    path.unlink()


def replace_by_a_pickle(path: Path) -> None:
    """With a manifest that vouches for it, as whoever can write the file could."""
    path.write_bytes(pickle.dumps({"a": "model"}))
    manifest = json.loads((path.parent / "manifest.json").read_text())
    manifest["files"][path.name] = {
        "sha256": sha256(path.read_bytes()).hexdigest(),
        "bytes": path.stat().st_size,
    }
    (path.parent / "manifest.json").write_text(json.dumps(manifest))


def break_the_manifest(path: Path) -> None:
    (path.parent / "manifest.json").write_text("{")


def falsify_the_golden_example(path: Path) -> None:
    manifest = json.loads((path.parent / "manifest.json").read_text())
    manifest["golden"][0]["prediction"] = "neutral"
    (path.parent / "manifest.json").write_text(json.dumps(manifest))


def empty_the_store(path: Path) -> None:
    shutil.rmtree(path.parents[1])


HARM = {
    damage: "is not the file that was recorded",
    delete: "cannot be read: No such file",
    replace_by_a_pickle: "Pickle and joblib files can run code when loaded and are refused",
    break_the_manifest: "manifest.json is not valid",
    falsify_the_golden_example: "does not reproduce its golden example",
    empty_the_store: "the model store is empty; run: falcon train sentiment",
}


@pytest.mark.parametrize("harm", HARM, ids=lambda harm: harm.__name__)
def test_a_model_that_cannot_be_used_stops_the_start_with_one_line(
    store: Path, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    harm(model_file(store))
    instance = Instance(tmp_path, store, log_level="WARNING")
    instance.start(wait=False)
    assert instance.process is not None
    assert instance.process.wait(30) == 1
    lines = instance.log_text().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("falcon: ")
    assert HARM[harm] in lines[0]
    assert "Traceback" not in lines[0]


@pytest.mark.parametrize(
    "harm", [damage, delete, replace_by_a_pickle, empty_the_store], ids=lambda h: h.__name__
)
def test_a_model_damaged_while_it_is_served_leaves_the_old_version_serving(
    start: Callable[..., Instance], store: Path, harm: Callable[[Path], None]
) -> None:
    instance = start()
    harm(model_file(store))
    with Traffic(instance.port, kept=1, fresh=1) as traffic:
        reload(instance)
        pid = instance.workers()["worker-1"]
        os.kill(pid, signal.SIGTERM)
        wait_for_replacement(instance, [pid])
        wait_until(lambda: traffic.versions, what="an answer")
    assert traffic.failures == {}
    assert traffic.versions == ["1.0.0"]
    assert {instance.get("/readyz").status for _ in range(6)} == {200}
    refused = [record for record in instance.log_records() if record["message"] == "models_refused"]
    assert [record["level"] for record in refused] == ["ERROR"], "said once, not by every fork"
    assert HARM[harm] in refused[0]["reason"]


def test_a_reload_takes_a_new_version_to_every_worker(start: Callable[..., Instance], store: Path) -> None:
    instance = start()
    with Traffic(instance.port) as traffic:
        wait_until(lambda: traffic.versions, what="an answer of the old version")
        before = instance.infer("good").json
        assert (before["model_version"], before["prediction"]) == ("1.0.0", "positive")
        write_model(store, "1.1.0", OTHER_LABELS)
        reload(instance)
        for _ in range(6):
            after = instance.infer("good").json
            assert (after["model_version"], after["prediction"]) == ("1.1.0", "negative")
        # A client may still have to read an answer that the old version gave.
        wait_until(lambda: traffic.versions[-1] == "1.1.0", what="answers of the new version")
    assert traffic.failures == {}
    assert traffic.versions[0] == "1.0.0"
    wait_until(
        lambda: Scrape.of(instance).total("model_info") == 1, what="the end of the old version's gauge"
    )
    assert Scrape.of(instance).total("model_info", version="1.1.0") == 1


def test_a_new_version_never_answers_from_the_cache_of_the_old_one(
    start: Callable[..., Instance], store: Path, redis_server
) -> None:
    instance = start(redis_url=redis_server.url, workers=1)
    assert instance.infer("good").json["prediction"] == "positive"
    assert instance.infer("good").json["cache_hit"] is True
    write_model(store, "1.1.0", OTHER_LABELS)
    reload(instance)
    first = instance.infer("good").json
    assert (first["prediction"], first["cache_hit"]) == ("negative", False)
    assert instance.infer("good").json["cache_hit"] is True


def test_a_replaced_worker_also_serves_the_new_version(start: Callable[..., Instance], store: Path) -> None:
    instance = start(workers=1)
    write_model(store, "1.1.0", OTHER_LABELS)
    former = instance.worker_pids()
    with Traffic(instance.port) as traffic:
        wait_until(lambda: traffic.versions == ["1.0.0"])
        os.kill(former[0], signal.SIGTERM)
        wait_for_replacement(instance, former)
        wait_until(lambda: traffic.versions[-1] == "1.1.0")
    assert traffic.failures == {}
    assert set(traffic.versions) == {"1.0.0", "1.1.0"}


def test_a_repaired_model_is_served_at_the_next_reload(start: Callable[..., Instance], store: Path) -> None:
    instance = start(workers=1)
    write_model(store, "1.1.0", OTHER_LABELS)
    whole = model_file(store, "1.1.0").read_bytes()
    damage(model_file(store, "1.1.0"))
    for contents, version in ((None, "1.0.0"), (whole, "1.1.0")):
        if contents:
            model_file(store, "1.1.0").write_bytes(contents)
        reload(instance)
        assert instance.infer("good").json["model_version"] == version
