"""What a request becomes for a loaded model: vLLM's prompts and sampling parameters, for chats and for speech."""
