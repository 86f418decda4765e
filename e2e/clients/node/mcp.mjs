import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

/** The model of a job is the tool to call; the server is one that the user has configured. */
export async function run(call) {
  const client = new Client({ name: "matrix", version: "1.0.0" });
  await client.connect(new StreamableHTTPClientTransport(new URL(process.env.MCP_URL), { requestInit: { headers: { Authorization: `Bearer ${process.env.MCP_TOKEN}` } } }));
  try {
    await client.listTools();
    const r = await client.callTool({ name: call.model, arguments: { query: call.prompt } });
    return r.content[0].text;
  } finally {
    await client.close();
  }
}
