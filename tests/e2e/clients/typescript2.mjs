/** One session of the official TypeScript client 2.x with the server; see `main` in steps.mjs. */

import assert from "node:assert/strict";

import { Client, SSEClientTransport, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";

import { main, use } from "./steps.mjs";

const transports = { Stdio: StdioClientTransport, Http: StreamableHTTPClientTransport, Sse: SSEClientTransport };

await main(transports, async (mode, transport, picture) => {
  const client = new Client({ name: "tests", version: "1.0.0" }, { versionNegotiation: { mode } });
  await client.connect(transport);
  const callTool = (params, options) => client.callTool(params, options);
  const follow = async (uri) => {
    if (client.getProtocolEra() === "legacy") {
      await client.subscribeResource({ uri });
      return () => client.unsubscribeResource({ uri });
    }
    const subscription = await client.listen({ resourceSubscriptions: [uri] });
    assert.deepEqual(subscription.honoredFilter.resourceSubscriptions, [uri]);
    return () => subscription.close();
  };
  const version = client.getNegotiatedProtocolVersion();
  const seen = await use(client, { version, picture, callTool, follow });
  await client.close();
  return seen;
});
