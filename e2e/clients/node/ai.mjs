import { generateText, jsonSchema, stepCountIs, streamText, tool, embed } from "ai";
import { openai } from "@ai-sdk/openai";
import { anthropic } from "@ai-sdk/anthropic";
import { google } from "@ai-sdk/google";
import { lookup, toolSchema } from "./tool.mjs";

const models = {
  "openai.chat_completions": (id) => openai.chat(id),
  "openai.responses": (id) => openai.responses(id),
  "anthropic.messages": (id) => anthropic(id),
  "gemini.generate_content": (id) => google(id),
  "gemini.stream_generate_content": (id) => google(id),
};

export async function run(call) {
  if (call.surface === "openai.embeddings") return JSON.stringify((await embed({ model: openai.embedding(call.model), value: call.prompt })).embedding);
  const model = models[call.surface](call.model);
  const content = [{ type: "text", text: call.prompt }];
  if (call.scenario === "image") content.push({ type: "file", mediaType: "image/png", data: Buffer.from(call.image, "base64") });
  const settings = { model, messages: [{ role: "user", content }], abortSignal: call.aborter.signal, maxRetries: 1 };
  if (call.streams) {
    let failure;
    const { textStream } = streamText({ ...settings, onError: ({ error }) => (failure = error) });
    for await (const piece of textStream) call.said(piece);
    if (failure) throw failure;
    return;
  }
  if (call.scenario === "tools") {
    settings.tools = { lookup: tool({ inputSchema: jsonSchema(toolSchema), execute: async ({ query }) => lookup(query) }) };
    settings.stopWhen = stepCountIs(3);
  }
  return (await generateText(settings)).text;
}
