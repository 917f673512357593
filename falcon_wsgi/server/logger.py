"""Gunicorn's own log lines in the format of all others, and no access log beside Falcon's."""

from __future__ import annotations

import logging
from typing import Any

from gunicorn.glogging import Logger


class GunicornLogger(Logger):  # type: ignore[misc]
    """Hands records to the root logger, which `observability.logs` configures."""

    def setup(self, cfg: Any) -> None:
        self.loglevel = self.LOG_LEVELS.get(cfg.loglevel.lower(), logging.INFO)
        self.error_log = logging.getLogger("gunicorn.error")
        self.error_log.handlers[:] = []
        self.error_log.propagate = True
        self.error_log.setLevel(self.loglevel)

    def access(self, resp: Any, req: Any, environ: Any, request_time: Any) -> None:
        pass
