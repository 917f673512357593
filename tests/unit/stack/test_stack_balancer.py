"""What nginx's templates are filled in with."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from falcon_wsgi import resources
from falcon_wsgi import settings as configuration
from falcon_wsgi.errors import ConfigurationError
from falcon_wsgi.settings import Settings
from falcon_wsgi.stack import balancer


def settings(**given: object) -> Settings:
    return configuration.load(env_file=None, **given)


def variables(**given: object) -> dict[str, str]:
    return balancer.variables(settings(**given), [8001, 8002], "run/temp")


def seconds(value: str) -> float:
    return float(value.removesuffix("ms")) / 1000


def test_only_the_named_variables_are_replaced() -> None:
    template = "listen ${BALANCER_LISTEN}; set $event_time $msec; ${HOME}"
    assert balancer.filled(template, {"BALANCER_LISTEN": "80"}) == "listen 80; set $event_time $msec; ${HOME}"


def test_a_variable_without_a_value_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="BALANCER_MISSING"):
        balancer.filled("${BALANCER_MISSING}", {})


def test_the_defaults_are_exactly_what_the_templates_use() -> None:
    templates = (resources.NGINX / "templates").rglob("*.template")
    used = {name for each in templates for name in re.findall(r"\$\{(\w+)\}", each.read_text())}
    assert used == balancer.read_variables(resources.NGINX / "defaults.env").keys()


def test_each_instance_is_there_with_ejection_and_as_a_last_resort() -> None:
    assert balancer.servers(["a:1", "b:2"]).split("; ") == [
        "server a:1 max_fails=3 fail_timeout=5s",
        "server b:2 max_fails=3 fail_timeout=5s",
        "server a:1 max_fails=0 backup",
        "server b:2 max_fails=0 backup;",
    ]


@pytest.mark.parametrize("keepalive_s", [1, 2, 5, 75])
def test_nginx_gives_up_an_idle_connection_before_the_instance_does(keepalive_s: int) -> None:
    assert seconds(variables(keepalive_seconds=keepalive_s)["BALANCER_UPSTREAM_KEEPALIVE"]) < keepalive_s


@pytest.mark.parametrize(("request_s", "inference_s"), [(30, 10), (60, 20), (20, 17)])
def test_no_attempt_can_outlast_the_requests_time(request_s: float, inference_s: float) -> None:
    values = variables(request_timeout_seconds=request_s, inference_timeout_seconds=inference_s)
    attempt_s = seconds(values["BALANCER_ATTEMPT_TIMEOUT"])
    assert attempt_s > inference_s
    assert seconds(values["BALANCER_RETRY_WINDOW"]) + attempt_s <= request_s
    assert seconds(values["BALANCER_REQUEST_TIMEOUT"]) > request_s


def test_a_prediction_that_may_take_the_whole_time_leaves_room_for_quick_retries_only() -> None:
    values = variables(request_timeout_seconds=5, inference_timeout_seconds=60)
    assert seconds(values["BALANCER_ATTEMPT_TIMEOUT"]) == 7
    assert seconds(values["BALANCER_RETRY_WINDOW"]) == 1


def test_an_ipv6_host_is_written_in_brackets() -> None:
    assert variables(host="::1", port=8000)["BALANCER_LISTEN"] == "[::1]:8000"


def test_a_value_goes_to_the_end_of_its_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.env"
    path.write_text("# why\n\nBALANCER_UNLIMITED=10.0.0.0/8 0; ::1/128 0;\nBALANCER_REAL_IP=\n")
    assert balancer.read_variables(path) == {
        "BALANCER_UNLIMITED": "10.0.0.0/8 0; ::1/128 0;",
        "BALANCER_REAL_IP": "",
    }


@pytest.mark.parametrize("line", ["BALANCER_RATE 5r/s", "RATE=5r/s", "export BALANCER_RATE=5r/s"])
def test_a_line_that_is_no_variable_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "mine.env"
    path.write_text(f"# one\n{line}\n")
    with pytest.raises(ConfigurationError, match="line 2: not BALANCER_NAME=value"):
        balancer.read_variables(path)


def test_rendering_again_leaves_nothing_of_the_former_files(tmp_path: Path) -> None:
    balancer.render(tmp_path, variables())
    stale = tmp_path / "conf" / "conf.d" / "old.conf"
    stale.write_text("old")
    balancer.render(tmp_path, variables(port=8123))
    assert not stale.exists()
    assert "listen 127.0.0.1:8123 " in (tmp_path / "conf" / "conf.d" / "falcon.conf").read_text()
    assert (tmp_path / "conf" / "conf.d" / "tls-on" / "tls.conf").is_file()
