"""The output while it grows, and what is needed to go on after a kill.

Parts are appended to OUTPUT.partial and the reject file's .partial. A commit makes these bytes durable and then
replaces OUTPUT.partial.json, which says how long both are and where in the input the next row is. Whatever lies
beyond these lengths was never committed and is cut off by the next run. At the end the files are renamed.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from falcon_wsgi.errors import OutputRefused, RunChanged
from falcon_wsgi.scoring.chunk import Chunk, Part, Position
from falcon_wsgi.scoring.parquet_parts import framed

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Attributes:
        position: of the next row in the input.
        output, footers, rejects: bytes of each file.
        rows: scored and rejected.
        seconds: that this run and those before it took.
        complete: every row is in the files; they may still have to be renamed.
    """

    position: Position = field(default_factory=Position)
    output: int = 0
    footers: int = 0
    rejects: int = 0
    rows: int = 0
    rejected: int = 0
    seconds: float = 0.0
    complete: bool = False

    def after(self, chunk: Chunk, part: Part, footer_bytes: int) -> Progress:
        return replace(
            self,
            position=chunk.end,
            output=self.output + len(part.body),
            footers=self.footers + footer_bytes,
            rejects=self.rejects + len(part.rejects),
            rows=self.rows + part.rows,
            rejected=self.rejected + part.rejected,
        )


class Sink(Protocol):
    """Where parts go. `at` is how far the run is, also after a resume."""

    at: Progress

    def append(self, chunk: Chunk, part: Part) -> None: ...

    def commit(self, seconds: float) -> None: ...

    def finish(self, seconds: float, ending: Callable[[BinaryIO], bytes]) -> None:
        """Let the output be whole. `ending` makes its last bytes from the framed footers."""

    def close(self) -> None:
        """Let go of the files."""


