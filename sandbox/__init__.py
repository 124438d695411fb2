"""Limits for hostile input: the budget of bytes, and child processes that decode hostile bytes.

The package knows nothing of media, the engine or the protocol. `Sandbox.run` names a function by its dotted path; a
child process imports and calls it. If the function crashes its process, only its own call fails, with a clear error.

    budget ─ ByteBudget: limits the bytes that are held for all callers
    cancellation ─ Cancellation: the cancel event of one call
    pool ─ Sandbox: assigns calls to children, and ends idle children
      ├─ process ─ one child, in the parent: start, ask, kill
      ├─ starting ─ its process; program ─ what it runs
      ├─ memory ─ limits the memory of a process
      ├─ area ─ shared memory for data that are too large for the channel
      ├─ channel ─ messages over a socket
      └─ child ─ the program of the child
"""
