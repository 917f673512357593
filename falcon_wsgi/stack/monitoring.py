"""What Prometheus and the Alertmanager of a stack read: the repository's files, and the stack's targets beside them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection
from pathlib import Path

from falcon_wsgi import resources
from falcon_wsgi.stack.layout import MONITORING, Layout


def render(layout: Layout, running: Collection[str]) -> None:
    """Write both folders. `running` names the parts that are there to be scraped."""
    for name in ("prometheus", "alertmanager"):
        folder = layout.folder / name
        (folder / "data").mkdir(parents=True, exist_ok=True)
        shutil.copytree(resources.MONITORING / name, folder, dirs_exist_ok=True)
    targets = layout.folder / "prometheus" / "targets"
    targets.mkdir(exist_ok=True)
    _write(targets / "falcon.json", {name: layout.port_of(name) for name in layout.instance_names})
    for name in MONITORING:
        _write(targets / f"{name}.json", {name: layout.port_of(name)} if name in running else {})


def _write(path: Path, ports: dict[str, int]) -> None:
    groups = [
        {"targets": [f"127.0.0.1:{port}"], "labels": {"instance": name}} for name, port in ports.items()
    ]
    path.write_text(json.dumps(groups, indent=2) + "\n", encoding="utf-8")
