"""The tools that only the view of MCP Apps calls: small images, and files in parts. They read no URLs."""
