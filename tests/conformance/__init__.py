"""What the official conformance suite wants to find in a server, over `mcp_protocol` alone, and what it may not find.

The suite calls tools, resources and prompts by fixed names. `fixture_server.py` serves them over the real transports;
`expected_failures.yml` lists the scenarios that need what no tool of the real server uses.
"""
