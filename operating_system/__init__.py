"""What differs between Linux, macOS and Windows: files, folders, waiting, signals, figures of the machine.

It does not know what the server does with them. All other packages ask here instead of `sys.platform`; only `sandbox`
starts its children in its own way on each system.

    files ─ opens files; the real path of an open file
    folders ─ an open folder, in which files are created and renamed; its lock
    waiting ─ how the main thread waits for input, a wake-up or a signal
      ├─ polling ─ with `poll`
      ├─ carried_input ─ where the input cannot be polled: on Windows, and for a terminal on macOS
      └─ waiter ─ the interface of both
    console ─ what is printed
    signals ─ the signals that stop the server, and the system's timer
    machine ─ processors, memory of the machine and of processes
      ├─ macos ─ calls of libproc
      └─ windows ─ calls of kernel32
"""
