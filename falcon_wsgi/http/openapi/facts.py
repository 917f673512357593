"""What the document depends on: the served models, and which features are switched on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from falcon_wsgi.http.openapi.inputs import Described

if TYPE_CHECKING:
    from falcon_wsgi.services import Services


@dataclass(frozen=True, slots=True)
class Facts:
    """Of one worker, for its whole life.

    Attributes:
        keyed: a request needs an API key.
        idempotency: idempotency keys are honoured.
        rate_limited: a client has a quota.
    """

    models: Sequence[Described]
    keyed: bool = False
    idempotency: bool = True
    rate_limited: bool = False

    @classmethod
    def of(cls, services: Services) -> Facts:
        return cls(
            models=tuple(services.models),
            keyed=services.keys is not None,
            idempotency=services.settings.idempotency_enabled,
            rate_limited=services.settings.rate_limit_per_second > 0,
        )
