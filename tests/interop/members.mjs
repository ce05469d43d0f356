// What a Presence of the npm package `phoenix` shows, and how it changed.

const byCodePoint = ([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b))

// Text, because the library goes on changing the objects that it shows.
export const members = (presence) =>
  presence.list((key, entry) => [key, JSON.stringify(entry)]).sort(byCodePoint)

export const parsed = (entries) => entries.map(([key, entry]) => [key, JSON.parse(entry)])

// Who came, changed and went; null when nobody did and no snapshot was taken.
export function fold(before, after, synced) {
  const [old, now] = [new Map(before), new Map(after)]
  const joined = after.filter(([key]) => !old.has(key))
  const updated = after.filter(([key, entry]) => old.has(key) && old.get(key) !== entry)
  const left = before.filter(([key]) => !now.has(key))
  if (!synced && joined.length + updated.length + left.length === 0) return null
  return { joined: parsed(joined), updated: parsed(updated), left: parsed(left), synced }
}
