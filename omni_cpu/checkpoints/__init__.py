"""Tiny checkpoints with random weights, in the formats of real models: what they make is noise, by construction.

They exist so that a real vLLM-Omni can be run, shown and tested where no model can be downloaded.
"""
