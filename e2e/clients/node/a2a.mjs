import { ClientFactory, ClientFactoryOptions, DefaultAgentCardResolver, JsonRpcTransportFactory } from "@a2a-js/sdk/client";
import { Role } from "@a2a-js/sdk";

// The agent wants a token for its card, too.
const fetchImpl = (url, init) => fetch(url, { ...init, headers: { ...init?.headers, Authorization: `Bearer ${process.env.A2A_TOKEN}` } });

/** The model of a job is where news of the task is to be sent, as a host's name; "" for nowhere. */
export async function run(call) {
  const options = ClientFactoryOptions.createFrom(ClientFactoryOptions.default, {
    transports: [new JsonRpcTransportFactory({ fetchImpl })],
    cardResolver: new DefaultAgentCardResolver({ fetchImpl }),
  });
  const client = await new ClientFactory(options).createFromUrl(process.env.A2A_URL);
  const request = {
    tenant: "",
    message: { messageId: "m-1", contextId: "", taskId: "", role: Role.ROLE_USER, parts: [{ content: { $case: "text", value: call.prompt }, filename: "", mediaType: "" }], extensions: [], referenceTaskIds: [] },
  };
  if (call.model)
    request.configuration = { acceptedOutputModes: [], returnImmediately: true, taskPushNotificationConfig: { tenant: "", id: "n-1", taskId: "", url: `https://${call.model}.example/news`, token: "" } };
  const text = (parts) => parts?.map((p) => p.content?.value ?? "").join("");
  if (call.streams) {
    for await (const event of client.sendMessageStream(request, { signal: call.aborter.signal })) call.said(text(event.payload?.value?.artifact?.parts));
    return;
  }
  return text((await client.sendMessage(request)).parts);
}
