/**
 * Runs the view in Chromium: `node scenarios.mjs CHROMIUM_FOLDER OUTPUT_FOLDER COMMAND…`, with JSON on stdin: the
 * server's environment, paths of media, and the scenarios to run. Prints {scenario: null or what failed} as JSON;
 * OUTPUT_FOLDER gets light.png and dark.png.
 */

import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";

import { getToolUiResourceUri, isToolVisibilityAppOnly } from "@modelcontextprotocol/ext-apps/app-bridge";

import { EVERYTHING, EXTENSIONS, MIME, Stage, TOOLS } from "./stage.mjs";

const [, , chromiumFolder, out, ...command] = process.argv;
const { environment, media, scenarios } = JSON.parse(fs.readFileSync(0, "utf8"));
const stage = await Stage.open(command, environment, chromiumFolder);

const WISH = { prompt: "a circle on a plain background", seed: 7, width: 320, height: 240 };
const FIRST_OF_TWO = 16; // a seed; the next one makes an image whose middle is red, as the scripted model wants it
const PROMPTS = ["a red circle", "a blue circle", "a green circle"];
const VIDEO = { image_path: media.image, audio_path: media.audio, width: 320, height: 240, num_inference_steps: 2 };
const imageResult = () => stage.call("generate_image", WISH);
const factsOf = ({ content }) => JSON.parse(content[0].text);

/** What the stage of the view shows, once it is decoded. */
function shown(view) {
  return view.locator("#stage img").evaluate(async (image) => {
    await image.decode();
    return { type: image.src.slice(5, 15), width: image.naturalWidth, alt: image.alt };
  });
}
function status(view, text) {
  return view.locator(`#status:has-text(${JSON.stringify(text)})`).waitFor();
}
/** Plays a video or a sound from its middle on, without a sound. */
async function play(player) {
  await player.waitFor();
  return player.evaluate(async (element) => {
    const event = (name) => new Promise((resolve, reject) => {
      element.addEventListener(name, resolve, { once: true });
      element.addEventListener("error", () => reject(new Error(element.error.message)), { once: true });
    });
    if (element.readyState < 1) await event("loadedmetadata");
    element.currentTime = element.duration / 2;
    await event("seeked");
    const from = element.currentTime;
    element.muted = true;
    await element.play();
    await event("timeupdate");
    element.pause();
    return { duration: element.duration, goesOn: element.currentTime > from, label: element.getAttribute("aria-label") };
  });
}
async function focusedIndex(view) {
  return view.locator("#grid button").evaluateAll((all) => all.indexOf(document.activeElement));
}

async function anotherSeed(screenshot) {
  const first = await imageResult();
  const view = await stage.mount("generate_image", WISH, first);
  assert.deepEqual(await shown(view), { type: "image/jpeg", width: 320, alt: WISH.prompt });
  await view.locator("#another-seed").click();
  await view.locator("#grid li").nth(1).waitFor();
  await status(view, "Done.");
  const [again] = stage.callsOf("generate_image");
  assert.notEqual(again.seed, WISH.seed);
  assert.deepEqual(again, { like: factsOf(first).file_path, seed: again.seed, wait_s: 0 });
  assert.deepEqual(await shown(view), { type: "image/jpeg", width: 320, alt: WISH.prompt });
  const [{ content }] = await stage.sent("ui/update-model-context");
  assert.match(content[0].text, new RegExp(`\\* /.*\\.png \\(seed ${again.seed}\\): ${WISH.prompt}`));
  await view.locator("#stage").focus();
  await stage.tab.keyboard.press("+");
  await view.locator("#stage img[src^='data:image/png']").waitFor(); // the whole file, in place of the preview
  assert.ok(stage.callsOf("read_media").length >= 1);
  await stage.tab.keyboard.press("0");
  assert.equal(await view.locator("#fit").getAttribute("aria-pressed"), "true");
  const heights = await stage.sent("ui/notifications/size-changed");
  assert.ok(heights.length < 20 && heights.every((one) => Object.keys(one).join() === "height"), JSON.stringify(heights));
  assert.deepEqual(await stage.axe(view), []);
  if (screenshot) await stage.screenshot(view, path.join(out, screenshot));
}

