"""Side-by-side measurements of the server, each in one run with what it is compared with; RESULTS.md has the tables.

The server is measured from outside, over the pipes of a real process. Of the product's own code only what makes the
comparison equal is used: the engine's arguments for the raw engine, and the guarded pipes it answers on.
"""
