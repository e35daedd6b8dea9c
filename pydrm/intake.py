"""
`Intake`: what is given to `add`, checked whole before any of it is sent, and cut into parts that fit a command.
"""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Protocol, cast, runtime_checkable

import attrs

from pydrm.agent.detail import encodable, shown
from pydrm.agent.kind import Grouped, Kind, Kinds, Named
from pydrm.core.records import Definition
from pydrm.core.resource import Resource
from pydrm.engine import definition_of
from pydrm.errors import ConfigurationError, InvalidResource
from pydrm.limits import checked_group

__all__ = ["PART_DEFINITIONS_MAX", "Intake", "Subscriber", "checked_id", "checked_reason", "flatten", "parts"]

# One command is one part of one entry of the log, and small enough to apply without holding anything else up.
PART_DEFINITIONS_MAX = 500
PART_BYTES_MAX = 256 * 1024

# What a definition takes in a command besides its id, kind and fields: the names of its members, and some spare.
DEFINITION_OVERHEAD_BYTES = 64

PRIORITY_MAX = 1_000_000

# How alike two names are, by `difflib`, if one is taken for a slip of the other.
SLIP_RATIO = 0.8

# Fields that resources of any kind may have.
_COMMON = ("budget", "give_up_after", "priority")


@runtime_checkable
class Subscriber(Protocol):
    """A kind whose resources are given events."""

    def topics(self, resource: Resource) -> tuple[str, ...]:
        """The patterns of the topics that it wants, of a definition that was checked."""


@attrs.frozen
class _Abilities:
    """What a kind can do besides holding."""

    kind: Kind
    subscriber: Subscriber | None
    grouped: Grouped | None
    fields: frozenset[str]

    @classmethod
    def of(cls, kind: Kind) -> _Abilities:
        subscriber = kind if isinstance(kind, Subscriber) else None
        grouped = kind if isinstance(kind, Grouped) else None
        return cls(kind, subscriber, grouped, kind.fields if isinstance(kind, Named) else frozenset())


class Intake:
    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds
        # By the kind's name. Asked once: what a protocol asks of a class costs more than all else that is done here.
        self._abilities: dict[str, _Abilities] = {}

    def validate(self, resource: Resource) -> None:
        """
        Raises:
            InvalidResource: It is none, its kind has no handler on this node, or the kind refuses its fields.
        """
        self.definition(resource)

    def definition(self, resource: Resource) -> Definition:
        """*resource* as the cluster keeps it, checked by its kind. Raises InvalidResource as `validate`."""
        if not isinstance(resource, Resource):
            raise InvalidResource(f"must be a Resource, not {resource!r}", resource=repr(resource)[:40], field="id")
        kind = self._kinds.get(resource.kind)
        if kind is None:
            message = f"no handler is registered for {resource.kind!r} (registered: {', '.join(self._kinds)})"
            raise InvalidResource(message, resource=resource.id, field="kind")
        _validate_give_up_after(resource)
        _validate_priority(resource)
        abilities = self._abilities.get(resource.kind)
        if abilities is None or abilities.kind is not kind:
            abilities = self._abilities[resource.kind] = _Abilities.of(kind)
        _refuse_slips(resource, abilities.fields)
        kind.validate(resource)
        topics = abilities.subscriber.topics(resource) if abilities.subscriber is not None else ()
        group = _group(resource, abilities.grouped)
        return definition_of(resource, topics=topics, group=group)

    def parts(self, definitions: Iterable[Definition]) -> Iterator[tuple[Definition, ...]]:
        """*definitions*, in order, in as few parts as fit into commands."""
        return parts(definitions)

    async def definitions(self, resources: Iterable[Resource]) -> list[Definition]:
        """
        All of *resources* as the cluster keeps them.

        Raises:
            InvalidResource: For the first that it cannot keep.
        """
        made: dict[str, Definition] = {}
        for number, resource in enumerate(resources, 1):
            definition = self.definition(resource)
            if resource.id in made:
                raise InvalidResource("is given twice in one call", resource=resource.id, field="id")
            made[resource.id] = definition
            # Ten thousand take tenths of a second, in which messages for other resources arrive.
            if number % PART_DEFINITIONS_MAX == 0:
                await asyncio.sleep(0)
        return list(made.values())


