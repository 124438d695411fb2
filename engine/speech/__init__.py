"""Speech to text: windows, the rules of decoding, segments, languages, subtitles.

It knows no vLLM and no MCP: an engine's `transcribe` writes down the windows, see `engine.interface.SpeechWindow`.
"""
