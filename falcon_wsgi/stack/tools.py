"""The programs of a stack on this machine: where they are, and how to get the one that is needed."""

from __future__ import annotations

import shutil
from pathlib import Path

from falcon_wsgi.errors import ConfigurationError

# Debian keeps servers where the PATH of a user who is not root does not lead.
_MORE_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin")
# By the names of Debian's packages, then of the projects' own releases.
_NAMES = {
    "nginx": ("nginx",),
    "prometheus": ("prometheus",),
    "alertmanager": ("prometheus-alertmanager", "alertmanager"),
    "node-exporter": ("prometheus-node-exporter", "node_exporter"),
    "nginx-exporter": ("prometheus-nginx-exporter", "nginx-prometheus-exporter"),
    "redis-exporter": ("prometheus-redis-exporter", "redis_exporter"),
    "postgres-exporter": ("prometheus-postgres-exporter", "postgres_exporter"),
}


def find(part: str) -> Path | None:
    for name in _NAMES[part]:
        if found := shutil.which(name):
            return Path(found)
        for folder in _MORE_FOLDERS:
            if found := shutil.which(name, path=folder):
                return Path(found)
    return None


def nginx() -> Path:
    """Raises ConfigurationError where it is not installed; one line with the remedy."""
    if (found := find("nginx")) is None:
        raise ConfigurationError(
            "nginx is not installed; as root: apt-get install nginx (macOS: brew install nginx)"
        )
    return found
