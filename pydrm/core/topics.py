"""
Topics and their patterns, and `TopicIndex`: which subscriptions an event is for.

A topic is words with dots between them. In a pattern `*` stands for one word, and `#` for any number of words, also
none (AMQP 0-9-1, section 3.1.3.3, "The Topic Exchange Type"). Patterns lie in a tree by their words, so that a look-up
costs in proportion to what it finds and to the length of the topic, not to how many subscriptions there are.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["TOPIC_BYTES_MAX", "TopicIndex", "pattern_problem", "topic_problem"]

TOPIC_BYTES_MAX = 255

_ONE = "*"
_ANY = "#"


def topic_problem(topic: str) -> str:
    """Why nothing can be published under *topic*, in words; "" if it can."""
    return _problem(topic, wild=False)


def pattern_problem(pattern: str) -> str:
    """Why nobody can subscribe to *pattern*, in words; "" if one can."""
    return _problem(pattern, wild=True)


def _problem(text: str, *, wild: bool) -> str:
    if not text or not text.isprintable() or " " in text:
        return "must be words with dots between them, without spaces or control characters"
    if len(text.encode(errors="replace")) > TOPIC_BYTES_MAX:
        return f"is longer than {TOPIC_BYTES_MAX} bytes"
    for word in text.split("."):
        if not word:
            return "has an empty word"
        if (_ONE in word or _ANY in word) and not (wild and word in (_ONE, _ANY)):
            return f"has the word {word!r}: " + (
                "* and # are words of their own" if wild else "* and # are for patterns"
            )
    return ""


class _Branch:
    """
    Attributes:
        branches: What may follow, by the pattern's next word.
        subscriptions: Those with a pattern that ends here.
    """

    __slots__ = ("any", "branches", "subscriptions")

    def __init__(self, any: bool = False) -> None:
        self.any = any
        self.branches: dict[str, _Branch] = {}
        self.subscriptions: dict[str, None] = {}


class TopicIndex:
    """
    Attributes:
        patterns: What each subscription wants, by its resource.
    """

    def __init__(self) -> None:
        self.patterns: dict[str, tuple[str, ...]] = {}
        self._exact: dict[str, dict[str, None]] = {}
        self._root = _Branch()

    def put(self, resource: str, patterns: Sequence[str]) -> None:
        """From now on *resource* wants these, and nothing else."""
        if self.patterns.get(resource, ()) == tuple(patterns):
            return
        self.drop(resource)
        if patterns:
            self.patterns[resource] = tuple(patterns)
        for pattern in patterns:
            if _is_exact(pattern):
                self._exact.setdefault(pattern, {})[resource] = None
            else:
                self._path(pattern)[-1].subscriptions[resource] = None

    def drop(self, resource: str) -> None:
        for pattern in self.patterns.pop(resource, ()):
            if not _is_exact(pattern):
                self._prune(pattern, resource)
            elif pattern in self._exact:
                self._exact[pattern].pop(resource, None)
                if not self._exact[pattern]:
                    del self._exact[pattern]

    def match(self, topic: str, most: int) -> list[str] | None:
        """
        The subscriptions that want an event of *topic*, by resource, each once; None if they are more than *most*.

        No further is looked than until that is certain.
        """
        exact = self._exact.get(topic, {})
        if len(exact) > most:
            return None
        found = dict(exact)
        words = topic.split(".")
        # With several `#` there are many ways to the same place, and each place is looked at once.
        seen = set()
        places = [(self._root, 0)] if self._root.branches else []
        while places:
            branch, position = places.pop()
            if (id(branch), position) in seen:
                continue
            seen.add((id(branch), position))
            more = branch.branches
            if _ANY in more:
                places.append((more[_ANY], position))
            if position == len(words):
                if len(branch.subscriptions) > most:
                    return None
                found.update(branch.subscriptions)
                if len(found) > most:
                    return None
                continue
            if branch.any:
                places.append((branch, position + 1))
            for word in (words[position], _ONE):
                if word in more:
                    places.append((more[word], position + 1))
        return sorted(found)

    def _path(self, pattern: str) -> list[_Branch]:
        """The branches to where *pattern* ends, the root first; made where there are none."""
        path = [self._root]
        for word in pattern.split("."):
            branches = path[-1].branches
            if word not in branches:
                branches[word] = _Branch(any=word == _ANY)
            path.append(branches[word])
        return path

    def _prune(self, pattern: str, resource: str) -> None:
        path = self._path(pattern)
        path[-1].subscriptions.pop(resource, None)
        words = pattern.split(".")
        while words and not path[-1].subscriptions and not path[-1].branches:
            path.pop()
            del path[-1].branches[words.pop()]


def _is_exact(pattern: str) -> bool:
    return _ONE not in pattern and _ANY not in pattern
