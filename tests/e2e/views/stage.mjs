/** A browser with the view in it: a host's page, a sandbox on another origin, and the MCP client for the host. */

import fs from "node:fs";
import http from "node:http";
import path from "node:path";

import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { build } from "esbuild";
import { chromium } from "playwright-core";

const here = import.meta.dirname;
export const MIME = "text/html;profile=mcp-app";
export const EXTENSIONS = { "io.modelcontextprotocol/ui": { mimeTypes: [MIME] } };
/** The policy of the specification for a view that declares no domains. */
const POLICY = {
  "default-src": "'none'",
  "script-src": "'self' 'unsafe-inline'",
  "style-src": "'self' 'unsafe-inline'",
  "img-src": "'self' data:",
  "media-src": "'self' data:",
  "font-src": "'self'",
  "connect-src": "'none'",
  "object-src": "'none'",
  "base-uri": "'self'",
  "frame-src": "'self'",
};
const HOST_PAGE = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Test host</title>
<link rel="icon" href="data:,">
<style>
  body { margin: 0; background: #fff; } body.dark { background: #262624; }
  main { width: 640px; margin: 0 auto; padding: 12px; }
  iframe { display: block; width: 100%; height: 40px; border: 1px solid #8886; border-radius: 10px; }
</style>
</head>
<body><main><div id="place"></div></main><script src="host.js"></script></body>
</html>`;
const SANDBOX_PAGE = `<!doctype html>
<meta charset="utf-8">
<title>Sandbox</title>
<style>html, body { margin: 0; height: 100%; } iframe { display: block; width: 100%; height: 100%; border: 0; }</style>
<body>
<script>
"use strict";
const inner = document.createElement("iframe");
addEventListener("message", ({ source, data }) => {
  if (source === inner.contentWindow) parent.postMessage(data, "*");
  else if (data.begin) parent.postMessage({ jsonrpc: "2.0", method: "ui/notifications/sandbox-proxy-ready", params: {} }, "*");
  else if (data.method === "ui/notifications/sandbox-resource-ready") {
    inner.setAttribute("sandbox", data.params.sandbox);
    inner.srcdoc = data.params.html; // the policy of this page holds for it too
    document.body.append(inner);
  } else inner.contentWindow.postMessage(data, "*");
});
</script>`;
export const TOOLS = { serverTools: {} };
/** What a host offers that has everything. */
export const EVERYTHING = { ...TOOLS, message: { text: {} }, updateModelContext: { text: {} }, downloadFile: {} };

/** Bundles the host's script with one version of the official package. */
async function bundle(packageName) {
  const made = await build({
    absWorkingDir: here,
    entryPoints: ["host.mjs"],
    bundle: true,
    minify: true,
    write: false,
    alias: { "@modelcontextprotocol/ext-apps/app-bridge": `${packageName}/app-bridge` },
  });
  return made.outputFiles[0].text;
}
/** Serves some texts by their paths on a port of 127.0.0.1. */
function serve(files, policy) {
  const listener = http.createServer((request, response) => {
    const text = files[request.url];
    const type = request.url.endsWith(".js") ? "text/javascript" : "text/html";
    response.writeHead(text === undefined ? 404 : 200, {
      "content-type": type,
      ...(policy && { "content-security-policy": policy }),
    });
    response.end(text);
  });
  return new Promise((resolve) => {
    listener.listen(0, "127.0.0.1", () => resolve(listener));
  });
}
function sandboxed(changes = {}) {
  const policy = Object.entries({ ...POLICY, ...changes }).map((entry) => entry.join(" "));
  return serve({ "/": SANDBOX_PAGE }, policy.join("; "));
}

export class Stage {
  /** Starts the server, by `command` and with `environment`, and the Chromium in a folder. */
  static async open(command, environment, chromiumFolder) {
    const stage = new Stage();
    stage.client = new Client({ name: "test-host", version: "1.0.0" }, { capabilities: { extensions: EXTENSIONS } });
    const [program, ...args] = command;
    await stage.client.connect(new StdioClientTransport({ command: program, args, env: environment, stderr: "inherit" }));
    stage.listeners = await Promise.all([
      serve({ "/": HOST_PAGE, "/host.js": await bundle("@modelcontextprotocol/ext-apps") }),
      serve({ "/": HOST_PAGE, "/host.js": await bundle("ext-apps-v1") }),
      sandboxed(),
      sandboxed({ "media-src": "'self'" }),
    ]);
    [stage.host, stage.oldHost, stage.sandbox, stage.sandboxWithoutMedia] = stage.listeners.map((one) => one.address().port);
    stage.browser = await chromium.launch({
      executablePath: path.join(chromiumFolder, "chromium"),
      args: ["--no-sandbox"], // it runs as root in containers, and opens nothing but these pages
      env: { ...process.env, LD_LIBRARY_PATH: path.join(chromiumFolder, "lib"), FONTCONFIG_PATH: chromiumFolder },
    });
    ({ tools: stage.tools } = await stage.client.listTools());
    return stage;
  }

  constructor() {
    this.forwarded = []; // tools/call of the view, as they came to the MCP client
    this.complaints = []; // of the console
    this.refused = new Set(); // tools that the host does not pass on
  }

  async close() {
    await this.browser.close();
    await this.client.close();
    for (const listener of this.listeners) listener.close();
  }

  /** Opens a host's page, of AppBridge 2 by default. */
  async openHost(port = this.host) {
    await this.tab?.close();
    this.tab = await this.browser.newPage({ viewport: { width: 680, height: 900 } });
    this.tab.setDefaultTimeout(60_000);
    this.tab.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) this.complaints.push(message.text());
    });
    this.tab.on("pageerror", (error) => this.complaints.push(String(error)));
    await this.tab.exposeFunction("mcp", (method, params) => {
      this.forwarded.push(params);
      if (this.refused.has(params.name)) throw new Error(`Tool not found on server: ${params.name}`);
      return this.client.callTool(params);
    });
    await this.tab.goto(`http://127.0.0.1:${port}/`);
  }

  /** The view's frame, loaded as a host does for a call with these arguments; with its result, if there is one. */
  async mount(name, args, result, { theme = "light", capabilities = EVERYTHING, html, sandbox = this.sandbox, context } = {}) {
    this.forwarded.length = 0;
    const tool = this.tools.find((one) => one.name === name);
    // localhost is another origin than 127.0.0.1
    const sandboxUrl = `http://localhost:${sandbox}/`;
    await this.tab.evaluate((given) => window.mount(given), {
      html: html ?? this.page.text, sandboxUrl, theme, tool, capabilities, context,
    });
    await this.tab.evaluate((given) => window.bridge.sendToolInput({ arguments: given }), args);
    if (result) await this.tab.evaluate((given) => window.bridge.sendToolResult(given), result);
    return this.tab.frameLocator("#place iframe").frameLocator("iframe");
  }

  call(name, args) {
    return this.client.callTool({ name, arguments: args });
  }

  /** The arguments of the calls of a tool that came from the view. */
  callsOf(name) {
    return this.forwarded.filter((params) => params.name === name).map((params) => params.arguments);
  }

  /** The parameters of all messages of the view with this method, once there is one. */
  async sent(method) {
    await this.tab.waitForFunction((wanted) => window.fromView.some((one) => one.method === wanted), method);
    return this.tab.evaluate(
      (wanted) => window.fromView.filter((one) => one.method === wanted).map((one) => one.params), method,
    );
  }

  /** Breaches of the rules of WCAG that axe-core finds in the view. */
  async axe(view) {
    const source = fs.readFileSync(path.join(here, "node_modules/axe-core/axe.min.js"), "utf8");
    return view.locator("html").evaluate(async (root, text) => {
      if (!window.axe) (0, Function)(text).call(window);
      const { violations } = await window.axe.run(document);
      return violations.map((one) => `${one.id}: ${one.nodes.map((node) => node.html).join(" ")}`);
    }, source);
  }

  async screenshot(view, file) {
    await view.locator("#facts code").evaluate((code) => {
      code.textContent = `/home/me/generated/${code.textContent.split("/").pop()}`;
    });
    await this.tab.locator("#place").screenshot({ path: file });
  }
}
