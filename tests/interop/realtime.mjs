// One channel of the npm package `@supabase/realtime-js`, on a real connection.
//
// In: {"do": …}, each answered by {"did", "result"}. Out, in between: what the application is told,
// as {"status"}, {"presence"}, {"broadcast"}, {"change"} and {"system"}. Bytes are {"hex"}.
import { RealtimeClient } from "@supabase/realtime-js"
import WebSocket from "ws"
import { lines, say } from "./lines.mjs"

const bytes = ({ hex }) => Uint8Array.from(Buffer.from(hex, "hex")).buffer
const isBytes = (value) => value instanceof ArrayBuffer || ArrayBuffer.isView(value)
// A token that nobody signed.
const jwt = (claims) =>
  ["{}", JSON.stringify(claims)].map((part) => Buffer.from(part).toString("base64url")).join(".") + ".x"
const shown = (value) => (isBytes(value) ? { hex: Buffer.from(value).toString("hex") } : value)
const meant = (value) => (value.hex === undefined ? value : bytes(value))

let client
let channel

const commands = {
  async subscribe({ url, vsn, topic, config, changes, claims }) {
    const retries = { reconnectAfterMs: () => 1 }
    client = new RealtimeClient(url, { vsn, params: { apikey: "key" }, transport: WebSocket, ...retries })
    if (claims) await client.setAuth(jwt(claims))
    channel = client.channel(topic, { config })
    for (const event of ["join", "leave", "sync"]) {
      channel.on("presence", { event }, (presence) =>
        say({ presence, members: channel.presenceState() }))
    }
    channel.on("broadcast", { event: "*" }, ({ event, payload, meta }) =>
      say({ broadcast: { event, payload: shown(payload), meta } }))
    channel.on("system", {}, (system) => say({ system }))
    for (const filter of changes) {
      channel.on("postgres_changes", filter, (change) => say({ change, filter: filter.filter }))
    }
    channel.subscribe((status, error) => say({ status, error: error?.message }))
  },
  track: ({ payload }) => channel.track(payload),
  untrack: () => channel.untrack(),
  broadcast: ({ event, payload }) =>
    channel.send({ type: "broadcast", event, payload: meant(payload) }),
  post: ({ event, payload }) => channel.httpSend(event, meant(payload)),
  token: ({ claims }) => client.setAuth(jwt(claims)),
  leave: () => client.removeChannel(channel),
}

for await (const { do: name, ...options } of lines()) {
  const result = await commands[name](options)
  say({ did: name, result: result ?? null })
}
process.exit()
