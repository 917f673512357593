"""Which worker has which name and which metric files, also while old and new workers overlap."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count


@dataclass(frozen=True, slots=True)
class Slot:
    """What distinguishes a worker from its siblings.

    Attributes:
        number: names the worker. The workers that stay have 1 to WORKERS; one that is being replaced shares
            its number with its replacement until it is gone.
        files: names its metric files, which no two living processes may share.
    """

    number: int
    files: int


class Slots:
    """The slots of the living workers. Numbers come again after a replacement, so labels stay few."""

    def __init__(self) -> None:
        self._held: dict[int, Slot] = {}  # by the worker's age; the dict's order is that of the forks

    def take(self, age: int, wanted: int) -> Slot:
        """A slot for the worker that is about to be forked, one of `wanted` that are to stay.

        Gunicorn ends the oldest workers when there are too many. So the youngest `wanted - 1` are those that
        stay beside the new one, and it gets the number that they leave free.
        """
        staying = list(self._held.values())[-(wanted - 1) :] if wanted > 1 else []
        slot = Slot(
            number=_lowest_free({other.number for other in staying}),
            files=_lowest_free({other.files for other in self._held.values()}),
        )
        self._held[age] = slot
        return slot

    def free(self, age: int) -> Slot | None:
        """The worker is gone. Its slot, None if it had none."""
        return self._held.pop(age, None)


def _lowest_free(taken: set[int]) -> int:
    return next(number for number in count(1) if number not in taken)
