// A recorded channel, told to the Channel and the Presence of the npm package `phoenix`. The socket
// is a pretence that gives the refs of the recording.
//
// In: [["phx_join", ref] | [event, join_ref, payload], …]. Out: for each the callbacks, and who came,
// changed and went, which is null when nothing was to be told; and the members in the end.
import { Channel, Presence } from "phoenix"
import { lines, say } from "./lines.mjs"
import { fold, members, note, parsed } from "./members.mjs"

const TOPIC = "recorded"

// Nothing times out: the recording says what happened next.
globalThis.setTimeout = () => 0

function run(messages) {
  let ref = "0"
  const socket = {
    timeout: 0,
    makeRef: () => ref,
    isConnected: () => true,
    hasLogger: () => false,
    onError() {},
    onOpen() {},
    push() {},
    remove() {},
    leaveOpenTopic() {},
    rejoinAfterMs: () => 0,
  }
  const channel = new Channel(TOPIC, {}, socket)
  const presence = new Presence(channel)
  const calls = note(presence)
  let before = []
  const steps = messages.map(([event, join_ref, payload]) => {
    if (event === "phx_join") {
      ref = join_ref
      channel.rejoin()
    } else if (channel.isMember(TOPIC, event, payload, join_ref)) {
      channel.trigger(event, payload, null, join_ref)
    }
    const [told, after] = [calls.splice(0), members(presence)]
    const change = fold(before, after, event === "presence_state" && told.length > 0)
    before = after
    return { calls: told, fold: change }
  })
  return { steps, members: parsed(before) }
}

for await (const messages of lines()) say(run(messages))
