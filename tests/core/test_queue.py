"""A queue gives assignments in the order of their numbers, whatever came and went."""

from __future__ import annotations

import threading
from random import Random

import pytest

from pydrm.core.queue import Queue
from pydrm.core.records import Assignment, Phase


def waiting(number: int) -> Assignment:
    return Assignment(f"r{number}", 0, Phase.WAITING, ticket=number)


@pytest.mark.parametrize("highest", [50, 10_000, 10_000_000])
def test_it_is_a_sorted_dict(highest: int):
    """Close together or far apart, growing or not."""
    random = Random(highest)
    queue = Queue()
    model: dict[int, Assignment] = {}
    for _ in range(3000):
        number = random.randrange(highest)
        if random.random() < 0.6:
            queue.put(number, waiting(number))
            model[number] = waiting(number)
        elif model:
            number = random.choice(list(model))
            queue.drop(number)
            del model[number]
        if random.random() < 0.02:
            expected = sorted(model.items())
            assert queue.copy() == [assignment for _, assignment in expected]
            assert list(queue.items()) == expected
            assert list(queue.oldest_first()) == [assignment for _, assignment in expected]
            assert list(queue.newest_first()) == [assignment for _, assignment in reversed(expected)]

        assert len(queue) == len(model)
        assert queue.get(number) == model.get(number)


def test_what_is_put_again_keeps_its_place():
    """A report about a handle changes the assignment and not since when it is held."""
    queue = Queue()
    for number in (1, 2, 3):
        queue.put(number, waiting(number))

    queue.put(2, waiting(99))

    assert list(queue.oldest_first()) == [waiting(1), waiting(99), waiting(3)]
    assert len(queue) == 3


def test_what_is_not_there_cannot_be_dropped():
    """The index would be wrong already."""
    queue = Queue()
    queue.put(1, waiting(1))

    with pytest.raises(KeyError):
        queue.drop(2)


def test_it_can_be_copied_while_another_thread_writes():
    """A node that drains looks at what it has left while the log is applied; the copy sorts nothing but itself."""
    queue = Queue()
    done = threading.Event()

    def write() -> None:
        for round in range(40):
            for number in range(round * 500, round * 500 + 500, 1 if round % 2 else 7)[::-1]:
                queue.put(number, waiting(number))
            for number in [number for number, _ in queue.items()][:-300]:
                queue.drop(number)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        tickets = [assignment.ticket for assignment in queue.copy()]
        assert tickets == sorted(set(tickets))
    writer.join()

    assert len(queue.copy()) == len(queue) == 300


def test_queues_with_the_same_in_them_are_equal_however_they_came_to_it():
    """The index of a replica that read a snapshot is compared with that of one that replayed the log."""
    one, other = Queue(), Queue()
    for number in (1, 40_000, 2):
        one.put(number, waiting(number))
    for number in (2, 40_000, 3, 1):
        other.put(number, waiting(number))

    assert one != other
    other.drop(3)
    assert one == other
    assert repr(one) == repr(other)
