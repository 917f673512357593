"""What the instance on PORT runs, for `falcon status`, scripts and drills."""

from __future__ import annotations

from typing import Any

from pydantic import SecretStr

from falcon_wsgi.launch import instance, listening
from falcon_wsgi.settings import Settings


def status(settings: Settings) -> dict[str, Any] | None:
    """None if no instance runs on the port.

    Each worker names the model versions that it serves; `models_refused` is why the store's current ones are not
    the served ones, if so. URLs are those a client on this machine can use, passwords included; pids are those of
    the embedded servers' main processes, None where the server is not the instance's own.
    """
    workers = instance.read_workers(settings)
    state = instance.read_state(settings) if instance.is_claimed(settings) else {}
    if not state and not workers:
        return None
    return {
        "url": state.get("url", listening.url(settings)),
        "workers": workers,
        "models_refused": instance.read_master(settings).get("refused"),
        "redis_url": state.get("redis_url", _revealed(settings.redis_url)),
        "redis_pid": state.get("redis_pid"),
        "database_url": state.get("database_url", _revealed(settings.database_url)),
        "postgres_pid": state.get("postgres_pid"),
        "ready": listening.ready(settings),
    }


def _revealed(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None
