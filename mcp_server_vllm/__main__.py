"""`python -m mcp_server_vllm`."""

from mcp_server_vllm import main

if __name__ == "__main__":
    main()
