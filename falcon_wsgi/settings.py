"""Every environment variable, declared once: name, type, default, bounds and meaning.

`docs/SETTINGS.md` is generated from these declarations. Nothing else in the package reads the environment.
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit, urlunsplit

from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from falcon_wsgi import resources
from falcon_wsgi.errors import ConfigurationError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


# Requests a second. Redis' scripts count microseconds in a double; at this rate a full burst still fits.
_SLOWEST_RATE = 0.001


def _networks(value: Any) -> Any:
    if isinstance(value, str):
        return tuple(ipaddress.ip_network(part.strip()) for part in value.split(",") if part.strip())
    return value


def _redis_url(value: Any) -> Any:
    return _checked_url(value, ("redis", "rediss", "unix"))


def _database_url(value: Any) -> Any:
    return _checked_url(value, ("postgresql", "postgres"))


def _checked_url(value: Any, schemes: tuple[str, ...]) -> Any:
    if isinstance(value, str) and urlsplit(value).scheme not in schemes:
        raise ValueError("a URL that starts with " + " or ".join(f"{scheme}://" for scheme in schemes))
    return value


@dataclass(frozen=True, slots=True)
class VersionShare:
    """NAME@VERSION:FRACTION, with 0 < fraction <= 1."""

    name: str
    version: str
    fraction: float

    def __str__(self) -> str:
        return f"{self.name}@{self.version}:{self.fraction:g}"


_SHARE = re.compile(r"([a-z0-9][a-z0-9-]{0,62})@(\d{1,6}\.\d{1,6}\.\d{1,6})(?::([0-9.]{1,12}))?")


def _shadow_shares(value: Any) -> Any:
    return _shares(value, default=1.0)


def _canary_shares(value: Any) -> Any:
    return _shares(value, default=None)


def _shares(value: Any, default: float | None) -> Any:
    if not isinstance(value, str):
        return value
    shares = [_share(part.strip(), default) for part in value.split(",") if part.strip()]
    names = [share.name for share in shares]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"one version for each model; {min(twice)} is there twice")
    return tuple(shares)


def _share(part: str, default: float | None) -> VersionShare:
    match = _SHARE.fullmatch(part)
    fraction = default
    if match and match[3] is not None:
        try:
            fraction = float(match[3])
        except ValueError:
            match = None
    if not match or fraction is None or not 0 < fraction <= 1:
        form = "NAME@VERSION:FRACTION" if default is None else "NAME@VERSION or NAME@VERSION:FRACTION"
        raise ValueError(f"{form}, comma-separated, with a fraction above 0 and at most 1")
    return VersionShare(match[1], match[2], fraction)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Settings(BaseSettings):
    """The effective configuration of one instance. Immutable."""

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True, case_sensitive=False
    )

    host: str = Field("127.0.0.1", description="Address to listen on. Containers set 0.0.0.0.")
    port: int = Field(8000, ge=1, le=65535, description="TCP port to listen on.")
    workers: int = Field(
        default_factory=_cores, ge=1, le=256, description="Worker processes. Default: usable cores."
    )
    worker_id: str = Field(
        "worker-1",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
        description="Name of the instance: its first worker carries it, the others are numbered after it.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = Field(
        "INFO", description="Least severe level that is logged."
    )
    access_log_sample: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Share of successful requests with an access record. Errors always have one.",
    )
    log_payloads: bool = Field(
        False, description="Store the input in the request log's payload column. Personal data may end there."
    )

    redis_url: Annotated[SecretStr | None, BeforeValidator(_redis_url)] = Field(
        None, description="Redis or Valkey server. Unset: `falcon serve` starts one of its own."
    )
    redis_timeout_ms: int = Field(
        200, ge=10, le=10_000, description="Longest wait for one answer of Redis, in milliseconds."
    )
    database_url: Annotated[SecretStr | None, BeforeValidator(_database_url)] = Field(
        None, description="Postgres server for the request log. Unset: `falcon serve` starts one of its own."
    )

    cache_enabled: bool = Field(True, description="Answer equal inputs from the cache.")
    cache_ttl_seconds: int = Field(3600, ge=1, description="Life of a cached prediction.")
    cache_local_entries: int = Field(
        5_000,
        ge=0,
        le=10_000_000,
        description="Predictions kept in each worker's memory. 0 switches that tier off.",
    )

    idempotency_enabled: bool = Field(True, description="Honour idempotency keys.")
    idempotency_ttl_seconds: int = Field(86_400, ge=1, description="Life of a stored answer.")
    idempotency_lease_seconds: float = Field(
        5.0, ge=0.5, le=300, description="A key whose owner died is free after this long. Owners renew it."
    )
    idempotency_on_outage: Literal["open", "closed"] = Field(
        "open", description="While Redis is away: open serves keyed requests unprotected, closed answers 503."
    )

    circuit_breaker_failure_threshold: int = Field(
        5, ge=1, description="Failures in a row that open a circuit."
    )
    circuit_breaker_timeout_seconds: float = Field(
        60.0,
        gt=0,
        description="Time that a circuit stays open before it is probed. For Postgres, which no request waits "
        "for, 5 seconds at most.",
    )
    circuit_breaker_half_open_attempts: int = Field(
        3,
        ge=1,
        description="Probes let through at a time while half-open; as many successes close the circuit.",
    )
    retry_max_attempts: int = Field(
        3, ge=1, le=10, description="Attempts at one operation, the first included."
    )
    retry_base_delay_ms: int = Field(100, ge=0, description="Upper bound of the first retry's random delay.")
    retry_max_delay_ms: int = Field(5000, ge=0, description="Upper bound of any retry's delay.")

    request_timeout_seconds: float = Field(30.0, gt=0, description="Time that a request may take as a whole.")
    inference_timeout_seconds: float = Field(10.0, gt=0, description="Time that its prediction may take.")
    graceful_shutdown_timeout_seconds: int = Field(
        30, ge=1, description="Time from SIGTERM until what is left is ended by force."
    )
    drain_delay_seconds: float = Field(
        0.0,
        ge=0,
        description="Time between readiness failing and the listener closing at SIGTERM; behind a load "
        "balancer, longer than its health check takes to notice.",
    )
    keepalive_seconds: int = Field(
        5, ge=1, le=75, description="Idle time after which a kept-alive connection is closed."
    )
    max_requests: int = Field(0, ge=0, description="Requests after which a worker is replaced. 0: never.")
    max_concurrent_requests: int = Field(
        512, ge=1, description="Model requests in flight in one worker; those above get 429."
    )

    rate_limit_per_second: float = Field(
        0.0,
        ge=0,
        le=10_000,
        description="Model requests a second that one client may make, by API key, else by address; those above "
        "get 429. 0: no limit; else at least 0.001.",
    )
    rate_limit_burst: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="Requests that a client may make at once after a pause. Unset: RATE_LIMIT_PER_SECOND, rounded up.",
    )

    api_keys_file: Path | None = Field(
        None,
        description="File of API keys (`falcon keys`). Set: every route but /healthz and /readyz needs one of them; "
        "read again when it changes. Unset: open.",
    )

    model_store: Path = Field(
        default_factory=resources.default_model_store, description="Folder of the models: NAME/VERSION/."
    )
    shadow: Annotated[tuple[VersionShare, ...], NoDecode, BeforeValidator(_shadow_shares)] = Field(
        (),
        description="NAME@VERSION[:FRACTION], comma-separated: versions that also answer this share of their model's "
        "live traffic (all of it by default), only to be compared: `falcon models compare`.",
    )
    shadow_tolerance: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Relative difference up to which the numbers of two versions agree. Labels agree if they are "
        "the same.",
    )
    canary: Annotated[tuple[VersionShare, ...], NoDecode, BeforeValidator(_canary_shares)] = Field(
        (),
        description="NAME@VERSION:FRACTION, comma-separated: versions that answer this share of the clients, always "
        "the same ones, by API key, else by address.",
    )
    data_dir: Path = Field(
        default_factory=resources.default_data_dir,
        description="Folder for what instances write: journals, metrics, the embedded servers' data.",
    )
    journal_dir: Path | None = Field(
        None, description="Folder of the request journal. Unset: below DATA_DIR, one for each port."
    )
    journal_max_records: int = Field(
        1_000_000,
        ge=10,
        description="Unshipped log rows kept on disk; past that the oldest go and are counted.",
    )
    journal_sync: Literal["none", "group"] = Field(
        "none",
        description="none survives the death of the process; group also that of the machine (group commit).",
    )
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_networks)] = Field(
        (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128")),
        description="Networks, comma-separated, whose X-Forwarded-For, X-Event-ID and X-Event-Time are believed.",
    )

    debug_memory_growth: bool = Field(
        False, description="Failure drill: leak memory on each request. Logs a warning at every start."
    )
    debug_memory_growth_mb_per_request: float = Field(
        0.0, ge=0, le=1024, description="Failure drill: how much, in MiB."
    )

    @field_validator("drain_delay_seconds")
    @classmethod
    def _leaves_time_to_drain(cls, delay_s: float, info: ValidationInfo) -> float:
        limit_s = info.data.get("graceful_shutdown_timeout_seconds")
        if limit_s is not None and delay_s >= limit_s:
            raise ValueError(f"less than GRACEFUL_SHUTDOWN_TIMEOUT_SECONDS ({limit_s})")
        return delay_s

    @field_validator("rate_limit_per_second")
    @classmethod
    def _is_a_rate_or_none(cls, rate: float) -> float:
        if 0 < rate < _SLOWEST_RATE:
            raise ValueError(f"0, or at least {_SLOWEST_RATE}")
        return rate

    @cached_property
    def instance_dir(self) -> Path:
        """Folder of this instance's own files; one for each port, so that two instances never share it."""
        return self.data_dir / str(self.port)

    @cached_property
    def journal_path(self) -> Path:
        return self.journal_dir or self.instance_dir / "journal"

    @cached_property
    def metrics_path(self) -> Path:
        return self.instance_dir / "metrics"

    @cached_property
    def state_file(self) -> Path:
        """JSON written by the supervisor and by Gunicorn's master, read by `falcon status`."""
        return self.instance_dir / "instance.json"

    def masked(self) -> dict[str, Any]:
        """The settings by variable name, with passwords replaced by ***."""
        shown: dict[str, Any] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, SecretStr):
                value = mask_url(value.get_secret_value())
            elif isinstance(value, tuple):
                value = ",".join(map(str, value)) or None
            elif isinstance(value, Path):
                value = str(value)
            shown[name.upper()] = value
        return shown


