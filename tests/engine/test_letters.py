"""Letters are cut into frames and put together again, whatever another node sends."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydrm.engine.frames import Mail
from pydrm.engine.letters import (
    LETTER_BYTES_MAX,
    PIECE_BYTES_MAX,
    Assembly,
    Letter,
    check_piece,
    pieces,
)

SIZES = [0, 1, PIECE_BYTES_MAX - 1, PIECE_BYTES_MAX, PIECE_BYTES_MAX + 1, LETTER_BYTES_MAX]


def letter(size: int, number: int = 1, **fields: object) -> Letter:
    return Letter(**{"origin": "a", "to": "b", "number": number, "answers": False, "payload": b"x" * size, **fields})


@pytest.mark.parametrize("size", SIZES)
def test_a_letter_of_any_size_is_put_together_as_it_was(size: int):
    whole = letter(size, answers=True, problem="" if size else "no way")
    assembly = Assembly()

    cut = list(pieces(whole))
    for piece in cut:
        check_piece(piece)
    results = [assembly.add("a", piece) for piece in cut]

    assert results == [None] * (len(cut) - 1) + [whole]
    assert max(len(piece.data) for piece in cut) <= PIECE_BYTES_MAX


def test_the_pieces_of_several_letters_may_come_in_turn():
    one, other = letter(100_000, 1), letter(100_000, 2)
    assembly = Assembly()

    results = [assembly.add("a", piece) for pair in zip(pieces(one), pieces(other), strict=True) for piece in pair]

    assert results == [None, None, one, other]


def test_of_a_letter_that_lost_a_piece_nothing_comes():
    first, _, third, *rest = pieces(letter(4 * PIECE_BYTES_MAX))
    assembly = Assembly()

    assert [assembly.add("a", piece) for piece in (first, third, *rest)] == [None] * 3


def test_a_piece_that_comes_over_another_link_is_no_part_of_it():
    first, second = pieces(letter(2 * PIECE_BYTES_MAX))
    assembly = Assembly()
    assembly.add("a", first)

    assert assembly.add("c", second) is None
    assert assembly.add("a", second) is None


def test_what_is_half_here_goes_with_its_link():
    first, second = pieces(letter(2 * PIECE_BYTES_MAX))
    assembly = Assembly()
    assembly.add("a", first)

    assembly.unlinked("a")

    assert assembly.add("a", second) is None


def test_letters_that_never_end_fill_their_senders_room_only():
    assembly = Assembly()
    for number in range(8):
        assembly.add("a", next(pieces(letter(LETTER_BYTES_MAX, number))))

    with pytest.raises(OverflowError):
        assembly.add("a", next(pieces(letter(LETTER_BYTES_MAX, 8))))

    assert assembly.add("c", next(pieces(letter(LETTER_BYTES_MAX, origin="c")))) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"size": LETTER_BYTES_MAX + 1},
        {"size": 2**40},
        {"size": -1},
        {"offset": -1},
        {"offset": 3},
        {"offset": 2**62},
        {"data": b""},
        {"data": b"x" * (PIECE_BYTES_MAX + 1), "size": PIECE_BYTES_MAX + 1},
        {"origin": ""},
        {"to": "n" * 65},
        {"problem": "p" * 201},
    ],
)
def test_what_no_node_sends_is_refused(changed: dict[str, object]):
    piece = Mail("a", "b", 1, False, 4, 0, b"abcd")
    check_piece(piece)

    with pytest.raises(ValueError, match=r"letter|problem"):
        check_piece(msgspec.structs.replace(piece, **changed))


@given(
    st.lists(
        st.builds(
            Mail,
            st.sampled_from("ab"),
            st.just("b"),
            st.integers(0, 2),
            st.booleans(),
            st.integers(0, 8),
            st.integers(0, 8),
            st.binary(max_size=8),
        )
    )
)
def test_whatever_comes_a_letter_is_as_long_as_it_said(sent: list[Mail]):
    assembly = Assembly()
    for piece in sent:
        try:
            check_piece(piece)
        except ValueError:
            continue
        whole = assembly.add("a", piece)
        assert whole is None or len(whole.payload) == piece.size
