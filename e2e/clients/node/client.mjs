// Drives the model clients from npm, unmodified, for the matrix of package clients: each is told nothing but what a user of the library
// writes, and finds its way through the environment that a user sets.
//
// The argument names the client. Jobs come on standard input, one JSON object a line; each is answered with one line, and before
// that with {"event":"first"} when the first text of a stream has come.
import { createInterface } from "node:readline";

const emit = (value) => process.stdout.write(JSON.stringify(value) + "\n");

/** A job on its way: what was said so far, and what ends it. */
class Call {
  constructor(job) {
    Object.assign(this, job);
    this.text = "";
    this.aborter = new AbortController();
  }
  get streams() {
    return this.scenario === "streamed" || this.scenario === "abort";
  }
  /** Takes a piece of a stream. A job that is to be aborted ends with the first. */
  said(piece) {
    if (!piece) return;
    const first = this.text === "";
    this.text += piece;
    if (!first) return;
    emit({ event: "first" });
    if (this.scenario === "abort") this.aborter.abort();
  }
}

/** Each client's driver is a module, so that only one client's library is loaded. */
const drivers = {
  "openai-node": "./openai.mjs",
  "openai-node-base-url": "./openai.mjs",
  "openai-node-websocket": "./openai.mjs",
  "azure-openai-node": "./openai.mjs",
  "anthropic-sdk-node": "./anthropic.mjs",
  "anthropic-sdk-node-base-url": "./anthropic.mjs",
  "google-genai-node": "./genai.mjs",
  "google-genai-node-live": "./genai.mjs",
  "google-genai-node-vertex": "./genai.mjs",
  "aws-sdk-js-bedrockruntime": "./bedrock.mjs",
  "vercel-ai": "./ai.mjs",
  "langchain-openai": "./langchain.mjs",
  "langchain-anthropic": "./langchain.mjs",
  "cohere-node": "./cohere.mjs",
  "ollama-node": "./ollama.mjs",
  "mcp-sdk-node": "./mcp.mjs",
  "a2a-sdk-node": "./a2a.mjs",
};

const { run } = await import(drivers[process.argv[2]] ?? "node:no-such-client");

for await (const line of createInterface({ input: process.stdin })) {
  const call = new Call(JSON.parse(line));
  const result = { client: call.client, surface: call.surface, scenario: call.scenario, ok: true, exception: "", message: "", text: "" };
  try {
    const text = await run(call);
    result.text = text ?? call.text;
    if (call.aborter.signal.aborted) throw call.aborter.signal.reason; // some libraries end an aborted stream as if it were complete
  } catch (e) {
    result.ok = false;
    result.text = call.text;
    result.exception = [e?.constructor?.name, e?.name !== e?.constructor?.name && e?.name, e?.status ?? e?.statusCode ?? e?.status_code ?? e?.$metadata?.httpStatusCode].filter(Boolean).join(" ");
    result.message = String(e?.message ?? e);
    if (process.env.SHOW_CAUSES) console.error(e);
  }
  emit(result);
}
process.exit(0); // kept connections do not keep the program
