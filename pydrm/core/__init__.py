"""
The replicated state machine. PURE: no I/O, clock, chance, logging or asyncio; import-linter checks that.

Start reading at `machine`, then `handoff` and `placement`.
"""
