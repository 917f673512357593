"""Forks servers and commands, having imported what each of them imports: `python -m tests.e2e.forking FD KIND`.

A message on the socket FD asks for one: its arguments, environment and folder, beside four descriptors, which are its
input, output and errors, and a pipe that takes its pid and its exit code, a line each. At the socket's end all end.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
from typing import Any

LONGEST_MESSAGE = 2**20
SERVER, COMMAND = "server", "command"
LIBRARIES = {
    SERVER: ("skops.io", "flask", "pydantic", "psycopg", "redis", "pybreaker", "orjson"),
    COMMAND: ("skops.io", "pandas", "pydantic", "psycopg", "redis", "pybreaker", "orjson", "click"),
}

# As they are before gevent patches them: this process has no event loop, which a server would inherit.
_fork, _waitpid, _select = os.fork, os.waitpid, select.select


def import_libraries(kind: str) -> None:
    """Those of others. Gunicorn and Falcon themselves are left to each process."""
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
    if kind == SERVER:  # as conf/gunicorn.conf.py begins
        from gevent import monkey

        monkey.patch_all()
        from falcon_wsgi.server.lean import import_scikit_learn

        import_scikit_learn()
    for name in LIBRARIES[kind]:
        importlib.import_module(name)
    gc.freeze()  # or the first collection in each process copies every page


def serve(requests: socket.socket) -> dict[str, Any] | None:
    """Fork what is asked for until the socket ends. Returns in each forked process too: what it has to become."""
    told_on: dict[
        int, tuple[int, int]
    ] = {}  # pid and pipe by the descriptor that becomes readable at the end
    while True:
        readable, _, _ = _select([requests.fileno(), *told_on], [], [])
        for ended in set(readable) & set(told_on):
            pid, pipe = told_on.pop(ended)
            code = os.waitstatus_to_exitcode(_waitpid(pid, 0)[1])
            with contextlib.suppress(BrokenPipeError):  # nobody waits for it any more
                os.write(pipe, b"%d\n" % code)
            os.close(pipe)
            os.close(ended)
        if requests.fileno() in readable:
            message, descriptors, _, _ = socket.recv_fds(requests, LONGEST_MESSAGE, 4)
            if not message:
                for pid, _ in told_on.values():
                    os.killpg(pid, signal.SIGKILL)
                return None
            *streams, pipe = descriptors
            if (pid := _fork()) == 0:
                return {**json.loads(message), "streams": streams}
            for stream in streams:
                os.close(stream)
            os.write(pipe, b"%d\n" % pid)
            told_on[os.pidfd_open(pid)] = pid, pipe


def become(arguments: list[str], environment: dict[str, str], folder: str, streams: list[int]) -> None:
    """What `python -m` with these arguments is, started in `folder` as the leader of a process group of its own."""
    os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0] = folder
    sys.argv = arguments
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as connection:  # before the patches as well
        import_libraries(sys.argv[2])
        wanted = serve(connection)
    if wanted is not None:
        become(**wanted)
