"""Fuzzing: streams of messages, good and bad, into the real process, and a model of the protocol that says what is due.

    python -m tests.fuzz --messages 200000 --seed 1

The engine behind the process is scripted, everything else is real: pipes, main loop, queue, tools, sessions, jobs.
"""
