/** One session of the official TypeScript SDK 1.x with the server; see `main` in steps.mjs. It has one mode. */

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";

import { main, use } from "./steps.mjs";

await main(async (mode, server, picture) => {
  const client = new Client({ name: "tests", version: "1.0.0" });
  const transport = new StdioClientTransport(server);
  let version;
  transport.setProtocolVersion = (settled) => (version = settled); // the SDK tells it to its transport alone
  await client.connect(transport);
  const callTool = (params, options) => client.callTool(params, undefined, options);
  const follow = async (uri) => {
    await client.subscribeResource({ uri });
    return () => client.unsubscribeResource({ uri });
  };
  const seen = await use(client, { version, picture, callTool, follow });
  await client.close();
  return seen;
});
