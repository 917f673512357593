"""Worker processes: chunks in, parts out in the same order, and never more than a few of either in memory.

Workers are forked, so that they share the memory of the loaded model. Nothing in the parent may have started a
thread by then: in the child it would be gone, together with whatever lock it held.
"""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any

from falcon_wsgi.errors import FalconError, ScoringInterrupted
from falcon_wsgi.scoring.chunk import Chunk, Part

log = logging.getLogger(__name__)

_EACH = 2  # chunks with one worker: the one in work, and the next
_GRACE_S = 5.0

Score = Callable[[Chunk], Part]


class Pool:
    """Use as a context; leaving it ends the workers. They end by themselves when this process dies."""

    def __init__(self, score: Score, workers: int) -> None:
        context = multiprocessing.get_context("fork")
        gc.collect()
        gc.freeze()  # no collection in a worker touches the model, so its memory stays shared
        self._workers: list[tuple[Any, Connection]] = []
        while len(self._workers) < workers:
            ours, theirs = context.Pipe()
            inherited = [*self._connections, ours]
            process = context.Process(target=_work, args=(score, theirs, inherited), daemon=True)
            process.start()
            theirs.close()
            self._workers.append((process, ours))

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for _worker, connection in self._workers:
            connection.close()
        for process, _connection in self._workers:
            process.join(_GRACE_S)
            if process.is_alive():
                process.kill()
                process.join()

    @property
    def _connections(self) -> list[Connection]:
        return [connection for _, connection in self._workers]

    @property
    def pids(self) -> list[int]:
        return [process.pid for process, _ in self._workers]

    def scored(self, chunks: Iterator[Chunk]) -> Iterator[tuple[Chunk, Part]]:
        """Each chunk with its part, in order. Reads ahead only so far that no worker waits.

        Raises:
            ScoringInterrupted: a worker died.
            FalconError: what a worker raised.
        """
        connections = self._connections
        load = dict.fromkeys(connections, 0)
        waiting: dict[int, Chunk] = {}
        done: dict[int, Part] = {}
        sent = given = 0
        more = True
        while True:
            while more and sent - given < (_EACH + 1) * len(connections):
                freest = min(connections, key=load.__getitem__)
                if load[freest] == _EACH:
                    break
                chunk = next(chunks, None)
                if chunk is None:
                    more = False
                    break
                self._send(freest, (sent, chunk))
                waiting[sent] = Chunk(chunk.start, chunk.end, b"", chunk.done)
                load[freest] += 1
                sent += 1
            while given in done:
                yield waiting.pop(given), done.pop(given)
                given += 1
            if given == sent and not more:
                return
            if not any(load.values()):
                continue
            for connection, number, part in self._received([c for c in connections if load[c]]):
                load[connection] -= 1
                done[number] = part

    def _send(self, connection: Connection, task: tuple[int, Chunk]) -> None:
        try:
            connection.send(task)
        except OSError:
            raise self._death(connection) from None

    def _received(self, busy: Sequence[Connection]) -> Iterator[tuple[Connection, int, Part]]:
        for connection in wait(busy):
            assert isinstance(connection, Connection)
            try:
                number, outcome = connection.recv()
            except (EOFError, OSError):
                raise self._death(connection) from None
            if isinstance(outcome, FalconError):
                raise outcome
            yield connection, number, outcome

    def _death(self, connection: Connection) -> ScoringInterrupted:
        process = next(process for process, ours in self._workers if ours is connection)
        process.join(_GRACE_S)
        code = process.exitcode
        if code is not None and code < 0:
            cause = f"was ended by {signal.Signals(-code).name}"
            hint = (
                " (out of memory? fewer --workers or --batch-rows need less)"
                if code == -signal.SIGKILL
                else ""
            )
        else:
            cause, hint = f"ended with exit code {code}; its traceback is above", ""
        return ScoringInterrupted(f"a worker process {cause}{hint}")


def _work(score: Score, connection: Connection, inherited: Sequence[Connection]) -> None:
    """Until the parent closes its end, also by dying: then at once, whatever is in work."""
    for each in inherited:
        each.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    tasks: queue.SimpleQueue[tuple[int, Chunk]] = queue.SimpleQueue()
    # Always reading: a parent that is writing to a worker cannot be waiting for that worker to read.
    threading.Thread(target=_receive, args=(connection, tasks), daemon=True).start()
    while True:
        number, chunk = tasks.get()
        try:
            outcome: Part | FalconError = score(chunk)
        except FalconError as error:
            outcome = error
        except Exception:
            log.exception("scoring_failed")
            os._exit(1)
        with suppress(BrokenPipeError):
            connection.send((number, outcome))


def _receive(connection: Connection, tasks: queue.SimpleQueue[tuple[int, Chunk]]) -> None:
    with suppress(EOFError, OSError):
        while True:
            tasks.put(connection.recv())
    os._exit(0)
