"""The models that the master holds for its workers.

Workers inherit them by the fork, so a worker that replaces a killed one is ready at once. A version that is
damaged or does not load is refused here, while the last good set stays in memory and goes on being served.
"""

from __future__ import annotations

import gc
import logging
import time

from falcon_wsgi.errors import ModelError
from falcon_wsgi.models.served import ServedModel
from falcon_wsgi.models.store import ModelStore

log = logging.getLogger(__name__)


class ServedSet:
    """The current versions of the store's models, as of the last look that found them usable."""

    def __init__(self) -> None:
        self.models: dict[str, ServedModel] = {}
        self._seen: tuple[object, ...] = ()
        self._refused = False

    def load(self, store: ModelStore) -> None:
        """Load the set, whatever was held before.

        Raises:
            ModelError: the store is empty, or a version in the set cannot be used. The former set stays.
            OSError: the store cannot be read.
        """
        started = time.monotonic()
        self._seen, self._refused = store.state(), True
        self.models = store.load_current()
        self._refused = False
        self._share()
        versions = {name: model.version for name, model in self.models.items()}
        seconds = round(time.monotonic() - started, 3)
        log.info("models_loaded", extra={"models": versions, "seconds": seconds})

    def refresh(self, store: ModelStore) -> None:
        """Load the set if the store has changed. One that fails is refused and said once, not at every fork."""
        try:
            if self._seen != store.state():
                self.load(store)
        except ModelError as error:
            log.error("models_refused", extra={"reason": str(error), "error_type": error.code})
        except OSError as error:  # a version that is being replaced at this moment; the next look sees it
            log.warning("model_store_unreadable", extra={"reason": str(error)})
        except Exception:  # whatever a model raises while it is loaded, the instance goes on
            log.exception("models_refused")

    def look_again(self) -> None:
        """What was refused is tried again at the next refresh, whether its files have changed or not."""
        if self._refused:
            self._seen = ()

    def _share(self) -> None:
        """Keep the garbage collector off what is alive now: it would write to pages that workers share."""
        gc.unfreeze()  # the set before this one has to be found, to be freed
        gc.collect()
        gc.freeze()
