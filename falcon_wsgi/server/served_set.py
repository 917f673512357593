"""The models that the master holds for its workers.

Workers inherit them by the fork, so a worker that replaces a killed one is ready at once. A version that is
damaged or does not load is refused here, while the last good set stays in memory and goes on being served.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import time
from collections.abc import Mapping, Sequence
from itertools import chain

from falcon_wsgi.errors import ModelError
from falcon_wsgi.models.served import ServedModel
from falcon_wsgi.models.store import ModelStore
from falcon_wsgi.models.trials import Asked, Trials, prepare

log = logging.getLogger(__name__)

_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of the GNU C library

_State = Mapping[str, object]


def _key(version: Asked | ServedModel) -> str:
    return f"{version.name}@{version.version}"


class ServedSet:
    """The current versions of the store's models, as of the last look that found them usable.

    Attributes:
        trials: the versions on trial beside them.
        refused: why the last look was not: one line. None if it was.
    """

    def __init__(self) -> None:
        self.models: dict[str, ServedModel] = {}
        self.trials = Trials()
        self._asked: tuple[Sequence[Asked], Sequence[Asked]] = ((), ())
        self.refused: str | None = None
        self._loaded: _State = {}  # of the models held
        self._seen: _State | None = None  # at the last look; None asks for another

    @property
    def versions(self) -> dict[str, str]:
        return {name: model.version for name, model in self.models.items()}

    def ask_for(self, shadow: Sequence[Asked], canary: Sequence[Asked]) -> None:
        """The trials that the set is to have from the next look on."""
        self._asked = (shadow, canary)

    def load(self, store: ModelStore) -> None:
        """Take the store's current versions; those that have not changed since they were loaded stay as they are.

        Raises:
            ModelError: the store is empty, or a version in the set or on trial cannot be used. The former set stays.
            OSError: the store cannot be read.
        """
        started = time.monotonic()
        state = self._seen = self._state(store)
        unchanged = {name: m for name, m in self.models.items() if self._loaded.get(name) == state.get(name)}
        models = store.load_current(keep=unchanged)
        self.trials = self._prepared(store, models, state)
        first = not self.models
        self.models, self._loaded = models, state
        self.refused = None
        self._share(first)
        seconds = round(time.monotonic() - started, 3)
        log.info("models_loaded", extra={"models": self.versions, "seconds": seconds})

    def refresh(self, store: ModelStore) -> None:
        """Load the set if the store has changed. One that fails is refused and said once, not at every fork."""
        try:
            if self._seen != self._state(store):
                self.load(store)
        except ModelError as error:
            self.refused = str(error)
            log.error("models_refused", extra={"reason": self.refused, "error_type": error.code})
        except OSError as error:  # a version that is being removed at this moment; the next look sees it
            self.refused, self._seen = f"the model store cannot be read: {error.strerror}", None
            log.warning("model_store_unreadable", extra={"reason": str(error)})
        except Exception as error:  # whatever a model raises while it is loaded, the instance goes on
            self.refused = f"a model could not be loaded: {type(error).__name__}; the log says more"
            log.exception("models_refused")

    def look_again(self) -> None:
        """What was refused is tried again at the next refresh, whether its files have changed or not."""
        if self.refused is not None:
            self._seen = None

    def _state(self, store: ModelStore) -> _State:
        on_trial = {_key(each): store.marks(each.name, each.version) for each in chain(*self._asked)}
        return {**store.state(), **on_trial, "asked": self._asked}

    def _prepared(self, store: ModelStore, models: Mapping[str, ServedModel], state: _State) -> Trials:
        held = {_key(model): model for model in self.trials}

        def version(name: str, number: str) -> ServedModel:
            if models[name].version == number:
                return models[name]
            key = f"{name}@{number}"
            if key in held and self._loaded.get(key) == state[key]:
                return held[key]
            return store.load(name, number)

        return prepare(*self._asked, models, version)

    def _share(self, first: bool) -> None:
        """Keep the garbage collector off what is alive now: it would write to pages that workers share."""
        if not first:
            gc.unfreeze()  # the set before this one has to be found, to be freed
        gc.collect()
        if _trim is not None:
            # What it leaves between what stays would fill up differently in each worker, and be shared no more.
            _trim(0)
        gc.freeze()
