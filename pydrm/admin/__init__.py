"""
The HTTP API of one node: read how things are, post a request.

`server` is what others use. aiohttp takes a noticeable part of a node's start, so it is imported by
`routes` and `bodies` alone, and these by a server that has been started.
"""

from pydrm.admin.server import AdminServer, Manager

__all__ = ["AdminServer", "Manager"]
