"""Several processes change one file of API keys at once, while another reads it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from falcon_wsgi.backends.api_keys.file import KeyFile

PROCESSES, KEYS_EACH = 4, 25
WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from falcon_wsgi.backends.api_keys.file import KeyFile
from falcon_wsgi.backends.api_keys.record import issue

file, name, count = KeyFile(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
for number in range(count):
    _, record = issue(f"{name}-{number}", datetime.now(UTC))
    file.change(lambda records: [*records, record])
    if number % 5 == 4:  # and remove one again
        file.change(lambda records: [other for other in records if other.client != record.client])
"""


def test_nothing_that_several_processes_add_at_once_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), f"client-{i}", str(KEYS_EACH)])
        for i in range(PROCESSES)
    ]
    seen = [0]
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            seen.append(len(KeyFile(path).read()))  # raises if it ever found half a file
    assert [writer.wait(60) for writer in writers] == [0] * PROCESSES
    kept = {
        f"client-{i}-{number}" for i in range(PROCESSES) for number in range(KEYS_EACH) if number % 5 != 4
    }
    assert {record.client for record in KeyFile(path).read()} == kept
    assert len(set(seen)) > 2, "the reader was there while they wrote"
