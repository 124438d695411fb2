"""Opens files and folders of this machine, only where the settings allow it.

It does not know what the bytes are.
"""
