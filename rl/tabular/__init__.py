"""Tables: a rule is a file, and `agent`, `kernel`, `executors` and `loop` carry it out.

A rule is one scalar function over `Table` and `Transition`, which runs as it stands and compiled (`rl.core.jit`). It may import
`rl.core` and the pure functions of rl; nothing here knows of tiles or networks.
"""
