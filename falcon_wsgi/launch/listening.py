"""The instance's address: whether it is free, what URL leads to it, whether it is ready there."""

from __future__ import annotations

import errno
import http.client
import json
import socket
from typing import Any

from falcon_wsgi.errors import ConfigurationError
from falcon_wsgi.settings import Settings

_EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - compared, not bound


def local_host(settings: Settings) -> str:
    """The host that a client on this machine uses."""
    return _EVERY_ADDRESS.get(settings.host, settings.host)


def url(settings: Settings) -> str:
    host = local_host(settings)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def check_free(settings: Settings) -> None:
    """Bind the address for a moment.

    Raises:
        ConfigurationError: the port is taken, not allowed, or the host is not this machine's; one line.
    """
    try:
        _bind_for_a_moment(settings)
    except OSError as error:
        raise ConfigurationError(_explanation(settings, error)) from error


def is_free(settings: Settings) -> bool:
    """As `check_free`, without asking who has the port: at once, also where that one hangs."""
    try:
        _bind_for_a_moment(settings)
    except OSError:
        return False
    return True


def _bind_for_a_moment(settings: Settings) -> None:
    family, kind, protocol, _, address = socket.getaddrinfo(
        settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)


def _explanation(settings: Settings, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        owner = "another Falcon" if _is_falcon(settings) else "another program"
        return (
            f"port {settings.port} is taken by {owner}; "
            f"choose another one, for example PORT={settings.port + 1}"
        )
    if error.errno == errno.EACCES:
        return f"no permission to listen on port {settings.port}; choose one from 1024 on with PORT"
    return f"HOST={settings.host} cannot be listened on: {error.strerror}"


def _is_falcon(settings: Settings) -> bool:
    status, body = get(settings, "/healthz")
    return status in (200, 503) and "worker_id" in body


def ready(settings: Settings) -> bool:
    return get(settings, "/readyz")[0] == 200


def get(settings: Settings, path: str, timeout_s: float = 2.0) -> tuple[int, dict[str, Any]]:
    """Status and JSON body of a GET; status 0 and an empty body if there is no such answer."""
    connection = http.client.HTTPConnection(local_host(settings), settings.port, timeout=timeout_s)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        response = connection.getresponse()
        body = json.loads(response.read(65536) or b"{}")
    except (OSError, http.client.HTTPException, ValueError):
        return 0, {}
    finally:
        connection.close()
    return response.status, body if isinstance(body, dict) else {}
