import Anthropic, { toFile } from "@anthropic-ai/sdk";
import { lookup, toolSchema } from "./tool.mjs";

export async function run(call) {
  const client = new Anthropic();
  const { model, prompt } = call;
  const options = { signal: call.aborter.signal };
  const image = { type: "image", source: { type: "base64", media_type: "image/png", data: call.image } };
  const messages = [{ role: "user", content: call.scenario === "image" ? [{ type: "text", text: prompt }, image] : prompt }];
  switch (call.surface) {
    case "anthropic.count_tokens":
      return String((await client.messages.countTokens({ model, messages })).input_tokens > 0);
    case "anthropic.batches":
      return (await client.messages.batches.create({ requests: [{ custom_id: "one", params: { model, max_tokens: 64, messages } }] })).id;
    case "anthropic.files":
      return (await (client.files ?? client.beta.files).upload({ file: await toFile(Buffer.from(prompt), "notes.txt", { type: "text/plain" }) })).id;
  }
  if (call.streams) {
    const stream = await client.messages.create({ model, max_tokens: 256, messages, stream: true }, options);
    for await (const event of stream) if (event.type === "content_block_delta") call.said(event.delta.text);
    return;
  }
  const tools = call.scenario === "tools" ? [{ name: "lookup", input_schema: toolSchema }] : undefined;
  for (let i = 0; i < 3; i++) {
    const r = await client.messages.create({ model, max_tokens: 256, messages, tools }, options);
    const uses = r.content.filter((b) => b.type === "tool_use");
    if (uses.length === 0) return r.content.map((b) => b.text).join("");
    messages.push({ role: "assistant", content: r.content });
    messages.push({ role: "user", content: uses.map((u) => ({ type: "tool_result", tool_use_id: u.id, content: lookup(u.input.query) })) });
  }
  throw new Error("the model asks for tools for ever");
}
