"""`falcon check`: whether an instance could serve well, without starting one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import click

from falcon_wsgi import settings as configuration
from falcon_wsgi.backends import migrations, postgres, redis
from falcon_wsgi.commands import keys
from falcon_wsgi.commands.database import database_url, redis_url
from falcon_wsgi.errors import ConfigurationError, FalconError
from falcon_wsgi.launch import instance, listening, programs
from falcon_wsgi.launch.programs import Program
from falcon_wsgi.models.store import ModelStore
from falcon_wsgi.settings import Settings, mask_url

_TIMEOUT_S = 3.0

Check = Callable[[Settings], str]


def run() -> int:
    """Print a line for each check; the exit code, 1 if one failed."""
    try:
        settings = configuration.load()
    except ConfigurationError as error:
        click.echo(f"FAIL  settings: {error}")
        return 1
    click.echo("ok    settings")
    results = [_report(name, check, settings) for name, check in _checks()]
    return 0 if all(results) else 1


def _checks() -> Iterator[tuple[str, Check]]:
    yield "data folder", _data_folder
    yield "models", _models
    yield "api keys", keys.condition
    yield "port", _port
    yield "redis", _redis
    yield "postgres", _postgres
    yield "migrations", _migrations


def _report(name: str, check: Check, settings: Settings) -> bool:
    try:
        click.echo(f"ok    {name}: {check(settings)}")
    except FalconError as error:
        click.echo(f"FAIL  {name}: {error}")
        return False
    return True


def _data_folder(settings: Settings) -> str:
    folder = settings.data_dir.absolute()
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)):
        raise ConfigurationError(f"{folder} cannot be written")
    return str(folder)


def _models(settings: Settings) -> str:
    store = ModelStore(settings.model_store)
    if not store.names():
        return "none yet; `falcon serve` trains the project's own first"
    return ", ".join(f"{name} {model.version}" for name, model in store.load_current().items())


def _port(settings: Settings) -> str:
    if instance.is_claimed(settings):
        return f"{settings.port} is served by the running instance"
    listening.check_free(settings)
    return f"{settings.port} is free"


def _redis(settings: Settings) -> str:
    url = redis_url(settings)
    if url is None:
        return _embedded(programs.redis_programs(), "Redis", "REDIS_URL")
    redis.ping(url, _TIMEOUT_S)
    return f"{mask_url(url)} answers"


def _postgres(settings: Settings) -> str:
    url = database_url(settings)
    if url is None:
        return _embedded(programs.postgres_programs(), "Postgres", "DATABASE_URL")
    postgres.ping(url, _TIMEOUT_S)
    return f"{mask_url(url)} answers"


def _embedded(candidates: Iterator[Program], name: str, variable: str) -> str:
    program = next(candidates, None)
    if program is None:
        raise ConfigurationError(f"{variable} is not set, and no {name} was found that could be started")
    return f"{variable} is not set; `falcon serve` starts {program.path}"


def _migrations(settings: Settings) -> str:
    url = database_url(settings)
    if url is None:
        return "applied by `falcon serve`"
    if pending := migrations.pending(url):
        raise ConfigurationError(f"not applied: {', '.join(pending)}; run: falcon db migrate")
    return "all applied"
