"""Where the parts of a stack are: folders and ports all follow from DATA_DIR, PORT and the number of instances."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from falcon_wsgi import settings as configuration
from falcon_wsgi.errors import ConfigurationError
from falcon_wsgi.settings import Settings

MOST_INSTANCES = 64
# Added to PORT. With PORT=8000 each is where people expect that program, and stacks do not get in each other's way.
_OFFSETS = {
    "prometheus": 1090,
    "alertmanager": 1093,
    "node-exporter": 1100,
    "nginx-exporter": 1113,
    "redis-exporter": 1121,
    "postgres-exporter": 1187,
}
MONITORING = tuple(_OFFSETS)


def folder_of(settings: Settings) -> Path:
    return settings.data_dir.resolve() / f"stack-{settings.port}"


@dataclass(frozen=True)
class Layout:
    """`settings` are those of the stack: its HOST and PORT are the balancer's."""

    settings: Settings
    instances: int

    def __post_init__(self) -> None:
        if self.settings.port + max(_OFFSETS.values()) > 65535:
            highest = 65535 - max(_OFFSETS.values())
            raise ConfigurationError(f"PORT={self.settings.port} leaves no room above it; at most {highest}")

    @cached_property
    def folder(self) -> Path:
        return folder_of(self.settings)

    @property
    def log_folder(self) -> Path:
        return self.folder / "log"

    @property
    def nginx(self) -> Path:
        """nginx's prefix."""
        return self.folder / "nginx"

    def port_of(self, part: str) -> int:
        """`part` is a name of `Procfile`, with a number for an instance: "instance-2"."""
        if part == "nginx":
            return self.settings.port
        if part.startswith("instance-"):
            return self.settings.port + int(part.removeprefix("instance-"))
        return self.settings.port + _OFFSETS[part]

    @property
    def instance_names(self) -> list[str]:
        return [f"instance-{number}" for number in range(1, self.instances + 1)]

    @property
    def instance_ports(self) -> list[int]:
        return [self.port_of(name) for name in self.instance_names]


def settings_at(port: int) -> Settings:
    """The settings of what listens on a port of this stack, on loopback."""
    return configuration.load(port=port, host="127.0.0.1")
