"""vLLM in this process: the engine, its scheduler, output parsers, LoRA adapters, sleep mode and child processes.

It knows nothing of remote servers, sessions or callers.
"""
