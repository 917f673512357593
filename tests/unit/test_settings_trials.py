"""SHADOW and CANARY: what they accept, and the line that refuses the rest."""

from __future__ import annotations

import pytest

from falcon_wsgi.errors import ConfigurationError
from falcon_wsgi.settings import Settings, VersionShare, load


def settings(monkeypatch: pytest.MonkeyPatch, **values: str) -> Settings:
    for name in ("SHADOW", "CANARY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return load(env_file=None)


def test_there_is_no_trial_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (settings(monkeypatch).shadow, settings(monkeypatch).canary) == ((), ())
    assert settings(monkeypatch).masked()["SHADOW"] is None


def test_several_models_may_have_a_shadow_and_all_traffic_is_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert settings(monkeypatch, SHADOW="sentiment@1.1.0, iris@2.0.10:0.25").shadow == (
        VersionShare("sentiment", "1.1.0", 1.0),
        VersionShare("iris", "2.0.10", 0.25),
    )


def test_it_is_shown_as_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = settings(monkeypatch, CANARY="sentiment@1.1.0:0.05,iris@1.0.0:1").masked()["CANARY"]
    assert shown == "sentiment@1.1.0:0.05,iris@1.0.0:1"


@pytest.mark.parametrize(
    "value",
    [
        "sentiment",
        "sentiment@1.1",
        "sentiment@latest",
        "Sentiment@1.1.0",
        "../x@1.1.0",
        "sentiment@1.1.0:0",
        "sentiment@1.1.0:1.01",
        "sentiment@1.1.0:-1",
        "sentiment@1.1.0:",
        "sentiment@1.1.0:0.1.2",
        "sentiment@1.1.0:nan",
        "sentiment@1.1.0:0.5:0.5",
        "sentiment@1.1.0 iris@1.0.0",
    ],
)
@pytest.mark.parametrize("name", ["SHADOW", "CANARY"])
def test_anything_else_is_refused_with_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    with pytest.raises(
        ConfigurationError, match=rf"^{name} is not valid: NAME@VERSION.*above 0 and at most 1"
    ) as caught:
        settings(monkeypatch, **{name: value})
    assert "\n" not in str(caught.value)


def test_a_canary_needs_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="CANARY is not valid: NAME@VERSION:FRACTION"):
        settings(monkeypatch, CANARY="sentiment@1.1.0")


def test_a_model_has_one_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="one version for each model; iris is there twice"):
        settings(monkeypatch, SHADOW="iris@1.0.0,iris@1.1.0")
