// A recorded channel, told to the Channel and the Presence of the npm package `phoenix`. The socket
// is a pretence that gives the refs of the recording.
//
// In: [["phx_join", ref] | [event, join_ref, payload], …]. Out: for each the callbacks' fold, which
// is null when nothing was to be told, and the members in the end.
import { Channel, Presence } from "phoenix"
import { lines, say } from "./lines.mjs"
import { fold, members, parsed } from "./members.mjs"

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
  let syncs = 0
  presence.onSync(() => (syncs += 1))
  let before = []
  const folds = messages.map(([event, join_ref, payload]) => {
    syncs = 0
    if (event === "phx_join") {
      ref = join_ref
      channel.rejoin()
      return null
    }
    if (channel.isMember(TOPIC, event, payload, join_ref)) {
      channel.trigger(event, payload, null, join_ref)
    }
    const after = members(presence)
    const shown = fold(before, after, event === "presence_state" && syncs > 0)
    before = after
    return shown
  })
  return { folds, members: parsed(before) }
}

for await (const messages of lines()) say(run(messages))
