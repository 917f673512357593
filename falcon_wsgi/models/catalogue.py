"""The versions that a worker serves, and which of them answers a request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from falcon_wsgi.errors import NotReady, UnknownModel, ValidationFailed
from falcon_wsgi.models.forms import TabularForm, TextForm, pointer_step
from falcon_wsgi.models.served import ServedModel
from falcon_wsgi.models.trials import Trial, place

# The model behind /infer where there are several for texts.
_USUAL_TEXT_MODEL = "sentiment"
_REMEMBERED = 1024


class Catalogue:
    """Finds models by name, by version, and by the fields of a row. Immutable for the life of a worker.

    Iterating gives the current versions. `canaries` are versions that answer a share of the clients of their model.
    """

    def __init__(
        self, models: Mapping[str, ServedModel], canaries: Mapping[str, Trial] | None = None
    ) -> None:
        self.current = dict(models)
        self._canaries = dict(canaries or {})
        self._texts = {name: m for name, m in models.items() if isinstance(m.form, TextForm)}
        self._rows = {name: m for name, m in models.items() if isinstance(m.form, TabularForm)}
        self._found: dict[frozenset[str], ServedModel] = {}

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self.current.values())

    def answering(self, model: ServedModel, client: str) -> ServedModel:
        """The version that answers this client where it asks for no particular one: the canary, for its share.

        A client stays with its version, in every worker, instance and life of an instance, until the share changes;
        when it grows, those that were in it stay in it.
        """
        canary = self._canaries.get(model.name)
        if canary is None or place(model.name, client) >= canary.fraction:
            return model
        return canary.model

    def named(self, name: str, version: str | None = None) -> ServedModel:
        """The current version, or that one if it is the current one or a canary. Raises UnknownModel."""
        model = self.current.get(name)
        if model is None:
            raise UnknownModel(f"no model {name!r} is served; there is: {', '.join(sorted(self.current))}")
        if version is None or version == model.version:
            return model
        canary = self._canaries.get(name)
        if canary is not None and canary.model.version == version:
            return canary.model
        raise UnknownModel(f"version {version!r} of {name} is not served; {model.version} is")

    def for_texts(self, name: str | None = None) -> ServedModel:
        """The text model of that name; by default `sentiment`, or the only one that there is.

        Raises:
            UnknownModel: there is none of that name, it takes no texts, or no name is given and several do.
            NotReady: no text model is served at all.
        """
        if name is not None:
            model = self.named(name)
            if name not in self._texts:
                raise UnknownModel(f"{name} takes rows, not texts; send them to /predict")
            return model
        if not self._texts:
            raise NotReady("no text model is served")
        if (usual := self._texts.get(_USUAL_TEXT_MODEL)) is not None:
            return usual
        if len(self._texts) > 1:
            raise UnknownModel(f"say which model is meant: ?model={' or '.join(sorted(self._texts))}")
        return next(iter(self._texts.values()))

    def for_rows(self, name: str) -> ServedModel:
        """The model of that name. Raises UnknownModel where there is none, or it takes no rows."""
        model = self.named(name)
        if name not in self._rows:
            raise UnknownModel(f"{name} takes texts, not rows; send them to /infer")
        return model

    def for_fields(self, given: frozenset[str]) -> ServedModel:
        """The one model whose signature these field names fit.

        Raises:
            ValidationFailed: none does, and the nearest is named with what is missing and what unknown; or
                several do.
            NotReady: no model for rows is served at all.
        """
        known = self._found.get(given)
        if known is not None:
            return known
        if not self._rows:
            raise NotReady("no model for rows is served")
        fitting = [model for model in self._rows.values() if _form(model).fits(given)]
        if len(fitting) > 1:
            names = " or ".join(sorted(model.name for model in fitting))
            raise ValidationFailed(f"these fields fit several models; say which is meant: ?model={names}")
        if not fitting:
            raise _no_model(given, self._rows.values())
        if len(self._found) < _REMEMBERED:
            self._found[given] = fitting[0]
        return fitting[0]


def _form(model: ServedModel) -> TabularForm:
    assert isinstance(model.form, TabularForm)
    return model.form


def _no_model(given: frozenset[str], models: Iterable[ServedModel]) -> ValidationFailed:
    def distance(model: ServedModel) -> tuple[int, int, str]:
        form = _form(model)
        faults = len(form.required - given) + len(given.difference(form.names))
        return faults, -len(given.intersection(form.names)), model.name

    nearest = min(models, key=distance)
    form = _form(nearest)
    missing = [name for name in form.names if name in form.required and name not in given]
    unknown = sorted(given.difference(form.names))
    parts = [f"missing: {', '.join(missing)}"] * bool(missing) + [f"unknown: {', '.join(unknown)}"] * bool(
        unknown
    )
    issues = [_issue(name, "Field required", "missing") for name in missing]
    issues += [_issue(name, "Extra inputs are not permitted", "extra_forbidden") for name in unknown]
    return ValidationFailed(
        f"the fields fit no model; the nearest is {nearest.name} ({'; '.join(parts)})"[:2000], issues
    )


def _issue(name: str, message: str, kind: str) -> dict[str, str]:
    return {"pointer": pointer_step(name), "message": message, "type": kind}
