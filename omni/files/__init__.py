"""Output files: the folder, writing without overwriting, parameters inside PNG and MP4 files.

It does not know how images and videos are made.
"""
