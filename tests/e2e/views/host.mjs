/** The page of a host with the official AppBridge. The MCP client runs in Node, behind `window.mcp`. */

import { AppBridge, PostMessageTransport } from "@modelcontextprotocol/ext-apps/app-bridge";

const fromView = (window.fromView = []); // every request and notification of the view, in order
window.addEventListener("message", ({ data }) => {
  if (data?.method) fromView.push({ method: data.method, params: data.params });
});

window.mount = async ({ html, sandboxUrl, theme, tool, capabilities, context }) => {
  document.body.className = theme;
  fromView.length = 0;
  const frame = document.createElement("iframe");
  document.getElementById("place").replaceChildren(frame);
  const bridge = (window.bridge = new AppBridge(
    null,
    { name: "test-host", version: "1.0.0" },
    { openLinks: {}, logging: {}, ...capabilities },
    {
      hostContext: {
        theme,
        displayMode: "inline",
        availableDisplayModes: ["inline", "fullscreen"],
        containerDimensions: { maxHeight: 900 },
        toolInfo: { tool },
        ...context,
      },
    },
  ));
  bridge.oncalltool = (params) => window.mcp("tools/call", params);
  bridge.onmessage = async () => ({});
  bridge.onupdatemodelcontext = async () => ({});
  bridge.ondownloadfile = async () => ({});
  bridge.onrequestdisplaymode = async ({ mode }) => {
    bridge.setHostContext({ displayMode: mode });
    return { mode };
  };
  bridge.onsizechange = ({ height }) => {
    if (height !== undefined) frame.style.height = `${height}px`;
  };
  const initialized = new Promise((resolve) => {
    bridge.oninitialized = resolve;
  });
  const ready = new Promise((resolve) => {
    bridge.onsandboxready = resolve;
  });
  frame.src = sandboxUrl;
  await new Promise((resolve) => {
    frame.onload = resolve;
  });
  await bridge.connect(new PostMessageTransport(frame.contentWindow, frame.contentWindow));
  frame.contentWindow.postMessage({ begin: true }, "*"); // the sandbox announces itself only now, when it is heard
  await ready;
  await bridge.sendSandboxResourceReady({ html, sandbox: "allow-scripts" });
  await initialized;
};
