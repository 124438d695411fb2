"""Output files: the folder, writing without overwriting, parameters inside the files.

It does not know how images, videos and speech are made.
"""
