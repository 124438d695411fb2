"""Text from models: what an engine is (`interface`), its errors, its states and its loading.

`local` runs vLLM in this process, `remote` asks a server of the OpenAI API; `prompts` and `schemas` are what both
share; `sessions` keeps conversations; `hardware` measures memory and GPUs. Nothing here knows
JSON-RPC, MCP or handlers.
"""
