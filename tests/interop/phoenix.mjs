// One channel of the npm package `phoenix`, on a real connection.
//
// In: {"do": …}. Out: what the application is told, as {"socket"}, {"joined"}, {"message"},
// {"reply"}, {"errored"}, {"closed"} and {"members", "calls"}. Bytes are {"hex"}.
import { Presence, Socket } from "phoenix"
import WebSocket from "ws"
import { lines, say } from "./lines.mjs"

const shown = (value) =>
  value instanceof ArrayBuffer ? { hex: Buffer.from(value).toString("hex") } : value
const meant = (value) =>
  value.hex === undefined ? value : Uint8Array.from(Buffer.from(value.hex, "hex")).buffer

let socket
let channel

const commands = {
  join({ url, topic, params, events }) {
    const atOnce = () => 1
    const retries = { reconnectAfterMs: atOnce, rejoinAfterMs: atOnce }
    socket = new Socket(url, { params: { apikey: "key" }, transport: WebSocket, ...retries })
    socket.onOpen(() => say({ socket: "open" }))
    socket.onClose(() => say({ socket: "closed" }))
    channel = socket.channel(topic, params)
    const presence = new Presence(channel)
    let calls = []
    presence.onJoin((key, current) => calls.push(["join", key, current !== undefined]))
    presence.onLeave((key, current) => calls.push(["leave", key, current.metas.length > 0]))
    presence.onSync(() => {
      say({ members: presence.list((key, { metas }) => [key, metas]), calls })
      calls = []
    })
    for (const event of events) {
      channel.on(event, (payload) => say({ message: event, payload: shown(payload) }))
    }
    channel.onError(() => say({ errored: true }))
    channel.onClose(() => say({ closed: true }))
    socket.connect()
    channel.join().receive("ok", (joined) => say({ joined })).receive("error", (refused) =>
      say({ refused }))
  },
  push({ event, payload }) {
    const push = channel.push(event, meant(payload))
    for (const status of ["ok", "error", "timeout"]) {
      push.receive(status, (response) => say({ reply: status, response: shown(response) }))
    }
  },
  leave: () => channel.leave(),
}

for await (const { do: name, ...options } of lines()) commands[name](options)
process.exit()
