// Copies what the website takes from npm into ../assets/vendor, with the licences. With --check it changes nothing and
// fails where a file is not what the lock file gives.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const vendor = join(here, "..", "assets", "vendor");

/** Files of packages, and what they are called here. */
const FILES = [
  ["htmx.org/dist/htmx.min.js", "htmx.js"],
  ["htmx.org/dist/ext/hx-sse.min.js", "hx-sse.js"],
  ["htmx.org/LICENSE", "htmx.LICENSE"],
  ["@xterm/xterm/lib/xterm.js", "xterm.js"],
  ["@xterm/xterm/css/xterm.css", "xterm.css"],
  ["@xterm/xterm/LICENSE", "xterm.LICENSE"],
  ["@xterm/addon-fit/lib/addon-fit.js", "xterm-fit.js"],
  ["@xterm/addon-web-links/lib/addon-web-links.js", "xterm-web-links.js"],
];

/** The maps are not served, so their names would only lead to missing pages. */
function built(source) {
  return readFileSync(join(here, "node_modules", source), "utf8").replace(/\n?\/\/# sourceMappingURL=\S+\s*$/, "\n");
}

function kept(name) {
  try {
    return readFileSync(join(vendor, name), "utf8");
  } catch {
    return undefined;
  }
}

mkdirSync(vendor, { recursive: true });
let differ = 0;
for (const [source, name] of FILES) {
  const text = built(source);
  if (kept(name) === text) continue;
  if (process.argv.includes("--check")) {
    console.error(`assets/vendor/${name} is not what npm gives. Run: npm ci && npm run build`);
    differ += 1;
  } else {
    writeFileSync(join(vendor, name), text);
    console.log(`assets/vendor/${name}`);
  }
}
process.exitCode = differ ? 1 : 0;
