/** Starts the server of an entry on stdin, in the form of Claude Desktop, and prints the names of its tools. */

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { text } from "node:stream/consumers";

const { mcpServers } = JSON.parse(await text(process.stdin));
const client = new Client({ name: "tests", version: "1.0.0" });
await client.connect(new StdioClientTransport(mcpServers.vllm));
const { tools } = await client.listTools();
console.log(JSON.stringify(tools.map((tool) => tool.name)));
await client.close();
