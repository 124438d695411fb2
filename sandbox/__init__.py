"""What keeps hostile input within bounds: the budget of bytes, and children that work on hostile bytes.

The room is neutral, like `settings`: it knows no media, engine or protocol. The entry point builds what is here and
hands it down; importing it costs nothing. `Sandbox.run` names a function by its dotted path; a child imports it and
calls it. Whatever the function does to its process costs its own call one clear error and nothing else.

    budget ─ ByteBudget: how many bytes are held for callers in all
    pool ─ Sandbox: which child does the next call; ends those that nobody uses
      ├─ process ─ one child, seen from here: start, ask, kill
      ├─ memory ─ how a process's memory is bounded and measured, per platform
      ├─ area ─ the memory that both share, for whatever is too large for the channel
      ├─ channel ─ framed messages over a socket
      └─ child ─ the program of the child
"""