class Files:
    """The paths of one output."""

    def __init__(self, output: Path, rejects: Path) -> None:
        self.output, self.rejects = output, rejects
        self.partial = _beside(output, ".partial")
        self.state = _beside(output, ".partial.json")
        self.footers = _beside(output, ".partial.footers")
        self.partial_rejects = _beside(rejects, ".partial")

    @property
    def temporary(self) -> tuple[Path, ...]:
        return self.state, self.partial, self.footers, self.partial_rejects

    def left(self) -> dict[str, Any] | None:
        """What an interrupted run recorded.

        Raises:
            RunChanged: it cannot be read.
        """
        try:
            state = json.loads(self.state.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            state = {}
        if not isinstance(state, dict) or state.get("format") != _FORMAT:
            raise RunChanged(f"{self.state} cannot be read; --restart begins anew")
        return state

    def check(self, identity: Mapping[str, Any], *, restart: bool) -> Progress | None:
        """The progress to go on from, None to begin.

        Raises:
            RunChanged: there is one, of another input, model or options.
            OutputRefused: the output is there already, or its folder is not.
        """
        for path in (self.output, self.rejects):
            if not path.parent.is_dir():
                raise OutputRefused(f"the folder {path.parent} is not there")
            if path.is_dir():
                raise OutputRefused(f"{path} is a folder")
        if restart:
            return None
        state = self.left()
        if state is None:
            for path in (self.output, self.rejects):
                if path.exists():
                    raise OutputRefused(f"{path} is there already; --restart replaces it")
            return None
        changed = [name for name, value in identity.items() if state["run"].get(name) != value]
        if changed:
            raise RunChanged(
                f"{self.partial} was left by a run with another {', '.join(changed)}; "
                "repeat that command, or begin anew with --restart"
            )
        found = dict(state["progress"])
        return Progress(**{**found, "position": Position(**found["position"])})


class ResumableSink:
    """Files on disk."""

    def __init__(
        self, files: Files, identity: Mapping[str, Any], beginning: bytes, *, restart: bool, keep: bool = True
    ) -> None:
        """Take the output for this process and cut off what was not committed.

        Args:
            identity: what has to be equal for a later run to go on.
            beginning: what the output begins with.
            keep: whether a run that breaks off leaves its files for the next one to go on from.

        Raises:
            OutputRefused: another run is writing it, or it cannot be written.
            RunChanged: see `Files.check`; or the files are shorter than was committed.
        """
        self._files, self._identity, self._keep = files, dict(identity), keep
        files.check(identity, restart=restart)  # before a file is made
        with ExitStack() as opened, _refusals(files.output):
            self._output = opened.enter_context(_claimed(files.partial))
            found = files.check(identity, restart=restart)
            if restart:
                files.state.unlink(missing_ok=True)
            self.at = found or Progress()
            if not self.at.complete:
                self._rejects = opened.enter_context(_opened(files.partial_rejects))
                self._footers = opened.enter_context(_opened(files.footers))
                self._cut()
            if found is None:
                self._output.write(beginning)
                self.at = Progress(output=len(beginning))
                self.commit(0.0)
            self._opened = opened.pop_all()

    def append(self, chunk: Chunk, part: Part) -> None:
        with _refusals(self._files.output):
            self._output.write(part.body)
            self._rejects.write(part.rejects)
            footer = framed(part.footer, self.at.output) if part.footer else b""
            self._footers.write(footer)
        # Last, and at once: an interrupt before it leaves bytes behind that nothing counts.
        self.at = self.at.after(chunk, part, len(footer))

    def commit(self, seconds: float) -> None:
        """Everything up to `at` survives the end of this process and of the machine from here on."""
        self.at = replace(self.at, seconds=seconds)
        with _refusals(self._files.output):
            for file in (self._output, self._rejects, self._footers):
                file.flush()
                os.fsync(file.fileno())
            self._record()

    def finish(self, seconds: float, ending: Callable[[BinaryIO], bytes]) -> None:
        if not self.at.complete:
            self._cut()
            with self._files.footers.open("rb") as footers:
                last = ending(footers)
            with _refusals(self._files.output):
                self._output.write(last)
            self.at = replace(self.at, output=self.at.output + len(last), complete=True)
            self.commit(seconds)
        with _refusals(self._files.output):
            self._rename()

    def close(self) -> None:
        """Let go of the files."""
        with suppress(OSError):  # of bytes that were never committed
            self._opened.close()
        if not self._keep and not self.at.complete:
            for path in self._files.temporary:
                path.unlink(missing_ok=True)

    def _cut(self) -> None:
        """Let each file end where it was committed."""
        lengths = (self.at.output, self.at.rejects, self.at.footers)
        for file, length in zip((self._output, self._rejects, self._footers), lengths, strict=True):
            file.flush()
            if file.seek(0, os.SEEK_END) < length:
                raise RunChanged(f"{self._files.partial} is shorter than was recorded; --restart begins anew")
            file.truncate(length)
            file.seek(length)

    def _record(self) -> None:
        state = {"format": _FORMAT, "run": self._identity, "progress": asdict(self.at)}
        draft = _beside(self._files.state, ".new")
        with draft.open("wb") as file:
            file.write(json.dumps(state, indent=1).encode())
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._files.state)
        _sync_folders(self._files.state, self._files.partial_rejects)

    def _rename(self) -> None:
        """Each step may have been done already, by a run that was killed right after it."""
        files = self._files
        if not self.at.rejected:
            files.partial_rejects.unlink(missing_ok=True)
            files.rejects.unlink(missing_ok=True)  # of the run that this one replaces
        elif files.partial_rejects.exists():
            files.partial_rejects.replace(files.rejects)
        if os.fstat(self._output.fileno()).st_size == self.at.output:
            files.partial.replace(files.output)
        else:
            files.partial.unlink()  # made to claim an output that is in its place already
        _sync_folders(files.output, files.rejects)
        files.footers.unlink(missing_ok=True)
        files.state.unlink()


class StreamSink:
    """Standard output. What is written is gone, so such a run cannot be resumed."""

    def __init__(self, stream: BinaryIO, rejects: BinaryIO, beginning: bytes) -> None:
        self._stream, self._rejects = stream, rejects
        self.at = Progress(output=len(beginning))
        with _refusals(Path("-")):
            stream.write(beginning)

    def append(self, chunk: Chunk, part: Part) -> None:
        with _refusals(Path("-")):
            self._stream.write(part.body)
            self._rejects.write(part.rejects)
        self.at = self.at.after(chunk, part, 0)

    def commit(self, seconds: float) -> None:
        self.at = replace(self.at, seconds=seconds)
        with _refusals(Path("-")):
            self._stream.flush()
            self._rejects.flush()

    def finish(self, seconds: float, ending: Callable[[BinaryIO], bytes]) -> None:
        self.commit(seconds)
        self.at = replace(self.at, complete=True)

    def close(self) -> None:
        self._rejects.close()


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _claimed(path: Path) -> BinaryIO:
    """The file, created where it is missing, for this process alone; the kernel frees it with its holder.

    Raises:
        OutputRefused: another run has it.
    """
    file = _opened(path)
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        ours = path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino
    except BlockingIOError:
        ours = False
    if not ours:
        file.close()
        raise OutputRefused(f"another run is writing {path}")
    return file


def _opened(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")


@contextmanager
def _refusals(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputRefused(f"{output} cannot be written: {error.strerror or error}") from error


def _sync_folders(*paths: Path) -> None:
    """A name is on the disk only once its folder is."""
    for folder in {path.parent for path in paths}:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
