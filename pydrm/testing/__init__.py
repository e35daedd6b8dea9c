"""
Shipped for tests, ours and users': real processes on loopback, and a third party that judges them.

    third_party   a websocket server that keeps a diary of who is connected for what
    diary         what that diary proves: gaps, overlaps, moves, balance, tokens; pure
    witness       the third party in a process of its own, its diary read from outside
    processes     a cluster of `pydrm run` processes: start, kill, freeze, stop, partition
    links         TCP links between nodes that can be cut, both ways or one way
    held          one handle of a kind, on the real loop, without a cluster around it
    conformance   what every kind has to do, played with a kind of your own
    demo          `pydrm demo`

Nothing is imported here: each module stands for itself, and two of them are run with `python -m`.
"""
