"""
`Sourcing`: the source that a simulated cluster may have, what becomes of its list, and what the app does beside it.
"""

from __future__ import annotations

from pydrm.core.resource import Resource
from pydrm.testing.simulation.requests import Requests
from pydrm.testing.simulation.stage import SOURCE

__all__ = ["Sourcing"]


class Sourcing(Requests):
    """Every verb takes effect at once; what comes of it is seen while time passes."""

    @staticmethod
    def source(*, poll: float = 0.3) -> Resource:
        """A source of what `listing` has; its entries are of the kind "held"."""
        return Resource(SOURCE, kind="source.listed", poll=poll, max_retry=5, defaults={"kind": "held"})

    def take_from_list(self, id: str, *, via: str) -> None:
        """Have *via* add what the list has, too: from then on it is the app's."""
        self.add(Resource(id, kind="held", version="of the app"), via=via)

    def remove_from_under_list(self, id: str, *, via: str) -> None:
        """Have *via* remove what the list has; it comes back with the next fetch."""
        self._list_judge.removed.add(id)
        self.third_party.may_begin_anew(id)
        self._tell(via, f"remove {id}", lambda manager: manager.remove(id, timeout=5))

    # --- the list ----------------------------------------------------------------------------------------------------

    def change_list(self) -> None:
        """One entry is new, or another, or gone."""
        id, there = self.listing.change()
        if not there:
            self.third_party.may_begin_anew(id)

    def list_is_down(self) -> None:
        self._note("the list is down")
        self.listing.down = True

    def list_lies(self, how: str) -> None:
        """See `LIES`."""
        self._note(f"the list is {how}")
        self.listing.lies = how

    def list_is_late(self, seconds: float) -> None:
        """By so much at the most; meanwhile it may have changed."""
        self._note(f"the list is up to {seconds:.3f} s late")
        self.listing.late_s = seconds

    def list_works(self) -> None:
        self._note("the list works")
        self.listing.works()
