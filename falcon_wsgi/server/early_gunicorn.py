"""Gunicorn's command, begun before its environment is complete: it imports libraries while that is prepared.

`python -m falcon_wsgi.server.early_gunicorn MODULE ARGUMENT...` imports MODULE, waits on standard input for the
variables that are missing (`launch.gunicorn` sends them), and goes on as `gunicorn ARGUMENT...`.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys


def main() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nothing is loaded yet, so there is nothing to load again
    importlib.import_module(sys.argv.pop(1))
    received = sys.stdin.read()
    if not received:
        sys.exit(0)  # the supervisor is gone, or gave the start up
    os.environ.update(json.loads(received))
    _close_standard_input()

    from gunicorn.app.wsgiapp import run

    run(prog="gunicorn")


def _close_standard_input() -> None:
    """Its number stays taken, so that no other file gets it."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, sys.stdin.fileno())
    os.close(nothing)


if __name__ == "__main__":
    main()
