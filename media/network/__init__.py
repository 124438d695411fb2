"""HTTP downloads that cannot reach this machine's own network.

It does not know what the bytes are.
"""