def mask_url(url: str) -> str:
    """The URL without its password, wherever it stands: in the authority or in the query."""
    parts = urlsplit(url)
    netloc = parts.netloc
    if "@" in netloc:
        userinfo, _, host = netloc.rpartition("@")
        user, colon, _ = userinfo.partition(":")
        netloc = f"{user}:***@{host}" if colon else netloc
    query = re.sub(r"(?i)\b(password|sslpassword)=[^&]*", r"\1=***", parts.query)
    return urlunsplit((parts.scheme, netloc, parts.path, query, parts.fragment))


def environment(**changes: str) -> dict[str, str]:
    """This process's environment with some variables changed, for a child process."""
    return {**os.environ, **changes}


def load(env_file: str | None = ".env", **overrides: Any) -> Settings:
    """Parse the environment.

    Raises:
        ConfigurationError: one line that names the variable and what it accepts.
    """
    try:
        return Settings(_env_file=env_file, **overrides)  # type: ignore[call-arg]
    except ValidationError as error:
        raise ConfigurationError(_explain(error)) from None


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    field = str(first["loc"][0]) if first["loc"] else "?"
    declared = Settings.model_fields.get(field)
    secret = field.endswith("_url")
    given = "" if secret else f" (got {first.get('input')!r:.80})"
    reason = str(first["msg"]).removeprefix("Value error, ")
    meaning = f" {declared.description}" if declared and declared.description else ""
    return f"{field.upper()} is not valid: {reason}{given}.{meaning}"
