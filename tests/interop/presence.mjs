// The Presence of the npm package `phoenix`, on its own Socket and Channel. The connection is a
// pretence, and time passes only while a join is awaited.
//
// In: {"vsn", "forget", "steps": [[what, …], …]}, where a step is one of
//   ["state" | "diff", "current" | "old" | null, payload]   a message, and the join that it names
//   ["ok"] ["crash"] ["rejoin"] ["cut"]
// Out: for each step the callbacks, the members, who came, changed and went, which is null when
// nothing was to be told, and what was thrown. With "forget" the diffs that are held for a snapshot are
// dropped when the channel joins again and when the join is accepted, which the library does not do
// by itself.
//
// In: {"op", "state", "input"}. Out: what the function of that name makes of it, and what the npm
// package `@supabase/realtime-js` makes of that.
import { createRequire } from "node:module"
import { Presence, Socket } from "phoenix"
import { lines, say } from "./lines.mjs"
import { fold, members, note, parsed } from "./members.mjs"

const require = createRequire(import.meta.url)
const Adapter = require("@supabase/realtime-js/dist/main/phoenix/presenceAdapter.js").default

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

class Peer {
  // The refs of the join and of the one before it on the same connection.
  current = "0"
  old = "0"

  constructor(vsn) {
    this.v1 = vsn === "1.0.0" && {
      encode: (message, done) => done(JSON.stringify(message)),
      decode: (text, done) => done(JSON.parse(text)),
    }
    const retries = { reconnectAfterMs: () => 0, rejoinAfterMs: () => 0 }
    const options = { vsn, transport: Wire, ...retries, ...this.v1 }
    const socket = new Socket("ws://scripted.test/socket", options)
    const channel = socket.channel(TOPIC)
    this.presence = new Presence(channel)
    socket.connect()
    this.accept()
    channel.join()
    this.awaitJoin()
  }

  accept() {
    Wire.last.readyState = 1
    Wire.last.onopen()
  }

  awaitJoin() {
    pass(() => {
      const sent = Wire.last.sent.map((text) => JSON.parse(text))
      const joins = sent.map((message) => (this.v1 ? message : { ref: message[1], event: message[3] }))
      const join = joins.find(({ event }) => event === "phx_join")
      if (!join) return false
      Wire.last.sent = []
      this.old = this.current
      this.current = join.ref
      return true
    })
  }

  tell(join_ref, ref, event, payload) {
    const message = this.v1
      ? { topic: TOPIC, event, payload, ref }
      : [join_ref, ref, TOPIC, event, payload]
    Wire.last.onmessage({ data: JSON.stringify(message) })
  }

  step([what, join_ref, payload]) {
    switch (what) {
      case "state":
      case "diff":
        return this.tell(join_ref && this[join_ref], null, `presence_${what}`, payload)
      case "ok":
        return this.tell(this.current, this.current, "phx_reply", { status: "ok", response: {} })
      case "crash":
        return this.tell(this.current, this.current, "phx_error", {})
      case "rejoin":
        return this.awaitJoin()
      case "cut": {
        const cut = Wire.last
        cut.readyState = 3
        cut.onclose({ code: 1006, reason: "" })
        pass(() => Wire.last !== cut)
        this.accept()
        this.awaitJoin()
        // Nothing of an older join comes on a new connection.
        this.old = "0"
      }
    }
  }
}

function run({ vsn, forget, steps }) {
  timers.clear()
  const peer = new Peer(vsn)
  const calls = note(peer.presence)
  let before = []
  return steps.map((step) => {
    let thrown
    const { state } = peer.presence.channel
    try {
      peer.step(step)
    } catch (error) {
      thrown = error.message
    }
    const [what] = step
    const accepted = what === "ok" && state === "joining"
    if (forget && (accepted || ["rejoin", "cut"].includes(what))) peer.presence.pendingDiffs = []
    const [told, after] = [calls.splice(0), members(peer.presence)]
    const change = fold(before, after, what === "state" && told.length > 0)
    before = after
    return { calls: told, members: parsed(after), fold: change, thrown }
  })
}

function vector({ op, state, input }) {
  const [calls, events] = [[], []]
  const copy = (entry) => JSON.parse(JSON.stringify(entry ?? null))
  const note = (cb) => (key, current, arg) => {
    calls.push({ cb, key, current: copy(current), arg: copy(arg) })
    events.push(Adapter[`${cb}Payload`](key, current, arg))
  }
  const result = Presence[op](state, input, note("onJoin"), note("onLeave"))
  return { result, calls, events, state: Adapter.transformState(result) }
}

for await (const question of lines()) say(question.op ? vector(question) : run(question))
