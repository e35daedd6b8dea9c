"""
`Letter`: a question or an answer from one node to another, and how it is cut into frames and put together again.

    Rule 1.  A piece is small, so that what Raft says never waits long behind one.
    Rule 2.  Pieces of one letter come in order over one link, or not at all: one that does not follow is dropped, and
             with it the letter.
    Rule 3.  What is not complete yet is bounded for each sender, and forgotten with the link that it came over.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from pydrm.engine.frames import Mail

__all__ = ["LETTER_BYTES_MAX", "PIECE_BYTES_MAX", "Assembly", "Letter", "check_piece", "pieces"]

LETTER_BYTES_MAX = 1024 * 1024 + 4096  # a payload of 1 MiB, and what is said about it
PIECE_BYTES_MAX = 64 * 1024
_NAME_BYTES_MAX = 64
_PARTIAL_BYTES_MAX = 8 * LETTER_BYTES_MAX


@attrs.frozen
class Letter:
    """
    Attributes:
        origin, to: Nodes.
        number: Names the question; `to` has given it if this is the answer, `origin` if it is the question.
        problem: Why there is no answer, in words: the question was not given to anybody.
    """

    origin: str
    to: str
    number: int
    answers: bool
    payload: bytes = b""
    problem: str = ""


def pieces(letter: Letter) -> Iterator[Mail]:
    size = len(letter.payload)
    for offset in range(0, size or 1, PIECE_BYTES_MAX):
        data = letter.payload[offset : offset + PIECE_BYTES_MAX]
        yield Mail(letter.origin, letter.to, letter.number, letter.answers, size, offset, data, letter.problem)


def check_piece(piece: Mail) -> None:
    """Raises ValueError for what no node sends."""
    if not 0 <= piece.size <= LETTER_BYTES_MAX:
        raise ValueError(f"a letter of {piece.size} bytes")
    if len(piece.data) > PIECE_BYTES_MAX or piece.offset < 0 or piece.offset + len(piece.data) > piece.size:
        raise ValueError(f"{len(piece.data)} bytes at {piece.offset} of a letter of {piece.size}")
    if not piece.data and piece.size:
        raise ValueError("a piece of a letter with nothing in it")
    if not all(0 < len(name.encode()) <= _NAME_BYTES_MAX for name in (piece.origin, piece.to)):
        raise ValueError("a letter without a sender or a receiver")
    if len(piece.problem) > 200:
        raise ValueError("a long problem")


@attrs.define
class _Partial:
    link: str
    size: int
    data: bytearray


class Assembly:
    """Letters of which only some pieces are here."""

    def __init__(self) -> None:
        self._partial: dict[tuple[str, bool, int], _Partial] = {}

    def add(self, link: str, piece: Mail) -> Letter | None:
        """
        The letter that *piece*, which came from the peer *link*, completes; None if none is complete.

        Raises:
            OverflowError: This is the first piece of one for which there is no room; what follows of it is dropped.
        """
        if piece.offset == 0 and len(piece.data) == piece.size:
            return _letter(piece, piece.data)
        key = (piece.origin, piece.answers, piece.number)
        if piece.offset == 0:
            taken = sum(partial.size for partial in self._partial.values() if partial.link == link)
            if taken + piece.size > _PARTIAL_BYTES_MAX:
                raise OverflowError
            self._partial[key] = _Partial(link, piece.size, bytearray(piece.data))
            return None
        partial = self._partial.get(key)
        if partial is None:
            return None
        if (partial.link, partial.size, len(partial.data)) != (link, piece.size, piece.offset):
            del self._partial[key]
            return None
        partial.data += piece.data
        if len(partial.data) < partial.size:
            return None
        del self._partial[key]
        return _letter(piece, bytes(partial.data))

    def unlinked(self, link: str) -> None:
        """Nothing more comes over it."""
        for key in [key for key, partial in self._partial.items() if partial.link == link]:
            del self._partial[key]


def _letter(piece: Mail, payload: bytes) -> Letter:
    return Letter(piece.origin, piece.to, piece.number, piece.answers, payload, piece.problem)
