"""
`Entries`: a log in memory, from its base on.

The base is the entry of a snapshot, whose command nobody needs any more, or the first entry of all, which is the
same everywhere. PySyncObj looks at the base's index and term, and sends only what comes after it.
"""

from __future__ import annotations

from array import array

__all__ = ["ENTRY_BYTES", "FIRST_INDEX", "Entries", "Entry"]

Command = bytes
Entry = tuple[Command, int, int]  # (command, index, term), as PySyncObj has it

FIRST_INDEX = 1

# What an entry counts besides its command: about what its objects take in memory. Reading it again takes time that does
# not depend on its length, either; so a log of very many tiny entries must not pass for a short one.
ENTRY_BYTES = 128

_NO_OP = b"\x01"  # the command of an entry that does nothing (pysyncobj/syncobj.py, _COMMAND_TYPE)


class Entries:
    """
    Their indexes are contiguous. Adding is cheap; so is cutting and forgetting, in proportion to what goes and stays.

    Attributes:
        kept: The base, and what comes after it; empty until there is a first entry.
    """

    def __init__(self, base: tuple[int, int], following: list[Entry]) -> None:
        """*base* is (index, term), or (0, 0) if *following*, which is taken over, begins with the first of all."""
        self.kept = following
        if base != (0, 0):
            following.insert(0, (_NO_OP, *base))
        # How long all entries up to each one are together, from somewhere on: only differences are looked at.
        self._bytes_up_to = array("Q")
        for command, _, _ in following:
            self._measure(command)

    @property
    def base(self) -> tuple[int, int]:
        """(index, term) of the first; (0, 0) if there is none."""
        return self.kept[0][1:] if self.kept else (0, 0)

    @property
    def last(self) -> tuple[int, int]:
        return self.kept[-1][1:] if self.kept else (0, 0)

    @property
    def bytes(self) -> int:
        """How long all entries after the base are together: their commands, and `ENTRY_BYTES` for each."""
        return self.bytes_after(self.base[0])

    def bytes_after(self, index: int) -> int:
        """The same of the entries after *index*, or after the base if that is later."""
        position = max(index - self.base[0], 0)
        return self._bytes_up_to[-1] - self._bytes_up_to[position] if position < len(self.kept) else 0

    def has(self, index: int, term: int) -> bool:
        position = index - self.base[0]
        return 0 <= position < len(self.kept) and self.kept[position][2] == term

    def append(self, command: Command, index: int, term: int) -> None:
        assert index == (self.kept[-1][1] + 1 if self.kept else FIRST_INDEX)
        self.kept.append((command, index, term))
        self._measure(command)

    def cut(self, position: int) -> int:
        """Cut off the entry at *position* and all after it; return its index. Never the base, which is committed."""
        assert position > 0
        index = self.kept[position][1]
        del self.kept[position:]
        del self._bytes_up_to[position:]
        return index

    def forget_before(self, index: int) -> None:
        """Entry *index* becomes the base; it must be there."""
        position = index - self.base[0]
        assert 0 <= position < len(self.kept)
        del self.kept[:position]
        del self._bytes_up_to[:position]
        self.kept[0] = (_NO_OP, *self.base)

    def replace(self, index: int, term: int) -> None:
        """Nothing is left but a base that has *index* and *term*."""
        self.kept[:] = [(_NO_OP, index, term)]
        self._bytes_up_to = array("Q", [0])

    def _measure(self, command: Command) -> None:
        before = self._bytes_up_to[-1] if self._bytes_up_to else 0
        self._bytes_up_to.append(before + ENTRY_BYTES + len(command))
