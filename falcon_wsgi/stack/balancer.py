"""nginx's configuration for a stack: the repository's files, their templates filled in as the official image does."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from falcon_wsgi import resources
from falcon_wsgi.errors import ConfigurationError
from falcon_wsgi.settings import Settings

_STATIC = ("nginx.conf", "http", "snippets")
_SUFFIX = ".template"
# How long a prediction may take is the service's business; an attempt ends when nothing came for so much longer.
_MARGIN_S = 2.0
_LEAST_WINDOW_S = 1.0


def read_variables(path: Path) -> dict[str, str]:
    """NAME=value lines; a value goes to the end of its line, as in `docker run --env-file`.

    Raises:
        ConfigurationError: it cannot be read, or a line is something else.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    found: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not re.fullmatch(r"BALANCER_[A-Z_]+", name):
            raise ConfigurationError(f"{path}, line {number}: not BALANCER_NAME=value")
        found[name] = value
    return found


def variables(settings: Settings, instance_ports: Iterable[int], temp_dir: str) -> dict[str, str]:
    """The defaults, with what follows from a stack's settings and ports."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    addresses = [f"127.0.0.1:{port}" for port in instance_ports]
    request_s = settings.request_timeout_seconds
    attempt_s = min(settings.inference_timeout_seconds, request_s) + _MARGIN_S
    return {
        **read_variables(resources.NGINX / "defaults.env"),
        "BALANCER_LISTEN": f"{host}:{settings.port}",
        "BALANCER_SERVERS": servers(addresses),
        "BALANCER_UPSTREAM_KEEPALIVE": _milliseconds(max(0.5, settings.keepalive_seconds - 1)),
        "BALANCER_ATTEMPT_TIMEOUT": _milliseconds(attempt_s),
        "BALANCER_RETRY_WINDOW": _milliseconds(max(_LEAST_WINDOW_S, request_s - attempt_s)),
        "BALANCER_REQUEST_TIMEOUT": _milliseconds(request_s + _MARGIN_S),
        "BALANCER_GRAFANA": "127.0.0.1:3000",
        "BALANCER_RESOLVER": "127.0.0.1",
        "BALANCER_ACCESS_LOG": "logs/access.log",
        "BALANCER_TEMP_DIR": temp_dir,
    }


def servers(addresses: Iterable[str]) -> str:
    """Each once with passive ejection and once as a last resort that is never ejected."""
    listed = list(addresses)
    ejected = [f"server {address} max_fails=3 fail_timeout=5s;" for address in listed]
    return " ".join([*ejected, *(f"server {address} max_fails=0 backup;" for address in listed)])


def _milliseconds(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"


def render(prefix: Path, values: Mapping[str, str]) -> None:
    """Write a prefix for nginx: conf/ with the files, logs/ and run/."""
    conf = prefix / "conf"
    if conf.exists():
        shutil.rmtree(conf)
    for folder in (conf, prefix / "run" / "temp"):
        folder.mkdir(parents=True, exist_ok=True)
    (prefix / "logs").mkdir(mode=0o700, exist_ok=True)  # addresses of clients are nobody else's business
    for name in _STATIC:
        source = resources.NGINX / name
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, conf / name)
    templates = resources.NGINX / "templates"
    for template in sorted(templates.rglob(f"*{_SUFFIX}")):
        target = conf / "conf.d" / template.relative_to(templates).with_suffix("")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(filled(template.read_text(encoding="utf-8"), values), encoding="utf-8")


def filled(template: str, values: Mapping[str, str]) -> str:
    """`${NAME}` of the given names replaced; all else, nginx's own variables too, stays.

    Raises:
        ConfigurationError: the template has a BALANCER_ variable without a value.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name not in values:
            raise ConfigurationError(f"nginx's templates need {name}, which nginx/defaults.env does not have")
        return values[name]

    return re.sub(r"\$\{(BALANCER_[A-Z_]+)\}", value, template)


def check(program: Path, prefix: Path, globals_: str) -> None:
    """Raises ConfigurationError with nginx's own words where it does not take the configuration."""
    command = [str(program), "-t", "-q", "-p", str(prefix), "-c", "conf/nginx.conf", "-e", "logs/error.log"]
    done = subprocess.run([*command, "-g", globals_], capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        words = [line for line in done.stderr.splitlines() if "[emerg]" in line] or done.stderr.splitlines()
        raise ConfigurationError(
            f"nginx refuses its configuration: {(words or ['it does not say why'])[0][:300]}"
        )
