"""
Pre-vote: ask whether one would win before standing, so that nobody deposes a healthy leader by asking.

A node that was cut off, or stopped for a while, comes back with an election timeout that has run out. Were it to stand
at once, its higher term would make everybody give up the leader they have. So it asks first, without a new
term, and stands only if a majority would vote for it (Ongaro, "Consensus: Bridging Theory and Practice", 2014,
section 9.6). Nobody would who has heard a leader within the shortest election timeout (section 4.2.3).
"""

from __future__ import annotations

from pydrm.engine.frames import PreVote, PreVoteAnswer

__all__ = ["PreVotes"]


class PreVotes:
    """
    Sans I/O; *now* in seconds of one clock.

    Attributes:
        voters: How many there are, this node included.
    """

    def __init__(self, voters: int, loyalty_s: float) -> None:
        """*loyalty_s*: for how long after it was heard a leader is not to be replaced."""
        self.voters = voters
        self._loyalty_s = loyalty_s
        self._heard_leader_at = float("-inf")
        self._asked_for = -1
        self._granted: set[str] = set()

    def heard_leader(self, now: float) -> None:
        self._heard_leader_at = now

    def ask(self, term: int, last_index: int, last_term: int) -> PreVote:
        """Begin to canvass for *term*; answers to earlier ones do not count any more."""
        self._asked_for = term
        self._granted.clear()
        return PreVote(term, last_index, last_term)

    def answered(self, peer: str, answer: PreVoteAnswer) -> bool:
        """Whether with this answer a majority, the asking node included, would vote for it."""
        if answer.term != self._asked_for or not answer.granted:
            return False
        self._granted.add(peer)
        return 2 * (1 + len(self._granted)) > self.voters

    def answer(self, question: PreVote, now: float, *, leads: bool, last_index: int, last_term: int) -> PreVoteAnswer:
        """What this node, whose log ends there, says to a peer that would stand."""
        content = leads or now - self._heard_leader_at < self._loyalty_s
        up_to_date = (question.last_term, question.last_index) >= (last_term, last_index)
        return PreVoteAnswer(question.term, granted=up_to_date and not content)
