"""`falcon reload`: a promoted version reaches every worker and no request is lost; one that is refused reaches none."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from falcon_wsgi.launch.embedded import EmbeddedRedis
from falcon_wsgi.models import promotion
from falcon_wsgi.models.store import ModelStore
from tests.e2e.instance import Instance, running, wait_until
from tests.e2e.promotions import Judges, falcon, footprint, succeed
from tests.e2e.toy_models import LABELS, write_model
from tests.e2e.workers import wait_for_replacement

OTHER_LABELS = tuple({"positive": "negative", "negative": "positive"}.get(label, label) for label in LABELS)
EXPECTED = {"1.0.0": "positive", "1.1.0": "negative"}
MOST_GROWTH = 0.05


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1.0.0, which is served, and 1.1.0, which says the opposite."""
    store = tmp_path_factory.mktemp("versions")
    write_model(store, "1.0.0")
    write_model(store, "1.1.0", OTHER_LABELS)
    ModelStore(store).point("sentiment", "1.0.0")
    return store


@pytest.fixture(scope="module")
def instance(module_folder: Path, versions: Path) -> Iterator[Instance]:
    """One for the module, with two workers and no Redis."""
    shutil.copytree(versions, module_folder / "store")
    with running(Instance(module_folder, module_folder / "store")) as instance:
        yield instance


@pytest.fixture
def store(instance: Instance) -> Iterator[ModelStore]:
    """The instance's, which serves 1.0.0 before and after the test."""
    store = ModelStore(Path(instance.environment["MODEL_STORE"]))
    yield store
    promotion.promote(store, "sentiment", "1.0.0")
    succeed(instance, "reload")


def model_file(store: ModelStore, version: str) -> Path:
    return store.folder("sentiment") / version / "model.skops"


def test_six_promotions_under_load_lose_no_request_mix_no_versions_and_cost_no_memory(
    tmp_path: Path, versions: Path, redis_server: EmbeddedRedis
) -> None:
    """The short form of tests/slow/promotions.py. The shared cache holds both versions' answers all along."""
    shutil.copytree(versions, tmp_path / "store")
    store = ModelStore(tmp_path / "store")
    with (
        running(Instance(tmp_path, store.root, redis_url=redis_server.url)) as instance,
        Judges(instance.port, "good", EXPECTED) as judges,
    ):
        before = None
        wait_until(lambda: judges.versions["1.0.0"] > 10, what="answers of the first version")
        for number in range(7):
            version = "1.0.0" if number % 2 else "1.1.0"
            answered = judges.versions[version]
            promotion.promote(store, "sentiment", version)
            told = succeed(instance, "reload")
            assert told.count(f"sentiment {version}") == 2
            assert instance.infer("good").json["model_version"] == version
            wait_until(lambda: judges.versions[version] > answered + 5, what="the version's answers")  # noqa: B023
            before = before or footprint(instance)  # with both versions seen once
        after = footprint(instance)
    assert judges.failures == []
    assert judges.mixed == []
    for name, size in before.items():
        assert after[name] < size * (1 + MOST_GROWTH)


def test_a_promoted_version_is_served_once_it_is_reloaded_and_status_says_so(
    instance: Instance, store: ModelStore
) -> None:
    former = instance.workers()
    assert "promoted sentiment 1.1.0" in succeed(instance, "models", "promote", "sentiment", "1.1.0")
    assert instance.infer("good").json["model_version"] == "1.0.0"
    done = falcon(instance, "reload")
    assert done.returncode == 0, done.stderr
    now = instance.workers()
    assert done.stdout.splitlines() == [f"{name}  pid {pid}  sentiment 1.1.0" for name, pid in now.items()]
    progress = done.stderr.splitlines()
    assert progress[0] == "falcon: the store is verified: sentiment 1.1.0 in place of 1.0.0"
    assert [line.rpartition(" in ")[0] for line in progress[1:]] == [
        f"falcon: {name}: pid {pid} replaced by {now[name]}" for name, pid in former.items()
    ]
    shown = succeed(instance, "status").splitlines()
    assert [line.split()[-2:] for line in shown if line.startswith("worker-")] == [["sentiment", "1.1.0"]] * 2
    assert instance.infer("good").json["prediction"] == "negative"


