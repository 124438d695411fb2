"""Jobs: generations that continue while other calls are answered.

It does not know what a job makes.
"""