const SCENARIOS = {
  async "the official helpers find views, app-only tools and the page"() {
    assert.deepEqual(stage.client.getServerCapabilities().extensions, EXTENSIONS);
    const withView = stage.tools.filter((tool) => getToolUiResourceUri(tool));
    assert.deepEqual(
      withView.map((tool) => tool.name).sort(),
      [
        "analyze_images_with_query", "batch_generate", "generate_image", "generate_speech", "generate_video",
        "list_images", "process_image_to_video", "process_video_to_video",
      ],
    );
    assert.deepEqual(stage.tools.filter(isToolVisibilityAppOnly).map((tool) => tool.name), ["view_media", "read_media"]);
    const uri = getToolUiResourceUri(withView[0]);
    [stage.page] = (await stage.client.readResource({ uri })).contents;
    assert.equal(stage.page.mimeType, MIME);
    assert.deepEqual(stage.page._meta.ui.csp, {});
  },

  "another seed, zoom, and what the model is told": () => anotherSeed("light.png"),

  async "another prompt"() {
    const view = await stage.mount("generate_image", WISH, await imageResult());
    await view.locator("#change-prompt").click();
    assert.equal(await view.locator("#change-prompt").getAttribute("aria-expanded"), "true");
    assert.equal(await view.locator("#prompt").inputValue(), WISH.prompt);
    assert.deepEqual(await stage.axe(view), []);
    await view.locator("#prompt").fill("two circles");
    await view.locator("#generate").click();
    await view.locator("#stage img[alt='two circles']").waitFor();
    const [again] = stage.callsOf("generate_image");
    assert.deepEqual([again.prompt, again.seed], ["two circles", WISH.seed]); // the prompt alone makes the difference
  },

  async "four variations, keys, the choice and saving, in the dark"() {
    const view = await stage.mount("generate_image", WISH, await imageResult(), { theme: "dark" });
    await shown(view);
    await view.locator("#variations").click();
    await view.locator("#grid img").nth(4).waitFor();
    await view.locator("#variations[aria-disabled=false]").waitFor();
    const made = stage.callsOf("generate_image");
    assert.deepEqual([new Set(made.map(({ like }) => like)).size, new Set(made.map(({ seed }) => seed)).size], [1, 4]);
    await status(view, "Done.");
    await view.locator("#grid [aria-current=true]").focus();
    const before = await focusedIndex(view);
    await stage.tab.keyboard.press("ArrowRight");
    await stage.tab.keyboard.press("ArrowRight");
    assert.equal(await focusedIndex(view), before + 2);
    await stage.tab.keyboard.press("Home");
    assert.equal(await focusedIndex(view), 0);
    await stage.tab.keyboard.press("End");
    assert.equal(await focusedIndex(view), 4);
    await view.locator("#use").click();
    const [{ content }] = await stage.sent("ui/message");
    assert.match(content[0].text, /^Use this image: \/.*\.png$/);
    await status(view, "The choice was sent.");
    await view.locator("#save").click();
    const [{ contents }] = await stage.sent("ui/download-file");
    assert.equal(contents[0].resource.mimeType, "image/png");
    assert.ok(contents[0].resource.blob.startsWith("iVBORw0KGgo"));
    await status(view, "A copy was saved.");
    await view.locator("#copy").click();
    await status(view, "The path was copied."); // without the clipboard's permission, which this host does not grant
    assert.ok(stage.complaints.splice(0).every((text) => text.includes("Clipboard API")));
    assert.equal(await view.locator("body").evaluate((body) => getComputedStyle(body).backgroundColor), "rgb(31, 31, 30)");
    assert.deepEqual(await stage.axe(view), []);
    await stage.screenshot(view, path.join(out, "dark.png"));
    await view.locator("#full-screen").click();
    await view.locator("#full-screen:text('Leave')").waitFor();
    await stage.tab.keyboard.press("Escape");
    await view.locator("#full-screen:text-is('Full screen')").waitFor();
    assert.deepEqual(await stage.tab.evaluate(() => window.bridge.teardownResource({})), {});
  },

  async "a result without structured content and with images as in the Messages API"() {
    const { content } = await imageResult();
    const changed = content.map(({ type, data, mimeType, ...rest }) =>
      type === "image" ? { type, source: { type: "base64", media_type: mimeType, data } } : { type, ...rest });
    const view = await stage.mount("generate_image", WISH, { content: changed });
    assert.equal((await shown(view)).alt, WISH.prompt);
  },

  async "an error is text, and markup in it stays text"() {
    const markup = "<img src=x onerror=alert(1)>";
    const view = await stage.mount("generate_image", WISH, { isError: true, content: [{ type: "text", text: markup }] });
    assert.equal(await view.locator("#text").textContent(), markup);
    assert.equal(await view.locator("#stage img").count(), 0);
    assert.deepEqual(await stage.axe(view), []);
  },

  async "the prompt is shown until the result comes, or the cancellation"() {
    const view = await stage.mount("generate_image", WISH, null);
    await status(view, `Working on “${WISH.prompt}”…`);
    assert.equal(await view.locator("#cancel").isHidden(), true);
    assert.deepEqual(await stage.axe(view), []);
    await stage.tab.evaluate(() => window.bridge.sendToolCancelled({ reason: "user" }));
    await status(view, "The call was cancelled.");
    assert.equal(await view.locator("#job").isHidden(), true);
    assert.deepEqual(stage.forwarded, []); // nothing is asked of the server while the model's call waits
  },

  async "a stand-in for window.parent, as VS Code has it"() {
    const standIn = `<script>{
      const real = window.parent, listen = window.addEventListener.bind(window);
      const stand = new Proxy(real, {
        get: (target, name) => (name === "postMessage" ? (message) => target.postMessage(message, "*") : target[name]),
      });
      window.parent = stand;
      window.addEventListener = (type, heard, ...more) => listen(type, type !== "message" ? heard : (event) =>
        heard(new Proxy(event, { get: (target, name) => (name === "source" ? stand : target[name]) })), ...more);
    }</script>`;
    const html = stage.page.text.replace("<head>", `<head>${standIn}`);
    const view = await stage.mount("generate_image", WISH, await imageResult(), { html });
    assert.equal((await shown(view)).alt, WISH.prompt);
  },

  async "the contact sheet stands in where the host refuses the app-only tools"() {
    for (const tool of stage.tools.filter(isToolVisibilityAppOnly)) stage.refused.add(tool.name);
    const args = { prompts: PROMPTS, seeds: [1, 2, 3] };
    const view = await stage.mount("batch_generate", args, await stage.call("batch_generate", args));
    await view.locator("#grid li").nth(3).waitFor();
    assert.equal((await shown(view)).alt, "All images");
    await view.locator("#grid button").nth(2).click();
    await view.locator("#stage p").waitFor();
    assert.match(await view.locator("#facts code").textContent(), /\.png$/);
    stage.refused.clear();
  },

  async "no button that needs tools where the host passes on none"() {
    const view = await stage.mount("generate_image", WISH, await imageResult(), { capabilities: {} });
    await shown(view);
    for (const id of ["another-seed", "variations", "change-prompt", "save"]) assert.ok(await view.locator(`#${id}`).isHidden());
    for (const id of ["copy", "use"]) assert.ok(await view.locator(`#${id}`).isVisible());
  },

  async "a running job is followed to its end"() {
    const args = { prompts: PROMPTS.map((prompt) => `slow: ${prompt}`), wait_s: 0, max_concurrent: 1 };
    const view = await stage.mount("batch_generate", args, await stage.call("batch_generate", args));
    await status(view, "of 3 done");
    assert.equal(await view.locator("#progress").getAttribute("max"), "3");
    await view.locator("#grid img").nth(2).waitFor();
    assert.ok(stage.callsOf("job_status").length >= 1);
    await status(view, "Done.");
  },

  async "a running job is cancelled"() {
    const args = { prompts: Array(20).fill("slow: a circle"), wait_s: 0, max_concurrent: 1 };
    const view = await stage.mount("batch_generate", args, await stage.call("batch_generate", args));
    await view.locator("#cancel").click();
    await status(view, "Cancelled");
    assert.match(stage.callsOf("cancel_batch")[0].batch_id, /^batch_/);
    assert.ok(await view.locator("#job").isHidden());
  },

  async "a job of another process of the server is said to be unknown"() {
    const text = JSON.stringify({ status: "running", job_id: "img_0000", completed: 0, failed: 0, total: 1, elapsed_seconds: 1 });
    const view = await stage.mount("generate_image", WISH, { content: [{ type: "text", text }] });
    await view.locator("#status.error").waitFor();
    assert.match(await view.locator("#status").textContent(), /img_0000/);
    assert.ok(await view.locator("#job").isHidden());
  },

  async "a talking video plays and seeks"() {
    const running = await stage.call("process_image_to_video", { ...VIDEO, wait_s: 0 });
    const view = await stage.mount("process_image_to_video", VIDEO, running);
    const video = view.locator("#stage video");
    await video.waitFor();
    stage.video = await stage.call("job_status", { job_id: JSON.parse(running.content[0].text).job_id, wait_s: 5 });
    const { output_path } = JSON.parse(stage.video.content[0].text);
    const played = await play(video);
    assert.ok(await video.evaluate((element) => element.poster.startsWith("data:image/")));
    assert.ok(played.duration > 0.5 && played.goesOn, JSON.stringify(played));
    assert.deepEqual(stage.callsOf("read_media")[0], { path: output_path, offset: 0 });
    for (const id of ["variations", "zoom"]) assert.ok(await view.locator(`#${id}`).isHidden());
    assert.deepEqual(await stage.axe(view), []);
  },

  async "words and the path stand in for a video that the policy refuses"() {
    const view = await stage.mount("process_image_to_video", VIDEO, stage.video, { sandbox: stage.sandboxWithoutMedia });
    await status(view, "does not play the video");
    assert.match(await view.locator("#facts code").textContent(), /\.mp4$/);
    assert.equal((await shown(view)).alt.slice(0, 20), "A frame of the video");
    const others = stage.complaints.filter((text) => !text.includes("data:"));
    assert.ok(stage.complaints.splice(0).length >= 1);
    assert.deepEqual(others, []);
  },

  async "a video from words plays, and its seed and its prompt can be changed"() {
    const args = { prompt: "a boat in a storm", width: 128, height: 96, num_frames: 9, num_inference_steps: 2, seed: 5, filename: "boat.mp4" };
    const view = await stage.mount("generate_video", args, await stage.call("generate_video", args));
    await view.locator("#stage video").waitFor();
    const facts = await view.locator("#facts").innerText();
    for (const word of [args.prompt, "Length", "128 × 96", "boat.mp4"]) assert.match(facts, new RegExp(word));
    await view.locator("#another-seed").click();
    await view.locator("#grid img").nth(1).waitFor();
    await status(view, "Done.");
    const { filename, ...same } = args;
    const [again] = stage.callsOf("generate_video");
    assert.deepEqual(again, { ...same, seed: again.seed, wait_s: 0 });
    assert.notEqual(again.seed, args.seed);
    await view.locator("#change-prompt").click();
    await view.locator("#prompt").fill("a boat at dawn");
    await view.locator("#generate").click();
    await view.locator("#grid img").nth(2).waitFor();
    await status(view, "Done.");
    const [, changed] = stage.callsOf("generate_video");
    assert.deepEqual([changed.prompt, changed.seed], ["a boat at dawn", again.seed]);
    assert.ok(await view.locator("#variations").isHidden());
    assert.deepEqual(await stage.axe(view), []);
  },

  async "a talking video whose voice was made from words has both"() {
    const { audio_path, ...portrait } = VIDEO;
    const args = { ...portrait, speech_text: "Good morning, everyone.", voice: "anna" };
    const view = await stage.mount("process_image_to_video", args, await stage.call("process_image_to_video", args));
    await view.locator("#stage video").waitFor();
    const facts = await view.locator("#facts").innerText();
    for (const word of [args.speech_text, "anna", ".wav", ".mp4"]) assert.match(facts, new RegExp(word));
    await view.locator("#another-seed").click();
    await view.locator("#grid li").nth(1).waitFor();
    assert.equal(stage.callsOf("process_image_to_video")[0].speech_text, args.speech_text);
  },

  async "speech plays, is saved, and is said again with another seed"() {
    for (const format of ["wav", "flac", "mp3"]) { // as every player of Chromium has them
      const args = { text: "Good morning, everyone.", voice: "anna", format, seed: 5 };
      const view = await stage.mount("generate_speech", args, await stage.call("generate_speech", args));
      const played = await play(view.locator("#stage audio"));
      assert.ok(played.duration > 0.9 && played.goesOn && played.label === `Sound: ${args.text}`, JSON.stringify(played));
    }
    const args = { text: "Good morning, everyone.", voice: "anna", format: "mp3", seed: 5 };
    const view = await stage.mount("generate_speech", args, await stage.call("generate_speech", args));
    await view.locator("#stage audio").waitFor();
    const facts = await view.locator("#facts").innerText();
    for (const word of ["Text", args.text, "Length", "anna", ".mp3"]) assert.match(facts, new RegExp(word));
    for (const id of ["variations", "zoom"]) assert.ok(await view.locator(`#${id}`).isHidden());
    assert.deepEqual(await stage.axe(view), []);
    await view.locator("#save").click();
    const [{ contents }] = await stage.sent("ui/download-file");
    assert.equal(contents[0].resource.mimeType, "audio/mpeg");
    await view.locator("#another-seed").click();
    await view.locator("#grid li").nth(1).waitFor();
    await status(view, "Done.");
    const [again] = stage.callsOf("generate_speech");
    assert.deepEqual(again, { ...args, seed: again.seed, wait_s: 0 });
    await view.locator("#change-prompt:text('Change text')").click();
    assert.equal(await view.locator("#prompt").inputValue(), args.text);
    await view.locator("#prompt").fill("Good night, everyone.");
    await view.locator("#generate").click();
    await view.locator("#grid li").nth(2).waitFor();
    assert.equal(stage.callsOf("generate_speech")[1].text, "Good night, everyone.");
    assert.deepEqual(stage.callsOf("view_media"), []); // a sound has no small image
    assert.deepEqual(await stage.axe(view), []);
  },

  async "words and the path stand in for a sound that the policy refuses"() {
    const args = { text: "Good morning, everyone." };
    const speech = await stage.call("generate_speech", args);
    const view = await stage.mount("generate_speech", args, speech, { sandbox: stage.sandboxWithoutMedia });
    await status(view, "does not play the audio file");
    assert.match(await view.locator("#facts code").textContent(), /\.wav$/);
    assert.deepEqual(stage.complaints.splice(0).filter((text) => !text.includes("data:")), []);
  },

  async "a checked image has its verdict in words and numbers, and each candidate can be made"() {
    const args = { ...WISH, seed: FIRST_OF_TWO, best_of: 2 };
    const view = await stage.mount("generate_image", args, await stage.call("generate_image", args));
    await shown(view);
    await status(view, "The image shows the prompt.");
    const words = await view.locator("#check").innerText();
    assert.match(words, /✓ Shows the prompt: 90\.9 %, at least 50\.0 % wanted/);
    assert.match(words, /a plain background\s+90\.9 %/);
    assert.match(words, new RegExp(`0\\s+${FIRST_OF_TWO}\\s+9\\.1 %`));
    assert.match(words, new RegExp(`1\\s+${FIRST_OF_TWO + 1}\\s+90\\.9 %\\s+This image`));
    assert.equal(await view.locator("#check button").count(), 1); // the other one is there
    assert.deepEqual(await stage.axe(view), []);
    const { file_path } = factsOf(await stage.call("list_images", { limit: 1 })).images[0];
    await stage.screenshot(view, path.join(out, "checked.png"));
    await view.getByRole("button", { name: `Make this one: candidate 0, seed ${FIRST_OF_TWO}` }).click();
    await view.locator("#grid li").nth(1).waitFor();
    await status(view, "Done.");
    assert.deepEqual(stage.callsOf("generate_image"), [{ like: file_path, wait_s: 0, seed: FIRST_OF_TWO }]);
    assert.ok(await view.locator("#check").isHidden()); // nobody looked at the new one
    await view.locator("#grid button").first().click();
    await view.locator("#another-seed").click();
    await view.locator("#grid li").nth(2).waitFor();
    assert.equal(stage.callsOf("generate_image")[1].check, true);
    assert.match(await view.locator("#check").innerText(), /(Shows|Misses) the prompt: \d+\.\d %/);
  },

  async "an image that misses the prompt is said to"() {
    const args = { ...WISH, check: true };
    const view = await stage.mount("generate_image", args, await stage.call("generate_image", args), { theme: "dark" });
    await status(view, "The image misses the prompt.");
    assert.match(await view.locator("#check").innerText(), /✗ Misses the prompt: 9\.1 %/);
    assert.equal(await view.locator("#check button").count(), 0);
    assert.deepEqual(await stage.axe(view), []);
  },

  async "the list of images is a gallery with pages"() {
    const view = await stage.mount("list_images", { limit: 3 }, await stage.call("list_images", { limit: 3 }));
    await view.locator("#grid img").nth(2).waitFor();
    assert.match((await shown(view)).alt, /./);
    await view.locator("#more").click();
    await view.locator("#grid img").nth(5).waitFor();
    assert.ok(stage.callsOf("list_images")[0].cursor);
    assert.deepEqual(await stage.axe(view), []);
    await view.locator("#another-seed").click();
    await view.locator("#grid li").nth(6).waitFor();
    assert.match(stage.callsOf("generate_image")[0].like, /\.png$/);
  },

  async "an analysis is a grid with bars"() {
    const args = { image_paths: media.images, query: "Is there a red circle?" };
    const view = await stage.mount("analyze_images_with_query", args, await stage.call("analyze_images_with_query", args));
    await view.locator("#grid meter").nth(2).waitFor();
    await view.locator("#grid img").nth(2).waitFor();
    await status(view, "1 of 3 relevant");
    assert.ok(await view.locator("#another-seed").isHidden());
    assert.deepEqual(await stage.axe(view), []);
  },

  async "the host of the first version"() {
    await stage.openHost(stage.oldHost);
    await anotherSeed();
  },

  async "no other error in the console, and no breach of the policy"() {
    assert.deepEqual(stage.complaints, []);
  },
};

const failures = {};
try {
  await stage.openHost();
  for (const name of scenarios) {
    const begin_ms = performance.now();
    try {
      await SCENARIOS[name]();
      failures[name] = null;
    } catch (error) {
      failures[name] = String(error.stack);
    }
    console.error(`${((performance.now() - begin_ms) / 1000).toFixed(1)} s  ${name}`);
  }
} finally {
  await stage.close();
}
console.log(JSON.stringify(failures));
