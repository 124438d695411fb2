"""Decodes images, audio and video from bytes.

It does not know where the bytes come from.
"""
