import {
  BedrockRuntimeClient,
  ConverseCommand,
  ConverseStreamCommand,
  InvokeModelCommand,
  InvokeModelWithResponseStreamCommand,
} from "@aws-sdk/client-bedrock-runtime";
import { lookup, toolSchema } from "./tool.mjs";

export async function run(call) {
  const client = new BedrockRuntimeClient({});
  const { model: modelId, prompt } = call;
  const options = { abortSignal: call.aborter.signal };
  const content = [{ text: prompt }];
  if (call.scenario === "image") content.push({ image: { format: "png", source: { bytes: Buffer.from(call.image, "base64") } } });
  const messages = [{ role: "user", content }];
  const claude = {
    modelId,
    contentType: "application/json",
    body: JSON.stringify({ anthropic_version: "bedrock-2023-05-31", max_tokens: 256, messages: [{ role: "user", content: prompt }] }),
  };
  switch (call.surface) {
    case "bedrock.converse_stream": {
      const r = await client.send(new ConverseStreamCommand({ modelId, messages }), options);
      for await (const event of r.stream) call.said(event.contentBlockDelta?.delta?.text);
      return;
    }
    case "bedrock.invoke_model":
      return JSON.parse(Buffer.from((await client.send(new InvokeModelCommand(claude))).body).toString()).content[0].text;
    case "bedrock.invoke_model_stream": {
      const r = await client.send(new InvokeModelWithResponseStreamCommand(claude), options);
      for await (const event of r.body) call.said(JSON.parse(Buffer.from(event.chunk.bytes).toString()).delta?.text);
      return;
    }
  }
  const toolConfig = call.scenario === "tools" ? { tools: [{ toolSpec: { name: "lookup", inputSchema: { json: toolSchema } } }] } : undefined;
  for (let i = 0; i < 3; i++) {
    const { message } = (await client.send(new ConverseCommand({ modelId, messages, toolConfig }), options)).output;
    const uses = message.content.filter((b) => b.toolUse).map((b) => b.toolUse);
    if (uses.length === 0) return message.content.map((b) => b.text).join("");
    messages.push(message, { role: "user", content: uses.map((u) => ({ toolResult: { toolUseId: u.toolUseId, content: [{ text: lookup(u.input.query) }] } })) });
  }
  throw new Error("the model asks for tools for ever");
}
