"""A bare-metal stack for tests: `falcon stack start --detach`, and what can be asked of it."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from falcon_wsgi import resources

FALCON = (sys.executable, "-m", "falcon_wsgi")
_START_S = 180.0


def free_base(parts: int = 4) -> int:
    """A port that is free together with those above it, and with room for the monitoring's."""
    for _ in range(100):
        base = random.randrange(20_000, 30_000, 10)
        if all(_is_free(base + offset) for offset in range(parts)):
            return base
    raise AssertionError("no free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False


class Stack:
    """Settings are given as keyword arguments in lower case and passed as environment variables."""

    def __init__(self, folder: Path, model_store: Path, **settings: object) -> None:
        self.port = free_base()
        self.working_folder = folder
        self.folder = folder / "data" / f"stack-{self.port}"
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(resources.ROOT),
            "PORT": str(self.port),
            "DATA_DIR": str(folder / "data"),
            "MODEL_STORE": str(model_store),
            **{name.upper(): str(value) for name, value in settings.items()},
        }

    def falcon(self, *arguments: str, port: int | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; `port` where it is for one of the instances."""
        environment = {**self.environment, "PORT": str(port or self.port)}
        return subprocess.run(
            [*FALCON, *arguments],
            cwd=self.working_folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_START_S,
            check=False,
        )

    def start(self, *options: str) -> subprocess.CompletedProcess[str]:
        done = self.falcon("stack", "start", "--detach", *options)
        assert done.returncode == 0, done.stderr
        return done

    def stop(self) -> subprocess.CompletedProcess[str]:
        return self.falcon("stack", "stop")

    def state(self) -> dict[str, Any]:
        """As published; empty where no stack runs."""
        try:
            content: dict[str, Any] = json.loads((self.folder / "stack.json").read_text())
        except (OSError, ValueError):
            return {}
        return content

    def part(self, name: str) -> dict[str, Any]:
        return next(part for part in self.state()["parts"] if part["name"] == name)

    def workers(self, number: int) -> list[int]:
        """Pids of an instance's workers that serve."""
        path = self.working_folder / "data" / str(self.port + number) / "workers.json"
        try:
            return [worker["pid"] for worker in json.loads(path.read_text())["workers"]]
        except (OSError, ValueError):
            return []

    def log_of(self, name: str) -> str:
        return "".join(path.read_text() for path in self.folder.joinpath("log").glob(f"{name}.log*"))

    def access_log(self) -> list[dict[str, Any]]:
        lines = (self.folder / "nginx" / "logs" / "access.log").read_text().splitlines()
        return [json.loads(line) for line in lines]
