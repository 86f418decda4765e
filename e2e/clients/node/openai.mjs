import OpenAI, { AzureOpenAI, toFile } from "openai";
import { lookup, toolSchema } from "./tool.mjs";

export async function run(call) {
  const client = call.client === "azure-openai-node" ? new AzureOpenAI() : new OpenAI();
  const { model, prompt } = call;
  const options = { signal: call.aborter.signal };
  switch (call.surface) {
    case "openai.chat_completions":
      return chat(client, call, options);
    case "openai.responses":
      return responses(client, call, options);
    case "openai.responses.websocket":
      return responsesSocket(client, call);
    case "openai.realtime":
      return realtime(client, call);
    case "openai.completions":
      return (await client.completions.create({ model, prompt })).choices[0].text;
    case "openai.embeddings":
      return JSON.stringify((await client.embeddings.create({ model, input: prompt })).data[0].embedding);
    case "openai.moderations":
      return `flagged ${(await client.moderations.create({ model, input: prompt })).results[0].flagged}`;
    case "openai.images.generations":
      return (await client.images.generate({ model, prompt })).data[0].b64_json;
    case "openai.audio.speech":
      return `${(await (await client.audio.speech.create({ model, input: prompt, voice: "alloy" })).arrayBuffer()).byteLength} bytes`;
    case "openai.audio.transcriptions":
      return (await client.audio.transcriptions.create({ model, prompt, file: await toFile(Buffer.from("RIFF of no sound"), "note.wav", { type: "audio/wav" }) })).text;
    case "openai.files":
      return (await client.files.create({ purpose: "user_data", file: await toFile(Buffer.from(prompt), "notes.txt", { type: "text/plain" }) })).id;
  }
  throw new Error(`surface ${call.surface} is not driven`);
}

async function chat(client, call, options) {
  const { model, prompt } = call;
  const image = { type: "image_url", image_url: { url: `data:image/png;base64,${call.image}` } };
  const messages = [{ role: "user", content: call.scenario === "image" ? [{ type: "text", text: prompt }, image] : prompt }];
  if (call.streams) {
    const stream = await client.chat.completions.create({ model, messages, stream: true, stream_options: { include_usage: true } }, options);
    for await (const chunk of stream) call.said(chunk.choices[0]?.delta?.content);
    return;
  }
  const tools = call.scenario === "tools" ? [{ type: "function", function: { name: "lookup", parameters: toolSchema } }] : undefined;
  for (let i = 0; i < 3; i++) {
    const { message } = (await client.chat.completions.create({ model, messages, tools }, options)).choices[0];
    if (!message.tool_calls?.length) return message.content;
    messages.push(message);
    for (const t of message.tool_calls) messages.push({ role: "tool", tool_call_id: t.id, content: lookup(JSON.parse(t.function.arguments).query) });
  }
  throw new Error("the model asks for tools for ever");
}

async function responses(client, call, options) {
  const { model, prompt } = call;
  const content = [{ type: "input_text", text: prompt }];
  if (call.scenario === "image") content.push({ type: "input_image", image_url: `data:image/png;base64,${call.image}`, detail: "auto" });
  const input = [{ role: "user", content }];
  if (call.streams) {
    const stream = await client.responses.create({ model, input: prompt, stream: true }, options);
    for await (const event of stream) if (event.type === "response.output_text.delta") call.said(event.delta);
    return;
  }
  const tools = call.scenario === "tools" ? [{ type: "function", name: "lookup", parameters: toolSchema, strict: false }] : undefined;
  for (let i = 0; i < 3; i++) {
    const r = await client.responses.create({ model, input, tools }, options);
    const calls = r.output.filter((o) => o.type === "function_call");
    if (calls.length === 0) return r.output_text;
    for (const f of calls) input.push(f, { type: "function_call_output", call_id: f.call_id, output: lookup(JSON.parse(f.arguments).query) });
  }
  throw new Error("the model asks for tools for ever");
}

/** Waits for what a socket of the library says, until an event of the kind. */
function until(socket, call, last, send) {
  return new Promise((resolve, reject) => {
    socket.on("error", (e) => reject(e));
    socket.on("event", (event) => {
      if (/output_text\.delta$|response\.text\.delta$/.test(event.type)) call.said(event.delta);
      if (event.type === last) resolve();
    });
    socket.socket.on("close", (code, reason) => reject(Object.assign(new Error(`closed: ${code} ${reason}`), { name: "Closed" })));
    send();
  }).finally(() => socket.close());
}

async function responsesSocket(client, call) {
  const { ResponsesWS } = await import("openai/resources/responses/ws");
  const ws = new ResponsesWS(client);
  await until(ws, call, "response.completed", () => ws.send({ type: "response.create", model: call.model, input: call.prompt }));
}

async function realtime(client, call) {
  const { OpenAIRealtimeWS } = await import("openai/realtime/ws");
  const rt = await OpenAIRealtimeWS.create(client, { model: call.model });
  await until(rt, call, "response.done", () =>
    rt.socket.on("open", () => {
      rt.send({ type: "session.update", session: { type: "realtime", output_modalities: ["text"] } });
      rt.send({ type: "conversation.item.create", item: { type: "message", role: "user", content: [{ type: "input_text", text: call.prompt }] } });
      rt.send({ type: "response.create" });
    }),
  );
}
