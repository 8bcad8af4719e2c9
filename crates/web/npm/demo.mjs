// Starts the demo, cargo's example of this crate, and reads from it what to open.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

/** The value of an option of this program, or undefined. */
export function option(name) {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? undefined : process.argv[at + 1];
}

/** What the demo says, by name, and how to end it. `--demo` is its program; without it, cargo runs it. */
export async function demo() {
  const program = option("demo");
  const [command, words] = program
    ? [program, ["127.0.0.1:0"]]
    : ["cargo", ["run", "-q", "-p", "berth-web", "--example", "demo", "--", "127.0.0.1:0"]];
  const running = spawn(command, words, { stdio: ["ignore", "pipe", "inherit"] });
  process.on("exit", () => running.kill());
  const said = {};
  for await (const line of createInterface({ input: running.stdout })) {
    const [, name, value] = line.match(/^([a-z ]+): (.+)$/) ?? [];
    if (name) said[name] = value;
    if (name === "password") break;
  }
  if (!said.password) throw new Error("the demo did not start");
  return { said, end: () => running.kill() };
}

export const BROWSER = {
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--host-resolver-rules=MAP * 127.0.0.1"],
};
