import { ChatOpenAI, OpenAIEmbeddings } from "@langchain/openai";
import { ChatAnthropic } from "@langchain/anthropic";
import { HumanMessage, ToolMessage } from "@langchain/core/messages";
import { lookup, toolSchema } from "./tool.mjs";

// By itself it tries six times again, for minutes.
const maxRetries = 1;

const models = {
  "openai.chat_completions": (model) => new ChatOpenAI({ model, maxRetries }),
  "openai.responses": (model) => new ChatOpenAI({ model, maxRetries, useResponsesApi: true }),
  "anthropic.messages": (model) => new ChatAnthropic({ model, maxRetries, maxTokens: 256 }),
};

export async function run(call) {
  if (call.surface === "openai.embeddings") return JSON.stringify(await new OpenAIEmbeddings({ model: call.model, maxRetries }).embedQuery(call.prompt));
  let model = models[call.surface](call.model);
  const content = [{ type: "text", text: call.prompt }];
  if (call.scenario === "image") content.push({ type: "image_url", image_url: { url: `data:image/png;base64,${call.image}` } });
  const messages = [new HumanMessage({ content })];
  if (call.streams) {
    for await (const chunk of await model.stream(messages, { signal: call.aborter.signal })) call.said(chunk.text);
    return;
  }
  if (call.scenario === "tools") model = model.bindTools([{ name: "lookup", description: "Look something up.", schema: toolSchema }]);
  for (let i = 0; i < 3; i++) {
    const answer = await model.invoke(messages);
    if (!answer.tool_calls?.length) return answer.text;
    messages.push(answer);
    for (const t of answer.tool_calls) messages.push(new ToolMessage({ content: lookup(t.args.query), tool_call_id: t.id }));
  }
  throw new Error("the model asks for tools for ever");
}
