"""
What `benchmarks/engine.py` is made of: `figures` on a `stage`, a `cluster` of processes, and the `child` that each is.
"""
