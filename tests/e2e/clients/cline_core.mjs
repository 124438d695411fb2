/** Starts the servers of Cline's own file with Cline's own code, and prints the names of the tools of `vllm`. */

import { createDefaultMcpServerClientFactory, InMemoryMcpManager, registerMcpServersFromSettingsFile } from "@cline/core";

const manager = new InMemoryMcpManager({ clientFactory: createDefaultMcpServerClientFactory() });
await registerMcpServersFromSettingsFile(manager, {});
const tools = await manager.listTools("vllm");
console.log(JSON.stringify(tools.map((tool) => tool.name)));
await manager.dispose();
process.exit(0); // something of its own keeps it running
