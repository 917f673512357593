"""The stack's commands, from the repository's Procfile."""

from __future__ import annotations

from dataclasses import dataclass

from falcon_wsgi import resources
from falcon_wsgi.errors import ConfigurationError


@dataclass(frozen=True)
class Line:
    """One process. `kind` is the name in the file, `name` has a number behind it for an instance."""

    name: str
    kind: str
    command: str


def lines(instances: int) -> list[Line]:
    """Raises ConfigurationError where honcho, which reads Procfiles, is not installed."""
    try:
        from honcho.environ import expand_processes, parse_procfile
    except ImportError as error:
        raise ConfigurationError("the stack needs honcho; pip install 'falcon-wsgi[stack]'") from error
    processes = parse_procfile(resources.PROCFILE.read_text(encoding="utf-8")).processes
    found = []
    for expanded in expand_processes(processes, concurrency={"instance": instances}):
        kind, _, number = expanded.name.rpartition(".")
        name = f"{kind}-{number}" if kind == "instance" else kind
        found.append(Line(name, kind, expanded.cmd))
    return found
