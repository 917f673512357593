"""Falcon as it is scaled: one or several instances, on a Redis and a Postgres that the harness runs."""

from __future__ import annotations

from pathlib import Path

import redis

from falcon_wsgi.backends import migrations
from falcon_wsgi.launch.embedded import EmbeddedPostgres, EmbeddedRedis
from tests.benchmarks.falcon import Falcon
from tests.benchmarks.proc import Groups
from tests.benchmarks.systems import WORKERS, stop_all


class Servers:
    """One Redis and one Postgres for all experiments, so that a start of Falcon is only that."""

    def __init__(self, folder: Path) -> None:
        # As an instance's folder, so that `Session.folder` clears it up like one.
        home = folder / "servers" / "data" / "0"
        home.mkdir(parents=True)
        for path in (home, *home.parents[:2]):
            path.chmod(0o711)
        self.redis = EmbeddedRedis(home)
        self.postgres = EmbeddedPostgres(home)

    def start(self) -> None:
        """Raises ConfigurationError where one of them cannot be started."""
        self.redis.start()
        self.postgres.start()
        migrations.migrate(self.postgres.url)

    def stop(self) -> None:
        self.redis.stop()
        self.postgres.stop()

    def empty_redis(self) -> None:
        with redis.Redis.from_url(self.redis.url) as client:
            client.flushall()

    def roots(self) -> dict[str, list[int]]:
        pids = {"redis": self.redis.pid, "postgres": self.postgres.pid}
        return {name: [pid] for name, pid in pids.items() if pid is not None}


class Instances(Falcon):
    """One instance or several on the same servers, as one system: a balancer divides the load between them."""

    def __init__(
        self,
        folder: Path,
        store: Path,
        servers: Servers,
        *,
        instances: int = 1,
        workers: int = WORKERS,
        **settings: object,
    ) -> None:
        urls = {"redis_url": servers.redis.url, "database_url": servers.postgres.url}
        shared = {**urls, "workers": workers, **settings}
        super().__init__(folder, store, **shared, worker_id="instance-1")
        self._servers = servers
        self._others = [
            Falcon(folder / f"instance-{number}", store, **shared, worker_id=f"instance-{number}")
            for number in range(2, instances + 1)
        ]

    @property
    def ports(self) -> list[int]:
        return [self.port, *(other.port for other in self._others)]

    def start(self) -> None:
        super().start()
        for other in self._others:
            other.folder.parent.mkdir(mode=0o711, exist_ok=True)
            other.start()

    def stop(self) -> None:
        try:
            stop_all(self._others)
        finally:
            super().stop()

    def roots(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = super().roots()
        if found:
            found |= self._servers.roots()
            for other in self._others:
                found["app"] += other.roots().get("app", [])
        return found

    def serving(self) -> Groups:
        """Gunicorn alone: the supervisor's child, which looks for Postgres while that is away, comes and goes."""
        return {"app": [self.gunicorn_pid()]}

    def counted(self, name: str, **labels: str) -> int:
        others = sum(other.counted(name, **labels) for other in self._others)
        return super().counted(name, **labels) + others
