"""
What THIS node must hold now: opens, closes, paces, fences.

The engine's thread calls in through a mailbox; everything here but the fence, the lease and the warden runs on
the app's loop. Handlers are told what to hold by a `Hold` and know nothing else of the cluster.
"""
