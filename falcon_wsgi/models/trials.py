"""Versions on trial beside the served ones: in the shadow of live traffic, or answering a share of the clients."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Protocol

from falcon_wsgi.errors import ModelNotFound, TrialRefused
from falcon_wsgi.models.compatibility import narrowings
from falcon_wsgi.models.forms import Input, TabularForm, TextForm
from falcon_wsgi.models.manifest import Manifest
from falcon_wsgi.models.served import ServedModel

_SCALE = 2.0**64


class Asked(Protocol):
    """What SHADOW or CANARY asks for one model; `fraction` is above 0 and at most 1."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def fraction(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Trial:
    """A version on trial, and its share of the traffic (shadow) or of the clients (canary)."""

    model: ServedModel
    fraction: float


@dataclass(frozen=True, slots=True)
class Trials:
    """All of an instance, by the model's name."""

    shadow: Mapping[str, Trial] = field(default_factory=dict)
    canary: Mapping[str, Trial] = field(default_factory=dict)

    def __iter__(self) -> Iterator[ServedModel]:
        return (trial.model for trials in (self.shadow, self.canary) for trial in trials.values())


Load = Callable[[str, str], ServedModel]


def prepare(
    shadow: Iterable[Asked], canary: Iterable[Asked], served: Mapping[str, ServedModel], load: Load
) -> Trials:
    """Load what is asked for and check that it can stand beside what is served.

    Args:
        load: name and version to a loaded version; may raise any ModelError, which passes through.

    Raises:
        ModelNotFound: no such model is served.
        TrialRefused: a shadow would refuse inputs that the served version takes, or a canary takes other inputs.
    """
    return Trials(
        {each.name: _shadow(each, served, load) for each in shadow},
        {each.name: _canary(each, served, load) for each in canary},
    )


def _shadow(asked: Asked, served: Mapping[str, ServedModel], load: Load) -> Trial:
    live = _live("SHADOW", asked, served)
    candidate = load(asked.name, asked.version)
    if refused := narrowings(live.manifest, candidate.manifest):
        raise TrialRefused(
            f"SHADOW: {asked.name} {asked.version} cannot answer what {live.version} does: {'; '.join(refused)}"
        )
    return Trial(candidate, asked.fraction)


def _canary(asked: Asked, served: Mapping[str, ServedModel], load: Load) -> Trial:
    live = _live("CANARY", asked, served)
    candidate = load(asked.name, asked.version)
    if _inputs(live.manifest) != _inputs(candidate.manifest):
        refused = narrowings(live.manifest, candidate.manifest) or ["it takes inputs that the other refuses"]
        raise TrialRefused(
            f"CANARY: {asked.name} {asked.version} takes other inputs than {live.version}, which is served: "
            f"{'; '.join(refused)}"
        )
    return Trial(candidate, asked.fraction)


def _live(setting: str, asked: Asked, served: Mapping[str, ServedModel]) -> ServedModel:
    live = served.get(asked.name)
    if live is None:
        raise ModelNotFound(
            f"{setting}: no model {asked.name} is served; there is: {', '.join(sorted(served))}"
        )
    return live


def _inputs(manifest: Manifest) -> object:
    return manifest.model_dump(mode="json", include={"kind", "signature"})


def place(salt: str, identity: str) -> float:
    """Where `identity` stands in [0, 1), evenly spread, the same in every process and for good.

    A share f is all that stand below f, so whoever is in it stays in it when f grows. Another salt, another order.
    """
    digest = hashlib.sha256(f"{salt}\0{identity}".encode()).digest()
    return int.from_bytes(digest[:8]) / _SCALE


def translation(live: TextForm | TabularForm, candidate: TextForm | TabularForm) -> Callable[[Input], Input]:
    """What turns an input of the served version into one of a candidate that takes it.

    Rows: in the candidate's order of fields; one that the served version does not know is missing.
    """
    if not isinstance(live, TabularForm) or not isinstance(candidate, TabularForm):
        return lambda input_: input_
    if live.names == candidate.names:
        return lambda input_: input_
    places = {name: i for i, name in enumerate(live.names)}
    absent = len(places)
    order = [places.get(name, absent) for name in candidate.names]
    pick = itemgetter(*order, absent)  # never a single place, which would not give a tuple
    return lambda row: pick((*row, None))[:-1]
