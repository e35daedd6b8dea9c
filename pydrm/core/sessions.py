"""
`Sessions`: what makes a repeated request take effect once.

A client is one incarnation of one node. It numbers its requests and says with each the lowest number
that it still waits for (its floor), as in RIFL (Lee et al., SOSP 2015): answers below are forgotten and
requests below are refused, so a late duplicate can do nothing and the table stays small. A session
ends with its incarnation, whose requests are refused for ever after.
"""

from __future__ import annotations

import msgspec

from pydrm.core.answers import Answer
from pydrm.core.records import Incarnation
from pydrm.core.table import ShortTable

__all__ = ["Floor", "Remembered", "Sessions"]


class Floor(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The lowest sequence that a client still waits for."""

    client: Incarnation
    floor: int

    def parts(self) -> tuple[object, ...]:
        return (self.client, self.floor)


class Remembered(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What a request was answered when it took effect."""

    client: Incarnation
    sequence: int
    answer: Answer

    def parts(self) -> tuple[object, ...]:
        return (self.client, self.sequence, self.answer.parts())


class Sessions:
    def __init__(self) -> None:
        self._floors: ShortTable[Incarnation, Floor] = ShortTable()
        self._answers: dict[Incarnation, ShortTable[int, Remembered]] = {}

    @property
    def digest(self) -> tuple[int, int]:
        return (self._floors.digest, sum(answers.digest for answers in self._answers.values()) % 2**128)

    def __len__(self) -> int:
        """How many answers are kept."""
        return sum(len(answers) for answers in self._answers.values())

    def clients(self) -> list[Incarnation]:
        return sorted(set(self._floors) | set(self._answers))

    def floor(self, client: Incarnation) -> int:
        entry = self._floors.get(client)
        return entry.floor if entry else 0

    def answer(self, client: Incarnation, sequence: int) -> Answer | None:
        """What the request was answered when it took effect, or None if it has not."""
        answers = self._answers.get(client)
        remembered = answers.get(sequence) if answers is not None else None
        return remembered.answer if remembered else None

    def floors(self) -> list[Floor]:
        return list(self._floors.values())

    def answers(self) -> list[Remembered]:
        return [remembered for answers in self._answers.values() for remembered in answers.values()]

    def remember(self, client: Incarnation, sequence: int, answer: Answer) -> None:
        answers = self._answers.get(client)
        if answers is None:
            answers = self._answers[client] = ShortTable()
        answers.put(sequence, Remembered(client, sequence, answer))

    def forget_below(self, client: Incarnation, floor: int) -> None:
        answers = self._answers.get(client)
        if answers is not None:
            # Whichever is shorter: a floor usually rises by a few, but one huge step must not stop the world.
            step = range(self.floor(client), floor)
            for sequence in step if len(step) <= len(answers) else [n for n in answers if n < floor]:
                answers.drop(sequence)
            if not answers:
                del self._answers[client]
        self._floors.put(client, Floor(client, floor))

    def end(self, client: Incarnation) -> None:
        self._floors.drop(client)
        self._answers.pop(client, None)
