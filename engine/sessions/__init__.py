"""Sessions: conversations stored between calls, in memory or in a SQLite file.

It does not generate text.
"""
