"""What `--check` tells: whether all that the settings ask for is there and works, one row for each thing.

It looks through the same services that the tools use, and changes nothing. It knows nothing of the protocol: no message
is read or answered while it runs.
"""
