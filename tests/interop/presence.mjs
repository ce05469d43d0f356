// The Presence of the npm package `phoenix`, on its own Socket and Channel. The connection is a
// pretence, and time passes only while a join is awaited.
//
// In: {"vsn", "forget", "steps": [["state" | "diff", "current" | "old" | null, payload] | ["ok"] | ["crash"]
// | ["cut"], …]}. Out: for each step the callbacks, the members by key, and who came, changed and
// went, which is null when nothing was to be told. With "forget" the diffs that are held for a
// snapshot are dropped when the channel joins again, which the library does not do by itself.
import { Presence, Socket } from "phoenix"
import { lines, say } from "./lines.mjs"
import { fold, members, parsed } from "./members.mjs"

const TOPIC = "room:interop"

const timers = new Map()
let timersMade = 0
globalThis.setTimeout = (callback, span = 0) => {
  timers.set(++timersMade, { callback, span })
  return timersMade
}
globalThis.clearTimeout = (id) => timers.delete(id)

// The server is always there at once, so only what waits for nothing is ever due.
function pass(done) {
  while (!done()) {
    const due = [...timers].find(([, timer]) => timer.span === 0)
    if (!due) throw new Error("nothing is due, and nothing happened")
    timers.delete(due[0])
    due[1].callback()
  }
}

class Wire {
  static last
  readyState = 0
  bufferedAmount = 0
  sent = []
  constructor() {
    Wire.last = this
  }
  send(text) {
    this.sent.push(text)
  }
  close() {
    this.readyState = 3
  }
}

function run({ vsn, forget, steps }) {
  timers.clear()
  const v1 = vsn === "1.0.0" && {
    encode: (message, done) => done(JSON.stringify(message)),
    decode: (text, done) => done(JSON.parse(text)),
  }
  const retries = { reconnectAfterMs: () => 0, rejoinAfterMs: () => 0 }
  const socket = new Socket("ws://scripted.test/socket", { vsn, transport: Wire, ...retries, ...v1 })
  const channel = socket.channel(TOPIC)
  const presence = new Presence(channel)
  let calls = []
  let syncs = 0
  const copy = (entry) => (entry === undefined ? null : JSON.parse(JSON.stringify(entry)))
  presence.onJoin((key, current, joined) => calls.push(["join", key, copy(current), copy(joined)]))
  presence.onLeave((key, current, left) => calls.push(["leave", key, copy(current), copy(left)]))
  presence.onSync(() => {
    calls.push(["sync"])
    syncs += 1
  })

  let old = "0"
  let current = "0"
  const open = () => {
    Wire.last.readyState = 1
    Wire.last.onopen()
  }
  const joinSent = () => {
    const joins = Wire.last.sent.map((text) => JSON.parse(text)).map((message) =>
      Array.isArray(message)
        ? { event: message[3], ref: message[1] }
        : { event: message.event, ref: message.ref })
    Wire.last.sent = []
    const join = joins.find(({ event }) => event === "phx_join")
    if (join) {
      [old, current] = [current, join.ref]
      if (forget) presence.pendingDiffs = []
    }
    return join !== undefined
  }
  const say = (join_ref, ref, event, payload) => {
    const message = v1
      ? { topic: TOPIC, event, payload, ref }
      : [join_ref, ref, TOPIC, event, payload]
    Wire.last.onmessage({ data: JSON.stringify(message) })
  }
  socket.connect()
  open()
  channel.join()
  pass(joinSent)

  let before = []
  return steps.map(([what, ref, payload]) => {
    calls = []
    syncs = 0
    switch (what) {
      case "state":
      case "diff":
        say(ref && { old, current }[ref], null, `presence_${what}`, payload)
        break
      case "ok":
        say(current, current, "phx_reply", { status: "ok", response: {} })
        break
      case "crash":
        say(current, current, "phx_error", {})
        pass(joinSent)
        break
      case "cut": {
        const cut = Wire.last
        cut.readyState = 3
        cut.onclose({ code: 1006, reason: "" })
        pass(() => Wire.last !== cut)
        open()
        pass(joinSent)
        // Nothing of an older join comes on a new connection.
        old = "0"
      }
    }
    const after = members(presence)
    const shown = fold(before, after, what === "state" && syncs > 0)
    before = after
    return { members: parsed(after), fold: shown }
  })
}

for await (const history of lines()) say(run(history))
