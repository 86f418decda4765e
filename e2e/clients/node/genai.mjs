import { GoogleGenAI } from "@google/genai";
import { OAuth2Client } from "google-auth-library";
import { lookup, toolSchema } from "./tool.mjs";

const vertex = () => ({
  vertexai: true,
  project: "shelf",
  location: "us-central1",
  googleAuthOptions: { authClient: new OAuth2Client({ credentials: { access_token: process.env.VERTEX_TOKEN } }) },
});

export async function run(call) {
  const client = new GoogleGenAI(call.client === "google-genai-node-vertex" ? vertex() : {});
  const { model, prompt } = call;
  const parts = [{ text: prompt }];
  if (call.scenario === "image") parts.push({ inlineData: { mimeType: "image/png", data: call.image } });
  const contents = [{ role: "user", parts }];
  const config = { abortSignal: call.aborter.signal };
  switch (call.surface.split(".")[1]) {
    case "count_tokens":
      return String((await client.models.countTokens({ model, contents })).totalTokens > 0);
    case "embed_content":
      return JSON.stringify((await client.models.embedContent({ model, contents })).embeddings[0].values);
    case "live":
      return live(client, call);
    case "stream_generate_content": {
      const stream = await client.models.generateContentStream({ model, contents, config });
      for await (const chunk of stream) call.said(chunk.text);
      return;
    }
  }
  if (call.scenario === "tools") config.tools = [{ functionDeclarations: [{ name: "lookup", parametersJsonSchema: toolSchema }] }];
  for (let i = 0; i < 3; i++) {
    const r = await client.models.generateContent({ model, contents, config });
    if (!r.functionCalls?.length) return r.text;
    contents.push(r.candidates[0].content);
    for (const f of r.functionCalls)
      contents.push({ role: "user", parts: [{ functionResponse: { name: f.name, response: { output: lookup(f.args.query) } } }] });
  }
  throw new Error("the model asks for tools for ever");
}

async function live(client, call) {
  let done, failed;
  const ended = new Promise((resolve, reject) => ([done, failed] = [resolve, reject]));
  ended.catch(() => {}); // it may fail while the session is being made
  const session = await Promise.race([
    client.live.connect({
      model: call.model,
      config: { responseModalities: ["TEXT"] },
      callbacks: {
        onmessage: (m) => {
          call.said(m.text);
          if (m.serverContent?.turnComplete) done();
        },
        onerror: (e) => failed(Object.assign(new Error(e.message), { name: e.type })),
        onclose: (e) => failed(Object.assign(new Error(`closed: ${e.code} ${e.reason}`), { name: "CloseEvent" })),
      },
    }),
    ended,
  ]);
  session.sendClientContent({ turns: [{ role: "user", parts: [{ text: call.prompt }] }], turnComplete: true });
  await ended.finally(() => session.close());
}
