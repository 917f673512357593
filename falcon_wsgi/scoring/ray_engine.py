"""Chunks scored by Ray Data, on this machine or on a cluster, with the answers in the order of the input.

The driver sends descriptions of chunks, not their bytes: every node reads the input and the model store itself, so
both have to lie on a file system that all of them see. What a chunk is and how it is scored is the same as without
Ray, so the output is the same, byte for byte.
"""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

from falcon_wsgi.errors import FalconError, ScoringError, ScoringInterrupted
from falcon_wsgi.scoring.chunk import Chunk, Part, Position
from falcon_wsgi.scoring.reading import ParquetSource, Source
from falcon_wsgi.scoring.scorer import Job, Scorer

_OBJECT_STORE_BYTES = 256 * 1024 * 1024  # of a local Ray; parts wait there for the driver
_MOST_BLOCKS = 4096
# Ray would report its use to its makers.
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
# Without this Ray binds every interface, whatever address it is given.
_LOOPBACK_ONLY = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


class RayEngine:
    """Use as a context; a Ray that it started ends with it."""

    def __init__(self, job: Job, source: Source, workers: int, address: str | None) -> None:
        """Start a Ray on this machine, or connect to the one at `address`.

        Raises:
            ScoringError: Ray is not installed, cannot be reached, or cannot be given this input.
        """
        os.environ.update(_QUIET if address else _QUIET | _LOOPBACK_ONLY)
        try:
            import ray
            import ray.data
        except ImportError:
            raise ScoringError(
                "--engine ray needs Ray, which is not installed; install it with: pip install 'falcon-wsgi[ray]'"
            ) from None
        if source.place.path is None or source.place.gzipped:
            raise ScoringError(
                "--engine ray reads plain files in several places at once; unpack the input first"
            )
        self._job, self._source, self._workers = job, source, workers
        self._folder: str | None = None
        for name in ("ray", "ray.data"):
            logging.getLogger(name).setLevel(logging.ERROR)
        self._connect(ray, address)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True

    def __enter__(self) -> RayEngine:
        return self

    def __exit__(self, *_: object) -> None:
        import ray

        ray.shutdown()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def scored(self, start: Position) -> Iterator[tuple[Chunk, Part]]:
        """Each chunk with its part, in order.

        Raises:
            ScoringInterrupted: Ray gave up.
            FalconError: what scoring raised.
        """
        import ray

        described = list(self._tasks(start))
        # With each task, not to the constructor: Ray warns that it could not start such an actor a second time.
        tasks = [{"task": pickle.dumps((self._job, self._source, each))} for each in described]
        if not tasks:
            return
        rows = (
            ray.data.from_items(tasks, override_num_blocks=min(len(tasks), _MOST_BLOCKS))
            .map_batches(
                _Actor,
                batch_size=1,
                batch_format="numpy",
                compute=ray.data.ActorPoolStrategy(size=min(self._workers, len(tasks))),
            )
            .iter_rows()
        )
        at = start
        try:
            for row in rows:
                outcome = pickle.loads(row["outcome"])  # noqa: S301 - our own actor's
                if isinstance(outcome, FalconError):
                    raise outcome
                chunk, part = outcome
                # Ray promises the order; a row would be lost or doubled unnoticed if it ever were not so.
                if at != Position() and chunk.start != at:
                    raise ScoringInterrupted("Ray gave the answers in another order than that of the input")
                at = chunk.end
                yield chunk, part
        except ray.exceptions.RayError as error:
            reason = str(error).strip().rpartition("\n")[2][:300]
            raise ScoringInterrupted(f"Ray gave up: {reason}") from error

    def _tasks(self, start: Position) -> Iterator[tuple[Any, ...]]:
        if isinstance(self._source, ParquetSource):
            for group, first, rows in self._source.groups():
                if first + rows > start.offset:
                    yield group, first, start.offset
        else:
            for chunk in self._source.chunks(start):
                yield chunk.start, chunk.end, chunk.done

    def _connect(self, ray: Any, address: str | None) -> None:
        try:
            if address is not None:
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
                return
            # Its own folder, short enough for a socket's name: Ray's usual one belongs to whoever came first.
            self._folder = tempfile.mkdtemp(prefix="falcon-ray-")
            ray.init(
                num_cpus=max(self._workers, 1) + 1,
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _node_ip_address="127.0.0.1",
                _temp_dir=self._folder,
                _system_config={"enable_metrics_collection": False},
            )
        except (ConnectionError, OSError, RuntimeError, ValueError) as error:
            self.__exit__()
            raise ScoringError(f"Ray cannot be started: {str(error).partition(chr(10))[0][:300]}") from error


class _Actor:
    """A worker of Ray. It loads the model at its first task and keeps it."""

    def __init__(self) -> None:
        self._scorer: Scorer | None = None

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, list[bytes]]]:
        """A task in; for each of its chunks a pickled pair of chunk and part, or the error that ended it."""
        job, source, task = pickle.loads(batch["task"][0])  # noqa: S301 - the driver's
        try:
            if self._scorer is None:
                self._scorer = Scorer(job)
            for chunk in _chunks(source, task):
                part = self._scorer.score(chunk)
                yield {"outcome": [pickle.dumps((Chunk(chunk.start, chunk.end, b"", chunk.done), part))]}
        except FalconError as error:
            yield {"outcome": [pickle.dumps(error)]}


def _chunks(source: Source, task: Any) -> Iterator[Chunk]:
    if isinstance(source, ParquetSource):
        yield from source.group(*task)
        return
    start, end, done = task
    assert source.place.path is not None
    with source.place.path.open("rb") as file:
        file.seek(start.offset)
        yield Chunk(start, end, file.read(end.offset - start.offset), done)
