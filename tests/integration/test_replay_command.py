"""`falcon models replay` and the gate of `falcon models promote`, on a real Postgres and a store on disk."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from falcon_wsgi.backends.postgres import PostgresSink
from falcon_wsgi.cli import cli
from falcon_wsgi.commands.replay import gate
from falcon_wsgi.errors import ConfigurationError, GateRefused
from falcon_wsgi.models.store import ModelStore
from falcon_wsgi.settings import Settings
from tests.conftest import FreshDatabase
from tests.e2e.trial_models import serve, write_line, write_step
from tests.integration.journal_process import log_row

SECRET = 4242


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`step` has candidates that change at 600, one of which takes x to 800. Of `line`, no input was logged."""
    root = tmp_path_factory.mktemp("store")
    write_step(root, "1.0.0", 500, maximum=9999)
    write_step(root, "1.1.0", 600, maximum=9999)
    write_step(root, "2.0.0", 600, maximum=800)
    serve(root, "step", "1.0.0")
    write_line(root, "1.0.0", 2.0)
    write_line(root, "1.1.0", 2.0)
    serve(root, "line", "1.0.0")
    return root


def row(x: float, **values: Any) -> bytes:
    high = float(x > 500)
    return log_row(
        str(uuid.uuid4()),
        **{
            "created_at": datetime.now(UTC).isoformat(),
            "model": "step",
            "prediction": "high" if high else "low",
            "probabilities": {"high": high, "low": 1 - high},
            "payload": {"x": x},
            **values,
        },
    )


@pytest.fixture(scope="module")
def database(module_database: FreshDatabase) -> str:
    """Ten answers of `step` on each side of all steps, ten in between, one that is far out; and one of `line`
    without its input."""
    xs = [*range(10), *range(590, 600), *range(700, 710), SECRET]
    rows = [row(x) for x in xs]
    rows.append(row(0, model="line", prediction="2.0", probabilities=None, payload=None))
    sink = PostgresSink(module_database.url)
    assert sink.ship(rows, len(rows)).inserted == len(rows)
    sink.close()
    return str(module_database.url)


@pytest.fixture
def falcon(store: Path, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in {"DATABASE_URL": database, "MODEL_STORE": store, "DATA_DIR": tmp_path}.items():
        monkeypatch.setenv(name, str(value))

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["models", *arguments], catch_exceptions=False)

    return run


def test_the_text_names_every_figure(falcon: Any) -> None:
    done = falcon("replay", "step", "2.0.0", "--since", "1h")
    assert done.exit_code == 0, done.stderr
    for figure in (
        "step 2.0.0 against 1.0.0: 31 logged predictions since ",
        "31 as logged, 0 computed afresh with 1.0.0",
        "20 of 31; an error of the candidate counts as a disagreement",
        "1: invalid: /x less_than_equal 1",
        "      10  high -> low",
    ):
        assert figure in done.stdout


def test_inputs_are_shown_only_if_asked_for(falcon: Any) -> None:
    quiet = falcon("replay", "step", "1.1.0", "--json")
    open_ = falcon("replay", "step", "1.1.0", "--json", "--show-inputs")
    assert "input" not in json.loads(quiet.stdout)["largest_differences"][0]
    shown = {example["input"]["x"] for example in json.loads(open_.stdout)["largest_differences"]}
    assert shown == set(range(590, 600))


def test_a_limit_is_kept(falcon: Any) -> None:
    assert json.loads(falcon("replay", "step", "1.1.0", "--json", "--limit", "7").stdout)["rows"] == 7


@pytest.mark.parametrize(("share", "code"), [("0.4", 0), ("0.6", 1)])
def test_exit_under_goes_by_the_lower_end(falcon: Any, share: str, code: int) -> None:
    """21 of 31 agree, and the interval begins at 0.50."""
    done = falcon("replay", "step", "1.1.0", "--exit-under", share)
    assert done.exit_code == code
    assert ("the agreement may be as low as 0.50" in done.stderr) is bool(code)


def test_without_payloads_one_line_says_why(falcon: Any) -> None:
    done = falcon("replay", "line", "1.1.0", "--since", "24h")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "has its input: LOG_PAYLOADS was off" in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_any_request_one_line_says_so(falcon: Any, store: Path) -> None:
    for version in ("1.0.0", "1.1.0"):
        write_step(store, version, 500, name="idle")
    done = falcon("replay", "idle", "1.0.0")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("falcon: no request of idle was logged since ")


@pytest.mark.parametrize("since", ["yesterday", "0h", "24", "99999w", "-1h"])
def test_an_age_of_another_form_is_refused(falcon: Any, since: str) -> None:
    done = falcon("replay", "step", "1.1.0", f"--since={since}")
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert "--since takes a number with m, h, d or w" in done.stderr


def test_a_page_that_cannot_be_written_is_said(falcon: Any, tmp_path: Path) -> None:
    done = falcon("replay", "step", "1.1.0", "--html", str(tmp_path / "missing" / "report.html"))
    assert done.exit_code == 1
    assert "cannot be written: No such file or directory" in done.stderr


def test_a_version_that_is_not_there_is_said(falcon: Any) -> None:
    assert "no model step in version 9.0.0" in falcon("replay", "step", "9.0.0").stderr


def test_a_gate_without_data_refuses(falcon: Any, store: Path) -> None:
    with pytest.raises(GateRefused, match="LOG_PAYLOADS was off"):
        gate(0.0, "24h")(ModelStore(store), "line", "1.0.0", "1.1.0")


def test_a_gate_counts_errors_as_disagreements(falcon: Any, store: Path) -> None:
    with pytest.raises(GateRefused, match=r"20 of 31 logged answers .* agree: 95 % interval 0\.46"):
        gate(0.5, "24h")(ModelStore(store), "step", "1.0.0", "2.0.0")
    gate(0.45, "24h")(ModelStore(store), "step", "1.0.0", "2.0.0")


def test_a_gate_refuses_a_wrong_age_before_anything_runs() -> None:
    with pytest.raises(ConfigurationError):
        gate(0.9, "soon")
