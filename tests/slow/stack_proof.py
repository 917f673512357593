"""wrk through nginx while what stands behind it is reloaded, restarted and killed: not one request fails.

Takes some two minutes, so pytest does not collect it by itself: `make stack-proof`.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from falcon_wsgi.launch import processes
from tests import programs
from tests.e2e.balancer import nginx_program
from tests.e2e.instance import wait_until
from tests.e2e.stack import Stack
from tests.e2e.test_stack import serves
from tests.e2e.toy_models import write_model

MOST_S = 300
RETURN_S = 90.0
SCRIPT = """
local sent = 0
request = function()
    sent = sent + 1
    local body = '{"text": "good number ' .. sent .. '"}'
    return wrk.format("POST", "/infer", {["Content-Type"] = "application/json"}, body)
end
"""


@pytest.fixture(scope="module")
def stack(servers_folder: Path) -> Iterator[Stack]:
    nginx_program("tests/slow/stack_proof.py")
    folder = servers_folder / "proof"
    folder.mkdir()
    folder.chmod(0o711)
    write_model(folder / "store")
    stack = Stack(folder, folder / "store", workers=2)
    try:
        stack.start("--no-monitoring")
        yield stack
    finally:
        stack.stop()


def succeed(stack: Stack, *arguments: str, port: int | None = None) -> None:
    done = stack.falcon(*arguments, port=port)
    assert done.returncode == 0, done.stderr


def reload(stack: Stack) -> None:
    for number in (1, 2):
        succeed(stack, "reload", port=stack.port + number)


def hang_up(stack: Stack) -> None:
    for number in (1, 2):
        former = set(stack.workers(number))
        os.kill(stack.part(f"instance-{number}")["pid"], signal.SIGHUP)
        wait_until(lambda n=number, f=former: len(set(stack.workers(n)) - f) == 2, RETURN_S, "SIGHUP")


def restart(stack: Stack) -> None:
    succeed(stack, "stack", "restart")


def kill_workers(stack: Stack) -> None:
    for number in (1, 2, 1, 2):
        for worker in processes.children(stack.part(f"instance-{number}")["pid"])[:1]:
            os.kill(worker, signal.SIGKILL)
        time.sleep(1)


def kill_instances(stack: Stack) -> None:
    """One after the other, the next when the one before is back."""
    for name in ("instance-1", "instance-2"):
        pid = stack.part(name)["pid"]
        os.killpg(pid, signal.SIGKILL)
        wait_until(serves(stack, name, pid), RETURN_S, name)


@pytest.mark.parametrize("disturb", [reload, hang_up, restart, kill_workers, kill_instances])
def test_no_request_of_wrk_fails(stack: Stack, tmp_path: Path, disturb: Callable[[Stack], None]) -> None:
    wrk = programs.require("wrk", "wrk", "tests/slow/stack_proof.py")
    script = tmp_path / "load.lua"
    script.write_text(SCRIPT)
    command = [wrk, "-t1", "-c16", f"-d{MOST_S}s", "--timeout", "20s", "-s", str(script)]
    with subprocess.Popen(
        [*command, f"http://127.0.0.1:{stack.port}"], stdout=subprocess.PIPE, text=True
    ) as load:
        time.sleep(1)
        disturb(stack)
        time.sleep(1)
        load.send_signal(signal.SIGINT)  # wrk reports what it has
        output = load.communicate(timeout=60)[0]
    answered = int((re.search(r"(\d+) requests in", output) or [0, "0"])[1])
    print(f"\n{disturb.__name__}: {answered} requests, slowest {slowest(output)}")
    assert answered > 100
    assert "Non-2xx" not in output, output
    assert "Socket errors" not in output, output


def slowest(output: str) -> str:
    found = re.search(r"Latency +\S+ +\S+ +(\S+)", output)
    return found[1] if found else "unknown"
