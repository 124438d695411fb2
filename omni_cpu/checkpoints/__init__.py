"""Tiny checkpoints with random weights, in the formats of real models; they generate noise.

They exist so that a real vLLM-Omni can be run, shown and tested where no model can be downloaded.
"""
