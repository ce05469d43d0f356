// Questions come in and answers go out, one JSON value a line.

// Node's readline would also end a line at U+2028, which JSON leaves as it is.
export async function* lines() {
  let rest = ""
  process.stdin.setEncoding("utf8")
  for await (const chunk of process.stdin) {
    const whole = (rest + chunk).split("\n")
    rest = whole.pop()
    for (const line of whole) yield JSON.parse(line)
  }
}

export function say(value) {
  process.stdout.write(JSON.stringify(value) + "\n")
}
