"""The model: its properties, its memory, its idle timeout, and the available models.

Nothing here generates text.
"""
