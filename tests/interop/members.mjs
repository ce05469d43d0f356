// What a Presence of the npm package `phoenix` shows, and how it changed.

// An entry as text, because the library goes on changing the objects that it shows. What stands
// beside the metas is shown apart.
function shown(entry) {
  if (entry === undefined) return "null"
  const { metas, ...extra } = entry
  return JSON.stringify(Object.keys(extra).length === 0 ? { metas } : { metas, extra })
}

// The callbacks from now on, with what they are passed.
export function note(presence) {
  const calls = []
  const member = (name) => (key, current, entry) =>
    calls.push([name, key, JSON.parse(shown(current)), JSON.parse(shown(entry))])
  presence.onJoin(member("join"))
  presence.onLeave(member("leave"))
  presence.onSync(() => calls.push(["sync"]))
  return calls
}

// The members in the library's order.
export const members = (presence) => presence.list((key, entry) => [key, shown(entry)])

export const parsed = (entries) => entries.map(([key, entry]) => [key, JSON.parse(entry)])

const byCodePoint = ([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b))

// Who came, changed and went, in the order of the keys; null when nobody did and no snapshot was
// taken.
export function fold(before, after, synced) {
  const [old, now] = [new Map(before), new Map(after)]
  const joined = after.filter(([key]) => !old.has(key))
  const updated = after.filter(([key, entry]) => old.has(key) && old.get(key) !== entry)
  const left = before.filter(([key]) => !now.has(key))
  if (!synced && joined.length + updated.length + left.length === 0) return null
  const sorted = (entries) => parsed(entries.sort(byCodePoint))
  return { joined: sorted(joined), updated: sorted(updated), left: sorted(left), synced }
}
