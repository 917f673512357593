"""The Redis and the Postgres that the instances of a stack share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import SecretStr

from falcon_wsgi.errors import ConfigurationError
from falcon_wsgi.launch.console import say
from falcon_wsgi.launch.embedded import EmbeddedPostgres, EmbeddedRedis
from falcon_wsgi.launch.migration import Migration
from falcon_wsgi.launch.revival import Revived
from falcon_wsgi.launch.server import EmbeddedServer
from falcon_wsgi.settings import Settings, environment
from falcon_wsgi.stack.layout import Layout


class Backing:
    """The servers that the user names (REDIS_URL, DATABASE_URL), else own ones, else none, and the migrations.

    `urls` holds the addresses by variable.
    """

    def __init__(self, layout: Layout, given_up: Callable[[], bool]) -> None:
        self.urls: dict[str, str] = {}
        self._settings: Settings = layout.settings
        self._layout = layout
        self._given_up = given_up
        self._servers: list[Revived] = []
        self._migration: Migration | None = None

    def start(self) -> None:
        self._provide(EmbeddedRedis(self._layout.folder), "REDIS_URL", self._settings.redis_url)
        self._provide(EmbeddedPostgres(self._layout.folder), "DATABASE_URL", self._settings.database_url)

    def _provide(self, server: EmbeddedServer, variable: str, configured: SecretStr | None) -> None:
        if configured is not None:
            self.urls[variable] = configured.get_secret_value()
            return
        if self._given_up():
            return
        try:
            server.start(self._given_up)
        except ConfigurationError as error:
            if not self._given_up():
                say(f"WARNING: the stack runs without {server.name}: {error}")
            return
        self._servers.append(Revived(server))
        self.urls[variable] = server.url

    def migrate(self) -> None:
        if "DATABASE_URL" in self.urls and not self._given_up():
            self._migration = Migration(environment(**self.urls))
            self._migration.first_attempt(self._given_up)

    def look_after(self) -> bool:
        """Start again what died. True if a pid changed."""
        if self._migration is not None:
            self._migration.look_after()
        again = [
            revived.look_after(self._given_up) for revived in self._servers
        ]  # every one, not up to the first
        return any(again)

    def processes(self) -> list[dict[str, Any]]:
        return [
            {
                "name": each.server.name.lower(),
                "pid": each.server.pid,
                "port": each.server.port,
                "restarts": 0,
            }
            for each in self._servers
        ]

    def stop(self, patience_s: float) -> None:
        if self._migration is not None:
            self._migration.stop()
        for revived in reversed(self._servers):
            revived.server.stop(patience_s)
