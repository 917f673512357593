"""Workers that come and go have few names, and no two living ones share metric files."""

from __future__ import annotations

import random

import pytest

from falcon_wsgi.server.slots import Slot, Slots


def test_the_first_workers_are_numbered_from_one() -> None:
    slots = Slots()
    assert [slots.take(age, 3) for age in (1, 2, 3)] == [Slot(1, 1), Slot(2, 2), Slot(3, 3)]


def test_a_replacement_gets_name_and_files_of_the_one_that_is_gone() -> None:
    slots = Slots()
    for age in (1, 2, 3):
        slots.take(age, 3)
    slots.free(2)
    assert slots.take(4, 3) == Slot(2, 2)


def test_a_reload_gives_the_old_names_to_the_new_workers_and_files_of_their_own() -> None:
    slots = Slots()
    for age in (1, 2):
        slots.take(age, 2)
    assert [slots.take(age, 2) for age in (3, 4)] == [Slot(1, 3), Slot(2, 4)]


def test_a_new_worker_that_dies_during_a_reload_leaves_its_name_to_the_next() -> None:
    slots = Slots()
    for age in (1, 2):
        slots.take(age, 2)
    third, _fourth = slots.take(3, 2), slots.take(4, 2)
    slots.free(1)  # the old worker-2 still drains
    slots.free(3)
    assert slots.take(5, 2).number == third.number == 1


@pytest.mark.parametrize(("before", "after"), [(2, 4), (4, 2), (3, 1), (1, 3)])
def test_a_reload_with_another_number_of_workers_numbers_them_from_one(before: int, after: int) -> None:
    slots = Slots()
    for age in range(before):
        slots.take(age, before)
    new = [slots.take(before + age, after) for age in range(after)]
    assert sorted(slot.number for slot in new) == list(range(1, after + 1))


def test_freeing_an_unknown_worker_changes_nothing() -> None:
    slots = Slots()
    slots.take(1, 1)
    slots.free(7)
    assert slots.take(2, 2) == Slot(2, 2)


class Fleet:
    """Forks and ends workers as Gunicorn does: too few are made up for at once, a reload ends all older ones."""

    def __init__(self, wanted: int) -> None:
        self.slots, self.wanted, self.age = Slots(), wanted, 0
        self.living: dict[int, Slot] = {}
        self.leaving: set[int] = set()
        self.fill()

    def fork(self) -> None:
        self.age += 1
        self.living[self.age] = self.slots.take(self.age, self.wanted)

    def fill(self) -> None:
        while len(self.living) < self.wanted:
            self.fork()

    def reload(self) -> None:
        self.leaving |= self.living.keys()
        for _ in range(self.wanted):
            self.fork()

    def end(self, age: int) -> None:
        self.slots.free(age)
        self.leaving.discard(age)
        del self.living[age]
        self.fill()


@pytest.mark.parametrize("wanted", [1, 2, 3, 5])
def test_whatever_dies_during_reloads_living_files_differ_and_names_come_right(wanted: int) -> None:
    chance = random.Random(wanted)
    fleet = Fleet(wanted)
    settled = 0
    for _ in range(2_000):
        if chance.random() < 0.1:
            fleet.reload()
        elif fleet.leaving and chance.random() < 0.7:
            fleet.end(chance.choice(sorted(fleet.leaving)))
        else:
            fleet.end(chance.choice(list(fleet.living)))
        files = [slot.files for slot in fleet.living.values()]
        assert len(set(files)) == len(files)
        assert max(slot.number for slot in fleet.living.values()) <= wanted
        if not fleet.leaving and len(fleet.living) == wanted:
            settled += 1
            assert sorted(slot.number for slot in fleet.living.values()) == list(range(1, wanted + 1))
    assert settled > 100
