"""`pydrm recover --force-new-cluster`: goes on with what one node has, after a majority was lost for good."""

from __future__ import annotations

import argparse
from pathlib import Path

from pydrm.cli.exits import Exit, Failed
from pydrm.engine.host import SystemHost
from pydrm.engine.local_disk import LocalDisk
from pydrm.engine.recovery import Recovered, recover
from pydrm.errors import ConfigurationError, DiskFailed

__all__ = ["run"]

_WITHOUT_CONSENT = """\
this makes a new cluster of what {directory} holds, and cannot be undone.
It is for when a majority of the voters is lost for good. While one can come back, wait for it, or repair it.
  - What was acknowledged and is not in this directory is lost.
  - No node of the old cluster that still runs may go on: it would hold resources beside the new one.
  - The data directories of all other nodes are useless afterwards, and have to be emptied.
Make a copy of the directory, then: pydrm recover --force-new-cluster {directory}"""


def run(arguments: argparse.Namespace) -> Exit:
    if not arguments.force_new_cluster:
        raise Failed(_WITHOUT_CONSENT.format(directory=arguments.directory), exit=Exit.USAGE)
    try:
        done = recover(Path(arguments.directory), LocalDisk(), SystemHost().new_id)
    except ConfigurationError as error:
        # Here it is no setting that is wrong.
        raise Failed(str(error).removeprefix(f"{error.field}: "), exit=Exit.INVALID) from error
    except DiskFailed as error:
        raise Failed(f"{error}. If that can be mended, run this again", exit=Exit.FAILURE) from error
    for line in [*_what_was_done(done), "", *_what_comes_next(done)]:
        print(line)
    return Exit.OK


def _what_was_done(done: Recovered) -> list[str]:
    began = f"the snapshot of entry {done.snapshot}" if done.snapshot else "the beginning of the log"
    unknown = f" ({done.uncommitted} not known to be committed)" if done.uncommitted else ""
    lost = f"; no more: {', '.join(done.lost_voters)}" if done.lost_voters else ""
    return [
        *(f"passed over {damage}" for damage in done.passed_over),
        f"read        {began}, and {done.entries} entries after it{unknown}",
        f"wrote       a snapshot as of entry {done.index}, with {done.resources} resources; "
        f"the next token is {done.next_token}",
        f"cluster     {done.cluster_id}; it was {done.former_id}",
        f"voters      {done.node}{lost}",
    ]


def _what_comes_next(done: Recovered) -> list[str]:
    start = f"Start {done.node}. For {done.lease_ttl_s:g} s it assigns nothing: a lease of the lost log may still run."
    if not done.other_nodes:
        return [f"Next: {start}"]
    steps = [
        f"Empty the data directories of all other nodes, of workers too: {', '.join(done.other_nodes)}.",
        start,
        f"Start the others, as they were configured; they follow {done.node}.",
        *(f"pydrm nodes add {name}" for name in done.lost_voters),
    ]
    return ["Next:", *(f"  {number}. {step}" for number, step in enumerate(steps, start=1))]
