"""What the README and the runbook tell people to type works, and what they point to exists."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.instance import Instance

ROOT = Path(__file__).parents[2]
DOCUMENTS = ["README.md", "CHANGELOG.md", "model_store/sentiment/README.md"] + [
    str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").glob("*.md"))
]


def commands(document: str, program: str) -> list[str]:
    """Lines in code blocks that run `program`, continued ones joined."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.removeprefix(".venv/bin/").startswith(program + " ")]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_and_named_files_exist(document: str) -> None:
    text = (ROOT / document).read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    named = re.findall(r"`((?:tests|falcon_wsgi|docs|scripts|conf|sql|model_store)/[\w./-]+\.\w+)`", text)
    missing = [link for link in links if not ((ROOT / document).parent / link).exists()]
    missing += [name for name in named if not (ROOT / name).exists()]
    assert missing == []


@pytest.mark.parametrize("document", ["README.md", "docs/RUNBOOK.md"])
def test_curl_lines_answer(document: str, plain_instance: Instance) -> None:
    lines = commands(document, "curl")
    assert lines
    for line in lines:
        here = line.replace("127.0.0.1:8000", f"127.0.0.1:{plain_instance.port}")
        done = subprocess.run(["bash", "-ec", "set -o pipefail; " + here], capture_output=True, text=True)
        assert done.returncode == 0, line
        assert done.stdout.strip(), line
        if "/metrics" not in line:
            assert "type" not in json.loads(done.stdout), f"{line} is answered with a problem"


@pytest.mark.parametrize("document", ["README.md", "docs/RUNBOOK.md"])
def test_falcon_commands_and_their_options_exist(document: str) -> None:
    lines = commands(document, "falcon")
    assert lines
    for line in lines:
        words = line.partition("#")[0].split()[1:]
        plain = [word for word in words if re.fullmatch(r"[a-z]+", word)]
        options = [word for word in words if word.startswith("--")]
        done = subprocess.run(
            [sys.executable, "-m", "falcon_wsgi", *plain, "--help"],
            capture_output=True,
            text=True,
            env={"PATH": os.environ["PATH"]},
        )
        assert done.returncode == 0, line
        assert all(option in done.stdout for option in options), line


def test_every_setting_that_the_documents_name_exists() -> None:
    from falcon_wsgi.settings import Settings

    known = {name.upper() for name in Settings.model_fields} | {"JSON", "PYTHON"}
    for document in ("README.md", "docs/RUNBOOK.md", "docs/TRADEOFFS.md"):
        named = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)(?:=\w+)?`", (ROOT / document).read_text()))
        assert named <= known, f"{document}: {named - known}"


def test_every_runbook_log_event_and_metric_is_one_that_the_code_has() -> None:
    source = "\n".join(path.read_text() for path in (ROOT / "falcon_wsgi").rglob("*.py"))
    runbook = (ROOT / "docs" / "RUNBOOK.md").read_text()
    names = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)(?:\{[^`]*\})?`", runbook))
    assert len(names) > 10
    assert {name for name in names if name not in source} == set()
