"""Chat: one conversation with or without a session, batches, and the arguments that shape a reply.

It knows the engine's interface, not whether the engine is local or remote.
"""
