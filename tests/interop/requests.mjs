// The URLs and the HTTP requests of the npm packages `phoenix` and `@supabase/realtime-js`, neither
// of which is ever sent.
//
// In: {"endpoint", "params"}, answered by the URLs that they connect to; or {"endpoint", "token",
// "topic", "private", "event", "payload", "persist"}, answered by the request of `httpSend` and the
// one that `send` makes of the same on a channel that is not joined. Bytes are {"hex"}.
import { RealtimeClient } from "@supabase/realtime-js"
import { Socket } from "phoenix"
import { lines, say } from "./lines.mjs"

class NoTransport {}

const hex = (bytes) => Buffer.from(bytes).toString("hex")
const meant = (value) =>
  value.hex === undefined ? value : Uint8Array.from(Buffer.from(value.hex, "hex")).buffer

function connect({ endpoint, params }) {
  const options = { params, transport: NoTransport }
  return {
    phoenix: new Socket(endpoint, options).endPointURL(),
    "realtime-js": new RealtimeClient(endpoint, options).endpointURL(),
  }
}

async function send({ endpoint, token, topic, event, payload, persist, ...config }) {
  const requests = []
  const fetch = async (url, { method, headers, body }) => {
    // The URL of the socket leaves its query behind.
    const { origin, pathname, searchParams } = new URL(url)
    const query = [...searchParams].filter(([key]) => !["apikey", "vsn"].includes(key))
    const bytes = typeof body === "string" ? { text: body } : { hex: hex(body) }
    requests.push({ method, url: origin + pathname, query, headers, ...bytes })
    return new Response(null, { status: 202 })
  }
  const quiet = { transport: NoTransport, logger: () => {} }
  const client = new RealtimeClient(endpoint, { params: { apikey: "key" }, fetch, ...quiet })
  if (token) await client.setAuth(token)
  const channel = client.channel(topic, { config })
  await channel.httpSend(event, meant(payload), { persist })
  if (payload.hex === undefined && !persist) {
    await channel.send({ type: "broadcast", event, payload })
  }
  return requests
}

for await (const question of lines()) {
  try {
    say(question.params ? connect(question) : await send(question))
  } catch (error) {
    say({ throws: error.message })
  }
}
