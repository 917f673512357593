"""Ports, programs and commands of a stack."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from falcon_wsgi import settings as configuration
from falcon_wsgi.errors import ConfigurationError
from falcon_wsgi.stack import monitoring, procfile, tools
from falcon_wsgi.stack.layout import MONITORING, Layout


def layout(folder: Path, instances: int = 2, port: int = 8000) -> Layout:
    return Layout(configuration.load(env_file=None, port=port, data_dir=folder), instances)


def test_the_monitoring_of_port_8000_is_where_people_expect_it(tmp_path: Path) -> None:
    ports = {
        name: layout(tmp_path).port_of(name) for name in ("nginx", "instance-2", "prometheus", "alertmanager")
    }
    assert ports == {"nginx": 8000, "instance-2": 8002, "prometheus": 9090, "alertmanager": 9093}


def test_no_two_parts_share_a_port(tmp_path: Path) -> None:
    stack = layout(tmp_path, instances=64)
    ports = [stack.port_of(name) for name in ("nginx", *stack.instance_names, *MONITORING)]
    assert len(set(ports)) == len(ports)


def test_a_port_without_room_above_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="PORT=65000 leaves no room above it; at most 64348"):
        layout(tmp_path, port=65000)


def test_two_stacks_have_two_folders(tmp_path: Path) -> None:
    assert layout(tmp_path).folder != layout(tmp_path, port=8100).folder


def test_the_procfile_has_one_line_for_each_instance_and_one_for_each_other_part() -> None:
    names = [line.name for line in procfile.lines(3)]
    assert names == ["instance-1", "instance-2", "instance-3", "nginx", *MONITORING]
    assert all("exec " in line.command for line in procfile.lines(1)), "else the pid would be a shell's"


def test_without_honcho_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "honcho.environ", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'falcon-wsgi\[stack\]'"):
        procfile.lines(2)


def test_without_nginx_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(tools, "_MORE_FOLDERS", ())
    with pytest.raises(ConfigurationError, match="nginx is not installed; as root: apt-get install nginx"):
        tools.nginx()


@pytest.mark.parametrize("name", ["prometheus-redis-exporter", "redis_exporter"])
def test_a_program_is_found_by_debians_name_and_by_its_projects(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    program = tmp_path / name
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(tools, "_MORE_FOLDERS", ())
    assert tools.find("redis-exporter") == program


def test_prometheus_gets_each_instance_and_only_exporters_that_run(tmp_path: Path) -> None:
    stack = layout(tmp_path)
    monitoring.render(stack, ["prometheus", "node-exporter"])
    folder = stack.folder / "prometheus"
    targets = {path.stem: json.loads(path.read_text()) for path in folder.glob("targets/*.json")}
    assert [group["targets"] for group in targets["falcon"]] == [["127.0.0.1:8001"], ["127.0.0.1:8002"]]
    assert targets["node-exporter"][0]["targets"] == ["127.0.0.1:9100"]
    assert targets["redis-exporter"] == []
    named = {line.split("targets/")[1].removesuffix(".json]") for line in _lines_with_targets(folder)}
    assert named == targets.keys()


def _lines_with_targets(folder: Path) -> list[str]:
    return [line for line in (folder / "prometheus.yml").read_text().splitlines() if "targets/" in line]
