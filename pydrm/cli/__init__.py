"""
The command line: starts a node, or talks to the admin API of one.

Data goes to stdout and everything else to stderr; `exits` lists what the exit code means. `main`
imports what a command needs only once it is that command's turn, so that each starts fast.
"""
