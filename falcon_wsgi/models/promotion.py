"""Which version of a model is served: promote, roll back, remove.

Nothing is loaded here. Callers prove first that a version can be served (`launch.verification`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from falcon_wsgi.errors import ConfigurationError, ModelError, ModelInUse, ModelNotFound, SignatureChanged
from falcon_wsgi.models.compatibility import narrowings
from falcon_wsgi.models.history import Action, History, served_before
from falcon_wsgi.models.store import ModelStore


@dataclass(frozen=True, slots=True)
class Change:
    """What NAME/current named, None if nothing that the store has, and what it names now."""

    name: str
    former: str | None
    version: str


def promote(store: ModelStore, name: str, version: str, *, allow_signature_change: bool = False) -> Change:
    """Let NAME/current name `version`, atomically, and note it in the history.

    Of promotions made at once each is whole, and the last one stands. Where `current` names the version already,
    nothing is written.

    Raises:
        ModelNotFound: the store has no such version.
        SignatureChanged: it would refuse inputs that the served one accepts, and that is not allowed.
        ConfigurationError: the store cannot be written.
    """
    with _writing(store, name):
        store.manifest(name, version)
        former = _current(store, name)
        if (changes := signature_changes(store, name, former, version)) and not allow_signature_change:
            raise SignatureChanged(
                f"{name} {version} would refuse inputs that {former} accepts: {'; '.join(changes)}. "
                "Promote it with --allow-signature-change if its clients know"
            )
        if store.pointer(name) != version:
            _point(store, "promote", name, former, version)
    return Change(name, former, version)


def rollback(store: ModelStore, name: str, version: str) -> Change:
    """Return to `version`, which has to be what `previous` says.

    Raises:
        ModelNotFound: it no longer is, because another process has been quicker.
        ConfigurationError: the store cannot be written.
    """
    with _writing(store, name):
        if previous(store, name) != version:
            raise ModelNotFound(f"what {name} serves was changed meanwhile by another process; try again")
        former = _current(store, name)
        _point(store, "rollback", name, former, version)
    return Change(name, former, version)


def previous(store: ModelStore, name: str) -> str | None:
    """The version that a rollback returns to: the latest one served before that the store still has."""
    current, there = _current(store, name), store.versions(name)
    stack = served_before(History(store.folder(name)).entries(), current)
    return next((version for version in reversed(stack) if version in there and version != current), None)


def remove(store: ModelStore, name: str, version: str, *, last: bool = False) -> None:
    """Take a version out of the store, atomically.

    Args:
        last: it may be the last one of a model that no NAME/current speaks for; the model is gone then.

    Raises:
        ModelNotFound: the store has no such version.
        ModelInUse: it is the served one.
        ConfigurationError: the store cannot be written.
    """
    with _writing(store, name):
        versions = store.versions(name)
        if version not in versions:
            raise ModelNotFound(f"the store has no model {name} in version {version}")
        if store.pointer(name) == version:
            raise ModelInUse(f"{name} {version} is served; promote another version first")
        only = versions == [version]
        if only and not last:
            raise ModelInUse(f"{name} {version} is the last version of {name}; confirm it with --yes")
        if not only and version == _current(store, name):
            raise ModelInUse(f"{name} {version} is served, as the highest; promote another version first")
        store.discard(name, version)
        if only:
            History(store.folder(name)).delete()


def signature_changes(store: ModelStore, name: str, former: str | None, version: str) -> list[str]:
    """In what `version` accepts less than `former`; empty if in nothing, or if `former` cannot be read any more."""
    if former is None:
        return []
    try:
        old = store.manifest(name, former)
    except ModelError:
        return []
    return narrowings(old, store.manifest(name, version))


def _current(store: ModelStore, name: str) -> str | None:
    try:
        return store.current(name)
    except ModelNotFound:
        return None


def _point(store: ModelStore, action: Action, name: str, former: str | None, version: str) -> None:
    """The pointer first: after a crash between the two, the history takes it for an edit by hand."""
    store.point(name, version)
    History(store.folder(name)).append(action, former, version)


@contextmanager
def _writing(store: ModelStore, name: str) -> Iterator[None]:
    if not store.versions(name):
        raise ModelNotFound(f"the store has no model {name}")
    try:
        with store.locked(name):
            yield
    except OSError as error:
        raise ConfigurationError(f"the model store cannot be written: {name}: {error.strerror}") from error
