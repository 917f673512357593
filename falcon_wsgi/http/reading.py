"""Readers of the native routes: from the HTTP request to a model version and its inputs."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

from falcon_wsgi.errors import MalformedRequest
from falcon_wsgi.http import idempotency_key
from falcon_wsgi.http.body import read_body, require_json
from falcon_wsgi.http.schemas import (
    InferBatchBody,
    InferBody,
    json_object,
    parse,
    violations,
)
from falcon_wsgi.models.catalogue import Catalogue
from falcon_wsgi.models.forms import TextForm
from falcon_wsgi.models.served import ServedModel
from falcon_wsgi.pipeline.rate_limit import bucket_of
from falcon_wsgi.pipeline.request import Asked

TextSchema = type[InferBody] | type[InferBatchBody]


class KeyedReader:
    """Reads the idempotency key, which every model route takes alike."""

    __slots__ = ("environ", "served")

    def __init__(self, environ: dict[str, Any]) -> None:
        self.environ = environ
        self.served: ServedModel | None = None

    def idempotency_key(self) -> str | None:
        standard = self.environ.get("HTTP_IDEMPOTENCY_KEY")
        extended = self.environ.get("HTTP_X_IDEMPOTENCY_KEY")
        if standard is None and extended is None:
            return None
        return idempotency_key.parse(_each_sent(standard), _each_sent(extended))

    def json_body(self) -> bytes:
        """Raises a leaf of RequestError."""
        require_json(self.environ)
        return read_body(self.environ, self.environ["falcon.context"].deadline)

    def chosen(self, models: Catalogue, model: ServedModel) -> ServedModel:
        """The version of `model` that answers this client."""
        return models.answering(model, bucket_of(self.environ["falcon.context"]))

    def named_model(self) -> str | None:
        """The query's `model`. Raises MalformedRequest for anything else in the query."""
        query = self.environ.get("QUERY_STRING", "")
        return _named_model(query) if query else None


def _each_sent(header: str | None) -> list[str]:
    """The values of a header that was sent any number of times (`server.worker` joins them with a line feed)."""
    return [] if header is None else header.split("\n")


def _named_model(query: str) -> str:
    try:
        parameters = parse_qs(query, keep_blank_values=True, strict_parsing=True, max_num_fields=10)
    except ValueError:
        raise MalformedRequest("the query is not valid; the only parameter is model=NAME") from None
    if parameters.keys() != {"model"} or len(parameters["model"]) != 1:
        raise MalformedRequest("the only parameter of the query is model=NAME, once")
    return parameters["model"][0]


class TextReader(KeyedReader):
    """Reads one text or a batch of them, for a text model."""

    __slots__ = ("_models", "_schema")

    def __init__(self, environ: dict[str, Any], models: Catalogue, schema: TextSchema) -> None:
        super().__init__(environ)
        self._models = models
        self._schema = schema

    def read(self) -> Asked:
        self.served = self.chosen(self._models, self._models.for_texts(self.named_model()))
        texts = parse(self._schema, self.json_body()).inputs()
        form = self.served.form
        if not (isinstance(form, TextForm) and form.widest):
            for pointer, text in self._schema.located(texts):
                with violations(pointer):
                    form.validate(text)
        return Asked(texts)


class RowReader(KeyedReader):
    """Reads one row. Its fields say for which model, unless the query does."""

    __slots__ = ("_models",)

    def __init__(self, environ: dict[str, Any], models: Catalogue) -> None:
        super().__init__(environ)
        self._models = models

    def read(self) -> Asked:
        if (name := self.named_model()) is not None:
            self.served = self.chosen(self._models, self._models.for_rows(name))
        row = json_object(self.json_body())
        if self.served is None:
            self.served = self.chosen(self._models, self._models.for_fields(frozenset(row)))
        with violations():
            return Asked((self.served.form.validate(row),))
