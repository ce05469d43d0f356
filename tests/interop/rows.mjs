// Filters and columns of the npm package `@supabase/realtime-js`.
//
// In: {"filter": [[column, operator, value, negated], …]}, answered by the text or {"throws"}; or
// {"columns", "record"}, answered by the converted record, in which {"double"} is a number that JSON
// does not have.
import { createRequire } from "node:module"
import { postgresChangesFilter } from "@supabase/realtime-js"
import { lines, say } from "./lines.mjs"

const require = createRequire(import.meta.url)
const { convertChangeData } = require("@supabase/realtime-js/dist/main/lib/transformers.js")

const verbs = { isdistinct: "isDistinct" }

function build(conditions) {
  const filter = postgresChangesFilter()
  for (const [column, operator, value, negated] of conditions) {
    if (negated) filter.not(column, operator, value)
    else filter[verbs[operator] ?? operator](column, value)
  }
  return filter.build()
}

const double = (_key, value) =>
  typeof value === "number" && !Number.isFinite(value) ? { double: String(value) } : value
const shown = (value) => JSON.parse(JSON.stringify(value, double))

for await (const { filter, columns, record } of lines()) {
  try {
    say(filter ? build(filter) : shown(convertChangeData(columns, record)))
  } catch (error) {
    say({ throws: error.message })
  }
}
