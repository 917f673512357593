"""Predictions in a process of their own, forked from the worker.

Why not a thread: a model's Python code (the regular expression of a tokenizer, say) holds the interpreter lock,
so in a thread it would stop the worker's event loop, and nothing could end it. A process leaves the loop alone
and can be killed at the deadline. The model is not loaded again: its memory is shared by the fork.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import signal
import struct
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

import gevent
import orjson
from gevent import monkey, socket
from gevent.hub import Hub, set_hub
from gevent.queue import LifoQueue

from falcon_wsgi.errors import DeadlineExceeded, PredictionFailed
from falcon_wsgi.models.forms import Input
from falcon_wsgi.models.prediction import Prediction, decode, encode
from falcon_wsgi.models.predictor import Predictor

log = logging.getLogger(__name__)

_LENGTH = struct.Struct("!I")
_CHUNK_BYTES = 1 << 20
_ANSWERED, _FAILED = b"+", b"-"

_PR_SET_PDEATHSIG = 1
_LOWEST_PRIORITY = 19  # nice(2)
# What a terminal, an operator or a service manager may send to the whole group. The process never sees them: the
# worker needs it until its own last request is answered.
_BLOCKED_SIGNALS = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
# gevent's own fork would go on with the worker's greenlets in the child.
_fork: Callable[[], int] = monkey.get_original("os", "fork")
_prctl = ctypes.CDLL(None).prctl if sys.platform.startswith("linux") else None


class PredictorPool:
    """Asks a predictor in forked processes, one call at a time in each.

    The same process takes call after call. Only while it is busy, with a call that the caller has left to itself,
    does the next one come into play; it is forked when it is needed for the first time.
    """

    def __init__(self, model: str, predictor: Predictor, most: int = 4) -> None:
        self._processes = [PredictorProcess(model, predictor) for _ in range(most)]
        self._processes[-1].start()
        self._free: LifoQueue[PredictorProcess] = LifoQueue(items=self._processes)

    def predict(self, inputs: Sequence[Input], timeout_s: float) -> list[Prediction]:
        """See `PredictorProcess.predict`. The wait for a process counts as time of the prediction."""
        with gevent.Timeout(timeout_s, _overdue(timeout_s)):
            process: PredictorProcess = self._free.get()
        try:
            return process.predict(inputs, timeout_s)
        finally:
            self._free.put(process)

    def close(self) -> None:
        """Kill the processes; what they were asked fails."""
        for process in self._processes:
            process.close()


class PredictorProcess:
    """Asks a predictor in a forked process, one call at a time.

    The process ends with `close`, with the death of this one, and when a call overruns. The next call forks a
    new one, which takes some 10 ms.

    Args:
        background: the process only gets the time of the processors that nobody else wants.
    """

    def __init__(self, model: str, predictor: Predictor, *, background: bool = False) -> None:
        self._background = background
        self._model = model
        self._predictor = predictor
        self._channel: socket.socket | None = None
        self._killed: list[int] = []
        self.pid: int | None = None

    def start(self) -> socket.socket:
        """Fork the process, unless it runs. Returns this side of the channel to it."""
        if self._channel is not None:
            return self._channel
        self._reap()
        self._channel, theirs = socket.socketpair()
        worker = os.getpid()
        former = signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED_SIGNALS)
        try:
            self.pid = _fork()
            if self.pid == 0:
                _live(self._predictor, theirs.fileno(), worker, self._background)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, former)
            theirs.close()
        return self._channel

    def predict(self, inputs: Sequence[Input], timeout_s: float) -> list[Prediction]:
        """One prediction for each input, in order. Blocks this greenlet only.

        Raises:
            DeadlineExceeded: there was no answer in time; the process has been killed.
            PredictionFailed: the model raised, gave NaN or infinity, or its process died.
        """
        answer: bytes | None = None
        try:
            with gevent.Timeout(timeout_s, _overdue(timeout_s)):
                channel = self.start()
                request = orjson.dumps(list(inputs))
                channel.sendall(_LENGTH.pack(len(request)) + request)
                answer = _receive(channel, *_LENGTH.unpack(_receive(channel, _LENGTH.size)))
        except OSError as error:
            log.error("prediction_process_lost", extra={"model": self._model, "reason": str(error)})
            raise PredictionFailed("the model could not answer this input") from error
        finally:
            if answer is None:  # whatever it still says belongs to nobody
                self.close()
        kind, content = answer[:1], answer[1:]
        if kind == _FAILED:
            raise PredictionFailed(content.decode())
        try:
            return [decode(encoded) for encoded in content.splitlines()]
        except ValueError:
            raise PredictionFailed("the model's answer is not finite") from None

    def close(self) -> None:
        """Kill the process."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self.pid is not None:
            os.kill(self.pid, signal.SIGKILL)
            self._killed.append(self.pid)
            self.pid = None
        self._reap()

    def _reap(self) -> None:
        """A killed process takes a moment to die, which is not waited for."""
        for pid in list(self._killed):
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG) == (0, 0):
                    continue
            self._killed.remove(pid)


def _receive(channel: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = channel.recv(min(size - len(parts), _CHUNK_BYTES))
        if not part:
            raise ConnectionResetError("the process has ended")
        parts += part
    return bytes(parts)


def _overdue(seconds: float) -> DeadlineExceeded:
    return DeadlineExceeded(f"the prediction took longer than {seconds:.3g} s")


# In the child, from here on. It is a copy of the worker at the moment of the fork, so the first thing is to let
# go of what the worker still uses: connections, the journal's lock, signal handlers, the event loop.


def _live(predictor: Predictor, channel: int, worker: int, background: bool) -> NoReturn:
    status = 1
    try:
        _let_go(channel, worker)
        if background:
            os.nice(_LOWEST_PRIORITY)
        while request := _read(channel):
            _write(channel, _answer(predictor, request))
        status = 0
    except OSError:
        status = 0  # the worker is gone
    except Exception:
        log.exception("prediction_process_failed")
    finally:
        # Not sys.exit: the clean-up of the worker's objects is the worker's.
        os._exit(status)


def _let_go(channel: int, worker: int) -> None:
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != worker:  # it died before the call above
        os._exit(0)
    signal.set_wakeup_fd(-1)
    os.closerange(3, channel)
    os.closerange(channel + 1, os.sysconf("SC_OPEN_MAX"))
    os.set_blocking(channel, True)
    # Whatever a model waits for (a thread pool is greenlets here) turns a loop of its own, not the worker's.
    set_hub(Hub(default=False))
    gc.freeze()


def _answer(predictor: Predictor, request: bytes) -> bytes:
    try:
        return _ANSWERED + b"\n".join(map(encode, predictor.predict(orjson.loads(request))))
    except PredictionFailed as error:
        return _FAILED + str(error).encode()
    except Exception:
        # The process outlives whatever a model raises.
        log.exception("prediction_failed")
        return _FAILED + b"the model could not answer this input"


def _read(channel: int) -> bytes:
    """The next message; empty where the worker has closed its end."""
    header = _read_exactly(channel, _LENGTH.size)
    return _read_exactly(channel, *_LENGTH.unpack(header)) if header else b""


def _read_exactly(channel: int, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = os.read(channel, min(size - len(parts), _CHUNK_BYTES))
        if not part:
            return b""
        parts += part
    return bytes(parts)


def _write(channel: int, answer: bytes) -> None:
    left = memoryview(_LENGTH.pack(len(answer)) + answer)
    while left:
        left = left[os.write(channel, left) :]
