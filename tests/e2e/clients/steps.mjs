/** What every JavaScript client does with the server: one session through all of it, as the test judges it. */

/** The time the test allows, since loading the model may take longer than the clients' 60 s. */
const PATIENCE = { timeout: 240_000 };

/** Runs a client program: the arguments are MODE PYTHON SERVER PICTURE_PATH, the server's environment variables stand as
 * JSON on stdin, and what `session` returns is printed as one JSON object. Over HTTP TRANSPORT (http or sse) and URL
 * stand for PYTHON and SERVER, and headers for the variables. `transports` are the client's classes by name. */
export async function main({ Stdio, Http, Sse }, session) {
  const [mode, command, server, picture] = process.argv.slice(2);
  let input = "";
  for await (const piece of process.stdin) input += piece;
  const values = JSON.parse(input);
  const overHttp = { http: Http, sse: Sse }[command];
  const transport = overHttp
    ? new overHttp(new URL(server), { requestInit: { headers: values } })
    : new Stdio({ command, args: [server], env: values });
  const seen = await session(mode, transport, picture);
  console.log(JSON.stringify(seen));
}

/** Uses every part of the server that it declares.
 *
 * `client` is connected; `callTool(params, options)` calls a tool; `follow(uri)` subscribes to a resource and resolves
 * to the function that ends that. */
export async function use(client, { version, picture, callTool, follow }) {
  const call = (name, args, options) => callTool({ name, arguments: args }, { ...PATIENCE, ...options });
  const pieces = [];
  // Below 1, the message is a phase of loading the model.
  const onprogress = ({ progress, message }) => progress >= 1 && pieces.push(message ?? "");
  client.onerror = (error) => progressTooLate(error).forEach(onprogress);

  const { tools } = await client.listTools();
  const what = asked([{ type: "text", text: "What is in this image?" }, { type: "image", path: picture }]);
  const described = await call("chat_completion", what, { onprogress });
  client.onerror = undefined;
  await call("chat_completion", said("My name is Marlowe.", { session_id: "client" }));
  const recalled = await call("chat_completion", said("What is my name?", { session_id: "client" }));
  const refused = await call("chat_completion", said("Hello", { top_p: 7 }));
  const cancelled = await giveUpACall(call);
  const afterwards = await call("chat_completion", said("Hello"));
  const info = await call("model_info", {});
  const capabilities = client.getServerCapabilities();
  return {
    protocol_version: version,
    capabilities,
    tools: tools.map((tool) => tool.name),
    described: described.structuredContent,
    text: described.content[0].text,
    pieces,
    recalled: recalled.structuredContent.text,
    refused: [refused.isError, refused.content[0].text],
    cancelled,
    after_cancel: afterwards.structuredContent,
    state: info.structuredContent.server_state,
    resources: capabilities.resources ? await followResources(client, capabilities, follow) : null,
    prompts: capabilities.prompts ? await askForPrompts(client, capabilities, picture) : null,
  };
}

/** The progress that a client reports as an error instead: what it reads at once with the answer.
 *
 * sdk 1.32.2 and client 2.4.0 forget a call's `onprogress` with the answer at once, but hand on notifications a moment
 * later. */
function progressTooLate(error) {
  const late = error.message.match(/progress notification for an unknown token: (.*)$/s);
  return late === null ? [] : [JSON.parse(late[1]).params];
}

/** Cancels a long generation while it runs; whether the call ended by that. */
async function giveUpACall(call) {
  const controller = new AbortController();
  let pieces = 0;
  const onprogress = ({ progress }) => {
    pieces += progress >= 1;
    if (pieces === 2) controller.abort("enough");
  };
  const endless = said("Hello", { max_tokens: 2000, min_tokens: 2000, ignore_eos: true });
  try {
    await call("chat_completion", endless, { onprogress, signal: controller.signal });
  } catch (error) {
    if (!controller.signal.aborted) throw error;
    return true;
  }
  return false;
}

/** Lists the resources and reads the first; follows it where the server offers that. */
async function followResources(client, capabilities, follow) {
  const uris = (await client.listResources()).resources.map((resource) => resource.uri);
  const { resourceTemplates } = await client.listResourceTemplates();
  const end = capabilities.resources.subscribe ? await follow(uris[0]) : () => {};
  const { contents } = await client.readResource({ uri: uris[0] });
  await end();
  return {
    uris,
    templates: resourceTemplates.map((template) => template.uriTemplate),
    read: contents.map(({ uri, text, blob }) => [uri, (text ?? blob).length]),
  };
}

/** Lists the prompts and fills in the first with a picture; completes its first argument where that is offered. */
async function askForPrompts(client, capabilities, picture) {
  const { prompts } = await client.listPrompts();
  const { name, arguments: named } = prompts[0];
  const required = named.filter((argument) => argument.required);
  const given = Object.fromEntries(required.map((argument) => [argument.name, picture]));
  const { messages } = await client.getPrompt({ name, arguments: given });
  const seen = { names: prompts.map((prompt) => prompt.name), text: messages[0].content.text };
  if (capabilities.completions) {
    const argument = { name: named[0].name, value: picture.slice(0, -1) };
    const { completion } = await client.complete({ ref: { type: "ref/prompt", name }, argument });
    seen.completed = completion.values;
  }
  return seen;
}

/** The arguments for one message of text. */
function said(words, more = {}) {
  return asked([{ type: "text", text: words }], more);
}

/** The arguments for one message of these parts. */
function asked(content, more = {}) {
  return { messages: [{ role: "user", content }], temperature: 0, ...more };
}
