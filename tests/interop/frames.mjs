// The serializers of the npm packages `phoenix` and `@supabase/realtime-js`, version 2.0.0.
//
// In: {"library", "encode": message}, answered by {"text"}, {"hex"} or {"throws"}; or {"library",
// "decode": {"text"} | {"hex"}}, answered by the message. Bytes in a payload are {"hex"}.
import { createRequire } from "node:module"
import { Serializer as Phoenix } from "phoenix"
import { lines, say } from "./lines.mjs"

const require = createRequire(import.meta.url)
const Supabase = require("@supabase/realtime-js/dist/main/lib/serializer.js").default

const libraries = { phoenix: Phoenix, "realtime-js": new Supabase() }

const bytes = (hex) => Uint8Array.from(Buffer.from(hex, "hex")).buffer
const meant = (_key, value) => (typeof value?.hex === "string" ? bytes(value.hex) : value)
const shown = (_key, value) =>
  value instanceof ArrayBuffer ? { hex: Buffer.from(value).toString("hex") } : value

for await (const { library, encode, decode } of lines()) {
  const serializer = libraries[library]
  try {
    if (encode) {
      const message = JSON.parse(JSON.stringify(encode), meant)
      serializer.encode(message, (frame) =>
        say(typeof frame === "string" ? { text: frame } : shown("", frame)))
    } else {
      const frame = decode.hex === undefined ? decode.text : bytes(decode.hex)
      serializer.decode(frame, (message) => say(JSON.parse(JSON.stringify(message, shown))))
    }
  } catch (error) {
    say({ throws: error.message })
  }
}
