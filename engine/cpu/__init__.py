"""What makes generation on a CPU faster: int8 weights and compiled code, both off by default since answers change."""