def _refuse_slips(resource: Resource, known: frozenset[str]) -> None:
    for name in resource.fields:
        meant = _meant(name, known) if known else ""
        if meant:
            message = f"is unknown to {resource.kind}; did you mean {meant!r}? What is for templates needs another name"
            raise InvalidResource(message, resource=resource.id, field=name)


@lru_cache(maxsize=1024)
def _meant(name: str, known: frozenset[str]) -> str:
    """What *name* is most likely a slip of; "" if it is known, or like none that is."""
    if name in known or name in _COMMON:
        return ""
    return next(iter(difflib.get_close_matches(name, sorted(known), n=1, cutoff=SLIP_RATIO)), "")


def _validate_give_up_after(resource: Resource) -> None:
    value = resource.get("give_up_after", 0)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        message = f"must be a whole number, at least 0, not {value!r}"
        raise InvalidResource(message, resource=resource.id, field="give_up_after")


def _validate_priority(resource: Resource) -> None:
    priority = resource.get("priority", 0)
    if isinstance(priority, bool) or not isinstance(priority, int) or abs(priority) > PRIORITY_MAX:
        message = f"must be a whole number from -{PRIORITY_MAX} to {PRIORITY_MAX}, not {priority!r}"
        raise InvalidResource(message, resource=resource.id, field="priority")


def checked_id(value: object) -> str:
    """
    What may be the id of something that is there, or was.

    Raises:
        ConfigurationError: Nothing can be called so.
    """
    if not isinstance(value, str) or encodable(value) != value:
        raise ConfigurationError(f"must be the id of a resource, not {value!r}", field="id")
    return value


def checked_reason(value: object) -> str:
    """As it is shown to people. Raises ConfigurationError if it is no text."""
    if not isinstance(value, str):
        raise ConfigurationError(f"must be a string, not {value!r}", field="reason")
    return shown(value)


def flatten(resources: Iterable[Resource | Iterable[Resource]]) -> list[Resource]:
    flat: list[Resource] = []
    for item in resources:
        # A string is iterable too, and would be taken apart into characters; what is no Resource is named later.
        if isinstance(item, (Resource, str, Mapping)) or not isinstance(item, Iterable):
            flat.append(cast(Resource, item))
        else:
            flat.extend(item)
    return flat


def parts(definitions: Iterable[Definition]) -> Iterator[tuple[Definition, ...]]:
    """*definitions*, in order, in as few parts as fit into commands."""
    part: list[Definition] = []
    part_bytes = 0
    for definition in definitions:
        size = _bytes_of(definition)
        if part and (len(part) == PART_DEFINITIONS_MAX or part_bytes + size > PART_BYTES_MAX):
            yield tuple(part)
            part, part_bytes = [], 0
        part.append(definition)
        part_bytes += size
    if part:
        yield tuple(part)


def _bytes_of(definition: Definition) -> int:
    named = len(definition.id.encode()) + len(definition.kind.encode())
    topics = sum(len(topic.encode()) + 3 for topic in definition.topics)
    return len(definition.fields) + named + topics + len(definition.group.encode()) + DEFINITION_OVERHEAD_BYTES


def _group(resource: Resource, kind: Grouped | None) -> str:
    """What its field `budget` says, or else its kind."""
    said = "budget" in resource.fields
    group: object = ""
    if said:
        group = resource["budget"]
    elif kind is not None:
        group = kind.group(resource)
    if group == "":
        return ""
    try:
        return checked_group(group, "")
    except ConfigurationError as error:
        raise InvalidResource(str(error), resource=resource.id, field="budget" if said else "kind") from None
