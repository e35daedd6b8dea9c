"""
`Queue`: items in the order of a number that each has there: a token, a ticket or a revision.

It is a dict that was cut into pieces by ranges of numbers. One dict of a million would take 40 ms at the moment at
which it grows, and would be searched from its beginning for what is left whenever its oldest were taken away.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

__all__ = ["Queue"]

T = TypeVar("T")

_RANGE_BITS = 14


class Queue(Generic[T]):
    """
    Give it numbers that grow, as tokens and tickets do; one that does not costs a sort when it is next read.

    It is for the thread that writes it, also to read, because reading sorts. From others, only `copy`.
    """

    __slots__ = ("_count", "_ranges", "_ranges_unsorted", "_unsorted")

    def __init__(self) -> None:
        self._count = 0
        self._ranges: dict[int, dict[int, T]] = {}
        self._ranges_unsorted = False
        self._unsorted: set[int] = set()  # Ranges whose numbers did not grow.

    def put(self, number: int, item: T) -> None:
        """Have *item* at *number*; where there is one, in its place."""
        place = number >> _RANGE_BITS
        numbers = self._ranges.get(place)
        if numbers is None:
            self._ranges_unsorted |= bool(self._ranges) and next(reversed(self._ranges)) > place
            numbers = self._ranges[place] = {}
        if number not in numbers:
            self._count += 1
            if numbers and next(reversed(numbers)) > number:
                self._unsorted.add(place)
        numbers[number] = item

    def drop(self, number: int) -> None:
        """Raises KeyError if it is not there."""
        place = number >> _RANGE_BITS
        numbers = self._ranges[place]
        del numbers[number]
        self._count -= 1
        if not numbers:
            del self._ranges[place]
            self._unsorted.discard(place)

    def get(self, number: int) -> T | None:
        numbers = self._ranges.get(number >> _RANGE_BITS)
        return numbers.get(number) if numbers is not None else None

    def copy(self) -> list[T]:
        """
        All of it, oldest first, in a list of its own. From any thread: it sorts nothing but what it copied.

        Each range is of one moment, and no other thread waits for longer than one range takes.
        """
        ranges = sorted(self._ranges.items())
        return [item for _, numbers in ranges for _, item in sorted(numbers.items())]

    def oldest_first(self) -> Iterator[T]:
        """Not to be written to meanwhile; nor is `newest_first`."""
        self._sort_ranges()
        for place in self._ranges:
            yield from self._sorted(place).values()

    def newest_first(self) -> Iterator[T]:
        self._sort_ranges()
        for place in reversed(self._ranges):
            yield from reversed(self._sorted(place).values())

    def items(self) -> Iterator[tuple[int, T]]:
        """Oldest first."""
        self._sort_ranges()
        for place in self._ranges:
            yield from self._sorted(place).items()

    def sort(self) -> Iterator[None]:
        """Sort what does not lie in order, in steps, so that the next reader need not do it all at once."""
        self._sort_ranges()
        for place in sorted(self._unsorted):
            self._sorted(place)
            yield

    def empty(self) -> Iterator[None]:
        """Give all of it up, in steps."""
        while self._ranges:
            _, numbers = self._ranges.popitem()
            self._count -= len(numbers)
            numbers.clear()
            yield
        self._unsorted.clear()

    def __len__(self) -> int:
        return self._count

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Queue) and dict(self.items()) == dict(other.items())

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Queue({dict(self.items())})"

    def _sort_ranges(self) -> None:
        if self._ranges_unsorted:
            self._ranges_unsorted = False
            self._ranges = dict(sorted(self._ranges.items()))

    def _sorted(self, place: int) -> dict[int, T]:
        if place in self._unsorted:
            self._unsorted.discard(place)
            numbers = self._ranges[place]
            self._ranges[place] = {number: numbers[number] for number in sorted(numbers)}
        return self._ranges[place]
