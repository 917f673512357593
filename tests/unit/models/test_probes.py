"""Probes are inputs that the signature allows, and the same at each load."""

from __future__ import annotations

from falcon_wsgi.models import probes
from falcon_wsgi.models.forms import TabularForm
from falcon_wsgi.models.signature import (
    BooleanField,
    CategoryField,
    NumberField,
    StringField,
    TabularSignature,
)

SIGNATURE = TabularSignature(
    fields=(
        NumberField(name="age", type="integer", minimum=0, maximum=120),
        NumberField(name="height", type="number", minimum=0.4, nullable=True),
        BooleanField(name="member", type="boolean"),
        CategoryField(name="colour", type="category", categories=("red", "blue")),
        StringField(name="note", type="string"),
    )
)
GOLDEN = [(30, 1.8, True, "red", "a note"), (0, None, False, "blue", "")]


def test_every_probe_fits_the_signature() -> None:
    form = TabularForm(SIGNATURE)
    found = probes.rows(SIGNATURE, GOLDEN)
    assert len(found) == 64
    for row in found:
        assert form.validate(form.payload(row)) == row


def test_probes_are_the_same_each_time_and_vary() -> None:
    found = probes.rows(SIGNATURE, GOLDEN)
    assert found == probes.rows(SIGNATURE, GOLDEN)
    for column in list(zip(*found, strict=True))[:4]:
        assert len(set(column)) > 1
    assert None in {row[1] for row in found}
    assert {0, 120} <= {row[0] for row in found}
