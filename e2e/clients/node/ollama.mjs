import { Ollama } from "ollama";
import { lookup, toolSchema } from "./tool.mjs";

export async function run(call) {
  const client = new Ollama({ host: process.env.OLLAMA_HOST }); // its key is in OLLAMA_API_KEY
  const { model, prompt } = call;
  switch (call.surface) {
    case "ollama.embed":
      return JSON.stringify((await client.embed({ model, input: prompt })).embeddings[0]);
    case "ollama.generate":
      return (await client.generate({ model, prompt })).response;
  }
  const messages = [{ role: "user", content: prompt }];
  if (call.scenario === "image") messages[0].images = [call.image];
  if (call.streams) {
    const stream = await client.chat({ model, messages, stream: true });
    call.aborter.signal.addEventListener("abort", () => stream.abort());
    for await (const chunk of stream) call.said(chunk.message.content);
    return;
  }
  const tools = call.scenario === "tools" ? [{ type: "function", function: { name: "lookup", description: "Look something up.", parameters: toolSchema } }] : undefined;
  for (let i = 0; i < 3; i++) {
    const { message } = await client.chat({ model, messages, tools });
    if (!message.tool_calls?.length) return message.content;
    messages.push(message);
    for (const t of message.tool_calls) messages.push({ role: "tool", tool_name: t.function.name, content: lookup(t.function.arguments.query) });
  }
  throw new Error("the model asks for tools for ever");
}
