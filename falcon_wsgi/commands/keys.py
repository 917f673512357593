"""`falcon keys`."""

from __future__ import annotations

import re
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta

import click
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from falcon_wsgi import settings as configuration
from falcon_wsgi.backends.api_keys.file import KeyFile, Records
from falcon_wsgi.backends.api_keys.record import KeyRecord, issue
from falcon_wsgi.errors import ConfigurationError
from falcon_wsgi.pipeline.rate_limit import ANONYMOUS
from falcon_wsgi.settings import Settings

_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_WIDTH_OF_A_PIPE = 400
_LONGEST = timedelta(days=36_500)


def create(client: str, expires: str | None, *, admin: bool, note: str) -> None:
    """Print the key alone on standard output, so that a script can take it from there."""
    file = _file()
    now = datetime.now(UTC).replace(microsecond=0)
    ends = now + parse_life(expires) if expires is not None else None
    if client == ANONYMOUS:
        raise ConfigurationError(f"a client cannot be called {ANONYMOUS}: requests without a key are")
    try:
        key, record = issue(client, now, expires_at=ends, admin=admin, note=note)
    except ValidationError as error:
        raise ConfigurationError(_explain(error)) from None
    file.change(lambda records: [*records, record])
    until = f"until {ends:%Y-%m-%d %H:%M} UTC" if ends else "without an end"
    click.echo(f"falcon: key {record.id} of {client}, {until}; it is shown this once:", err=True)
    click.echo(key)


def show_list() -> None:
    table = Table("id", "client", "admin", "created", "expires", "note", box=None, pad_edge=False)
    now = datetime.now(UTC)
    for record in _file().read():
        admin = "yes" if record.admin else ""
        note = escape(record.note)
        table.add_row(record.id, record.client, admin, _day(record.created_at), _end(record, now), note)
    # A pipe has no width; a key is one line there.
    width = None if sys.stdout.isatty() else _WIDTH_OF_A_PIPE
    Console(width=width, soft_wrap=True, highlight=False).print(table)


def revoke(id_or_client: str, *, every: bool) -> None:
    revoked: list[KeyRecord] = []

    def without(records: list[KeyRecord]) -> Records:
        revoked[:] = _chosen(records, id_or_client, every=every)
        return [record for record in records if record not in revoked]

    _file().change(without)
    for record in revoked:
        click.echo(f"revoked {record.id} of {record.client}")


def condition(settings: Settings) -> str:
    """What `falcon check` says of the file. Raises ConfigurationError if it cannot be used."""
    if settings.api_keys_file is None:
        return "API_KEYS_FILE is not set; every route is open"
    file = KeyFile(settings.api_keys_file)
    records, state = file.read(), file.state()
    now = datetime.now(UTC)
    clients = Counter(record.client for record in records if not record.has_expired(now))
    expired = len(records) - clients.total()
    said = f"valid: {clients.total()}, expired: {expired}, clients: {len(clients)}"
    exposed = state is not None and state.readable_by_all
    return f"{said}; {settings.api_keys_file} can be read by every user" if exposed else said


def parse_life(text: str) -> timedelta:
    """ "90d", "12w" or "12h".

    Raises:
        ConfigurationError: another form, nothing, or more than a hundred years.
    """
    match = re.fullmatch(r"(\d{1,6})([hdw])", text.strip())
    life = int(match[1]) * _UNITS[match[2]] if match else timedelta()
    if not timedelta() < life <= _LONGEST:
        raise ConfigurationError(
            f"--expires takes a number with h, d or w, for example 90d, up to {_LONGEST.days}d (got {text!r})"
        )
    return life


def _chosen(records: list[KeyRecord], id_or_client: str, *, every: bool) -> list[KeyRecord]:
    by_id = [record for record in records if record.id == id_or_client]
    found = by_id or [record for record in records if record.client == id_or_client]
    if not found:
        raise ConfigurationError(f"there is no key with the id, and no client with the name {id_or_client!r}")
    if len(found) > 1 and not every:
        ids = ", ".join(record.id for record in found)
        raise ConfigurationError(
            f"{id_or_client} has {len(found)} keys ({ids}); name one, or add --all to revoke all of them"
        )
    return found


def _file() -> KeyFile:
    path = configuration.load().api_keys_file
    if path is None:
        raise ConfigurationError("API_KEYS_FILE is not set; it names the file that holds the keys")
    return KeyFile(path)


def _explain(error: ValidationError) -> str:
    if error.errors()[0]["loc"] == ("client",):
        return (
            "a client's name is 1 to 64 letters, digits, dots, hyphens, underscores and @, the first a letter "
            "or a digit"
        )
    return "a note is at most 200 characters, without control characters"


def _end(record: KeyRecord, now: datetime) -> str:
    if record.expires_at is None:
        return ""
    return _day(record.expires_at) + (" (expired)" if record.has_expired(now) else "")


def _day(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"
