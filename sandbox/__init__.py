"""Children that work on hostile bytes: a few processes with bounded memory and time, which may die at any moment.

The room knows no media, engine or protocol. `Sandbox.run` names a function by its dotted path; a child imports it and
calls it. Whatever the function does to its process costs its own call one clear error and nothing else.

    pool ─ Sandbox: which child does the next call; ends those that nobody uses
      ├─ process ─ one child, seen from here: start, ask, kill
      ├─ memory ─ how a process's memory is bounded and measured, per platform
      ├─ area ─ the memory that both share, for whatever is too large for the channel
      ├─ channel ─ framed messages over a socket
      └─ child ─ the program of the child
"""
