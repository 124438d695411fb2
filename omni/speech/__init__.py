"""Speech from text by a vLLM-Omni server: its client, its models, the parameters, and talking videos from words.

It does not write down speech: the engine's package `speech` does.
"""
