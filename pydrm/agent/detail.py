"""
`shown` and `told_by`: texts that people, errors and third parties give, as they go into the log and are shown.

The one border that they cross. Such a text may be a page of HTML; it may hold half a character, as names of files do
that are no UTF-8 (PEP 383), which cannot be encoded; and an error may fail to say anything at all.
"""

from __future__ import annotations

from pydrm.core.records import REASON_CHARACTERS_MAX

__all__ = ["encodable", "shown", "told_by"]


def shown(text: str) -> str:
    """The beginning of *text*, in characters that can be encoded; at most `REASON_CHARACTERS_MAX` of them."""
    return encodable(text[:REASON_CHARACTERS_MAX])


def encodable(text: str) -> str:
    """*text*, with a question mark for each character that UTF-8 does not have."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def told_by(error: BaseException) -> str:
    """What *error* says, whole; "" if it says nothing. Never raises."""
    try:
        return encodable(str(error))
    except Exception as failure:  # noqa: BLE001 (the border to code that is not ours: its `__str__` may do anything)
        return f"(its text cannot be had: {type(failure).__name__})"
