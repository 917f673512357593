"""`falcon db`."""

from __future__ import annotations

import re
from datetime import timedelta

import click

from falcon_wsgi import settings as configuration
from falcon_wsgi.backends import migrations
from falcon_wsgi.errors import ConfigurationError
from falcon_wsgi.launch import instance
from falcon_wsgi.settings import Settings

_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_LEAST = timedelta(days=1)
_MOST_DAYS = 36_500


def migrate() -> None:
    applied = migrations.migrate(required_url(configuration.load()))
    click.echo(f"applied {', '.join(applied)}" if applied else "the database is up to date")


def prune(older_than: str) -> None:
    age = parse_age(older_than)
    dropped = migrations.prune(required_url(configuration.load()), age)
    click.echo(f"dropped {', '.join(dropped)}" if dropped else f"nothing is older than {older_than}")


def parse_age(text: str) -> timedelta:
    """ "30d", "48h" or "12w".

    Raises:
        ConfigurationError: another form, or less than a day.
    """
    match = re.fullmatch(r"(\d{1,6})([hdw])", text.strip())
    if not match:
        raise ConfigurationError(f"an age is a number with h, d or w, for example 30d (got {text!r})")
    age = int(match.group(1)) * _UNITS[match.group(2)]
    if not _LEAST <= age <= timedelta(days=_MOST_DAYS):
        raise ConfigurationError(f"the age has to be between 1d and {_MOST_DAYS}d (got {text!r})")
    return age


def database_url(settings: Settings) -> str | None:
    """DATABASE_URL, else that of the running instance's own Postgres."""
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    return instance.read_state(settings).get("database_url") if instance.is_claimed(settings) else None


def redis_url(settings: Settings) -> str | None:
    """REDIS_URL, else that of the running instance's own Redis."""
    if settings.redis_url is not None:
        return settings.redis_url.get_secret_value()
    return instance.read_state(settings).get("redis_url") if instance.is_claimed(settings) else None


def required_url(settings: Settings) -> str:
    if url := database_url(settings):
        return url
    raise ConfigurationError(
        f"DATABASE_URL is not set, and no instance with a Postgres runs on port {settings.port}"
    )
