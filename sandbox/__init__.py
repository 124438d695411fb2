"""What keeps hostile input within bounds: the budget of bytes, and children that work on hostile bytes.

Neutral, like `settings`: it knows neither the protocol nor models nor media. The entry point builds what is here and
hands it down. Importing it costs nothing.
"""
