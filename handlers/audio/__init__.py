"""Speech to text: the tool `transcribe_audio`, and what other tools need to know of what is said.

It knows nothing of decoding and of vLLM: `media` has the samples, `engine.speech` the text.
"""
