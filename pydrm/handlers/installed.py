"""
Kinds that other packages bring: entry points of the group "pydrm.kinds".

    [project.entry-points."pydrm.kinds"]
    mqtt = "my_package.mqtt:Mqtt"

The name is the kind's; what it names is what `ResourceManager.handler` takes. It is loaded when the first resource of
that kind comes up, so a package that is installed and not used costs nothing. Source: the entry points specification
of packaging.python.org.
"""

from __future__ import annotations

import logging
from importlib.metadata import entry_points

from pydrm.agent.kind import Kind
from pydrm.clock import Clock, Random
from pydrm.errors import ConfigurationError
from pydrm.handlers.custom import kind_of

__all__ = ["GROUP", "installed_kind"]

logger = logging.getLogger(__name__)

GROUP = "pydrm.kinds"


def installed_kind(name: str, *, clock: Clock, random: Random) -> Kind | None:
    """
    The kind that an installed package brings under *name*; None if none does.

    Raises:
        ConfigurationError: Two packages bring one, or what is brought cannot be loaded or is none.
    """
    found = list(entry_points(group=GROUP, name=name))
    if not found:
        return None
    if len(found) > 1:
        packages = " and ".join(sorted(point.dist.name if point.dist else point.value for point in found))
        raise ConfigurationError(
            f"{name!r} is brought by {packages}: uninstall all but one, or register one by `handler`", field="kind"
        )
    try:
        kind = kind_of(name, found[0].load(), clock=clock, random=random)
    except ConfigurationError:
        raise
    except Exception as error:
        # Also of a class that cannot be made here: a package that is broken must cost its own resources only.
        message = f"{name!r} cannot be loaded from {found[0].value}: {type(error).__name__}: {error}"
        raise ConfigurationError(message, field="kind") from error
    logger.info("kind %r is that of %s", name, found[0].value)
    return kind
