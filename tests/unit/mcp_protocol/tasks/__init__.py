"""Tests of `mcp_protocol.tasks`."""
