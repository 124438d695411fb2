"""The tools: one module a family, each a set of plain functions `(arguments, call, services) -> result`.

A handler turns references into pictures, hands them to the engine and shapes the answer. It sees of the protocol only
the `Call`; which tools there are stands in `catalog.py`.
"""
