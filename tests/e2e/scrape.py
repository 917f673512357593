"""One reading of /metrics, by family and series."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.instance import Instance

# Series that only ever grow.
_GROWING = ("_total", "_count", "_bucket", "_sum")


@dataclass(frozen=True)
class Scrape:
    """`types` by family; `values` by series: the sample's name and its sorted labels."""

    types: dict[str, str]
    values: dict[tuple[str, tuple[tuple[str, str], ...]], float]

    @classmethod
    def of(cls, instance: Instance) -> Scrape:
        answer = instance.get("/metrics")
        assert answer.status == 200, answer.body
        return cls.parse(answer.body.decode())

    @classmethod
    def parse(cls, text: str) -> Scrape:
        types, values = {}, {}
        for family in text_string_to_metric_families(text):
            types[family.name] = family.type
            for sample in family.samples:
                series = (sample.name, tuple(sorted(sample.labels.items())))
                assert series not in values, f"{series} is there twice"
                values[series] = sample.value
        return cls(types, values)

    def total(self, name: str, **labels: str) -> float:
        """Sum over the series of `name` that carry `labels`."""
        return sum(
            value
            for (sample, found), value in self.values.items()
            if sample == name and labels.items() <= dict(found).items()
        )

    def label_values(self, label: str) -> set[str]:
        return {dict(labels)[label] for _, labels in self.values if label in dict(labels)}

    def label_sets(self, name: str) -> set[frozenset[str]]:
        """The label names of the series of `name`."""
        return {frozenset(dict(labels)) for sample, labels in self.values if sample == name}

    def growing(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        return {series: value for series, value in self.values.items() if series[0].endswith(_GROWING)}


def fallen(earlier: Scrape, later: Scrape) -> dict[object, tuple[float, float | None]]:
    """Counting series that are lower in `later`, or not there any more."""
    after = later.growing()
    return {
        series: (value, after.get(series))
        for series, value in earlier.growing().items()
        if series not in after or after[series] < value
    }
