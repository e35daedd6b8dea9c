"""
`Agreement`: whether the replicas still are what the log made of them. Sans I/O.

Replicas that applied the same entries are equal; where two differ, one of them has a bug, or bits that changed in
its memory. Every `DIGEST_EVERY`th entry each replica says what the digest of its state is. One that a majority of the
voters contradicts is wrong and must stop; when no value can have a majority any more, nobody knows who is right, and
all must stop. A leader that stands alone is such a minority: the others elect another when it stops.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

__all__ = ["DIGEST_EVERY", "Agreement"]

DIGEST_EVERY = 256
_INDEXES_KEPT = 8


class Agreement:
    def __init__(self, me: str) -> None:
        self._me = me
        self._said: dict[int, dict[str, str]] = {}

    def note(self, node: str, index: int, digest: str, voters: Collection[str]) -> str:
        """*node* says that its state was *digest* as of *index*. Returns what is wrong with this node's, in words."""
        if index % DIGEST_EVERY or (self._said and index < min(self._said) and len(self._said) >= _INDEXES_KEPT):
            return ""
        said = self._said.setdefault(index, {})
        said[node] = digest
        while len(self._said) > _INDEXES_KEPT:
            del self._said[min(self._said)]
        return self._verdict(index, said, voters)

    def _verdict(self, index: int, said: dict[str, str], voters: Collection[str]) -> str:
        mine = said.get(self._me)
        if mine is None:
            return ""
        votes = Counter(digest for node, digest in said.items() if node in voters)
        most, count = votes.most_common(1)[0] if votes else ("", 0)
        silent = len(voters) - votes.total()
        if 2 * count > len(voters):
            if most == mine:
                return ""
            others = ", ".join(sorted(node for node in said if node in voters and said[node] == most))
            return f"as of entry {index} its state differs from that of {others}"
        if 2 * (count + silent) <= len(voters):
            return f"as of entry {index} no majority of the voters has the same state"
        return ""