def damage(store: ModelStore) -> None:
    path = model_file(store, "1.1.0")
    path.write_bytes(path.read_bytes()[:-1])
    (store.folder("sentiment") / "current").write_text("1.1.0")


def name_nothing(store: ModelStore) -> None:
    (store.folder("sentiment") / "current").write_text("9.9.9")


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (damage, "sentiment/1.1.0/model.skops is not the file that was recorded"),
        (name_nothing, "sentiment/current names version '9.9.9', which the store does not have"),
    ],
)
def test_a_version_put_in_place_by_hand_that_cannot_be_used_is_refused_and_costs_no_worker(
    instance: Instance, store: ModelStore, harm: Callable[[ModelStore], None], reason: str
) -> None:
    former = instance.workers()
    whole = model_file(store, "1.1.0").read_bytes()
    harm(store)
    try:
        with Judges(instance.port, "good", EXPECTED, clients=2) as judges:
            for _ in range(2):
                done = falcon(instance, "reload")
                assert (done.returncode, done.stdout) == (1, "")
                assert done.stderr.startswith("falcon: refused, the instance keeps sentiment 1.0.0: ")
                assert reason in done.stderr
                assert done.stderr.count("\n") == 1
            assert instance.workers() == former
            pid = former["worker-1"]
            os.kill(pid, signal.SIGTERM)
            wait_for_replacement(instance, [pid])
            left = instance.worker_pids()
            instance.signal_master(signal.SIGHUP)
            wait_for_replacement(instance, left)
        assert judges.failures == []
        assert set(judges.versions) == {"1.0.0"}
        assert reason in falcon(instance, "status", "--json").stdout
        pid = instance.workers()["worker-2"]
        os.kill(pid, signal.SIGKILL)
        wait_for_replacement(instance, [pid])
        assert {instance.infer("good").json["model_version"] for _ in range(6)} == {"1.0.0"}
    finally:
        model_file(store, "1.1.0").write_bytes(whole)
    promotion.promote(store, "sentiment", "1.1.0")
    assert succeed(instance, "reload").count("sentiment 1.1.0") == 2


def test_two_reloads_at_once_are_one(instance: Instance) -> None:
    with (instance.folder / "data" / str(instance.port) / "reload.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = falcon(instance, "reload")
    assert done.returncode == 1
    assert done.stderr.startswith(f"falcon: another reload of port {instance.port} is running")


def test_a_reload_stops_at_a_worker_that_is_not_replaced_in_time(instance: Instance) -> None:
    """The others go on as they are."""
    former = instance.workers()
    os.kill(former["worker-1"], signal.SIGSTOP)
    try:
        done = falcon(instance, "reload", "--timeout", "1")
    finally:
        os.kill(former["worker-1"], signal.SIGCONT)
    assert done.returncode == 1
    reason = f"worker-1 (pid {former['worker-1']}) was sent SIGTERM and has no replacement that serves"
    assert f"falcon: {reason} within 1 s; the log says more\n" in done.stderr
    wait_for_replacement(instance, [former["worker-1"]])
    assert instance.workers()["worker-2"] == former["worker-2"]


def test_one_worker_alone_is_reloaded_without_losing_a_request(
    start_instance: Callable[..., Instance], versions: Path, tmp_path: Path
) -> None:
    """Connections wait in the listener's queue meanwhile. A replacement that does not start is told."""
    shutil.copytree(versions, tmp_path / "store")
    store = ModelStore(tmp_path / "store")
    instance = start_instance(model_store=store.root, workers=1)
    with Judges(instance.port, "good", EXPECTED) as judges:
        promotion.promote(store, "sentiment", "1.1.0")
        assert "sentiment 1.1.0" in succeed(instance, "reload")
        assert instance.infer("good").json["model_version"] == "1.1.0"
    assert judges.failures == []
    assert judges.mixed == []
    journal = instance.folder / "data" / str(instance.port) / "journal"
    shutil.rmtree(journal)
    journal.write_text("no folder")
    done = falcon(instance, "reload")
    assert done.returncode == 1
    assert "falcon: worker-1 was ended, and its replacement does not start: " in done.stderr
    journal.unlink()
    wait_for_replacement(instance, [])
    assert instance.infer("good").status == 200
