/** One session of the official TypeScript SDK 1.x with the server; see `main` in steps.mjs. It has one mode. */

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

import { main, use } from "./steps.mjs";

const transports = { Stdio: StdioClientTransport, Http: StreamableHTTPClientTransport, Sse: SSEClientTransport };

await main(transports, async (mode, transport, picture) => {
  const client = new Client({ name: "tests", version: "1.0.0" });
  let version;
  const tell = transport.setProtocolVersion?.bind(transport);
  transport.setProtocolVersion = (settled) => tell?.((version = settled)) ?? (version = settled); // told to it alone
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
