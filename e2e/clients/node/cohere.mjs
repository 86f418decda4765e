import { CohereClientV2 } from "cohere-ai";
import { lookup, toolSchema } from "./tool.mjs";

export async function run(call) {
  const client = new CohereClientV2({ maxRetries: 1 }); // its key is in CO_API_KEY
  const { model, prompt } = call;
  const options = { abortSignal: call.aborter.signal };
  switch (call.surface) {
    case "cohere.embed":
      return JSON.stringify((await client.embed({ model, texts: [prompt], inputType: "search_query", embeddingTypes: ["float"] })).embeddings.float[0]);
    case "cohere.rerank":
      return String((await client.rerank({ model, query: prompt, documents: ["thirty days", "in the box"] })).results[0].relevanceScore);
  }
  const content = [{ type: "text", text: prompt }];
  if (call.scenario === "image") content.push({ type: "image_url", imageUrl: { url: `data:image/png;base64,${call.image}` } });
  const messages = [{ role: "user", content }];
  if (call.streams) {
    for await (const event of await client.chatStream({ model, messages }, options))
      if (event.type === "content-delta") call.said(event.delta.message.content.text);
    return;
  }
  const tools = call.scenario === "tools" ? [{ type: "function", function: { name: "lookup", parameters: toolSchema } }] : undefined;
  for (let i = 0; i < 3; i++) {
    const { message } = await client.chat({ model, messages, tools }, options);
    if (!message.toolCalls?.length) return message.content.map((b) => b.text).join("");
    messages.push(message);
    for (const t of message.toolCalls) messages.push({ role: "tool", toolCallId: t.id, content: lookup(JSON.parse(t.function.arguments).query) });
  }
  throw new Error("the model asks for tools for ever");
}
