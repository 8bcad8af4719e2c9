// Looks at every page in a browser, at two widths and in both colour schemes: takes pictures, and has axe-core find what
// keeps people out. Fails on a serious finding, an error of a script, or something that the policy kept from loading.
//
//   node crates/web/npm/look.mjs [--demo PROGRAM] [--pictures DIR] [--only NAME] [--quick]
//
// --quick looks at each page in two of the four views. CHROMIUM names the browser.
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import puppeteer from "puppeteer-core";
import { BROWSER, demo, option } from "./demo.mjs";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const pictures = option("pictures");
const only = option("only") ?? "";

async function logIn(page, base, name, password) {
  await page.goto(`${base}/log-in`);
  await page.type("#name", name);
  await page.type("#password", password);
  await Promise.all([page.waitForNavigation(), page.click('form[action="/log-in"] button')]);
}

/** Sends a form of a page with these fields and waits for the answer. */
async function send(page, selector, fields) {
  await page.$eval(selector, (form, fields) => {
    for (const [name, value] of Object.entries(fields)) form.querySelector(`[name="${name}"]`).value = value;
  }, fields);
  await Promise.all([page.waitForNavigation(), page.$eval(selector, (form) => form.requestSubmit())]);
}

/** Gives this person's browser a passkey, and goes to its page. */
async function addPasskey(page) {
  const devtools = await page.createCDPSession();
  await devtools.send("WebAuthn.enable");
  const kind = { protocol: "ctap2", transport: "internal", hasResidentKey: true, hasUserVerification: true };
  const options = { ...kind, isUserVerified: true, automaticPresenceSimulation: true };
  await devtools.send("WebAuthn.addVirtualAuthenticator", { options });
  await Promise.all([page.waitForNavigation(), page.click('form[action="/account/passkeys"] button')]);
  await Promise.all([page.waitForNavigation(), page.click("#passkeys ~ table a")]);
}

/** The link of the terminal that was shared last, and who else has a page open. */
let link;
const others = [];

/** Shares the terminal of this page, and has bob watch it where he is to. */
async function share(page, right, watch) {
  await page.waitForSelector("#share:not(:disabled)");
  await page.click("#share");
  await page.select("#right", right);
  await page.click("#begin");
  await page.waitForSelector(".is-shared");
  link = await page.$eval("#link", (code) => code.textContent);
  if (!watch) {
    // The terminal stays shared while its owner looks at other pages.
    const stays = await page.browserContext().newPage();
    others.push(stays);
    await stays.goto(page.url());
    await page.bringToFront();
    return;
  }
  const his = await people.get("bob").browserContext().newPage();
  others.push(his);
  await his.goto(link);
  await watch(his);
  await his.keyboard.type("hello");
  await page.bringToFront();
  await page.waitForFunction(() => document.getElementById("audience").textContent.includes("types"));
}

/** Watches by the link whose page is open. */
async function watchIt(page) {
  await page.click("#watch");
  await page.waitForFunction(() => document.getElementById("status").textContent === "");
}

const PRIVATE = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END OPENSSH PRIVATE KEY-----\n";

/** Every page: its name, who looks, where it is, and what is done there first. */
const PAGES = (said) => [
  ["out", null, "/"],
  ["log-in", null, "/log-in?to=/account/keys"],
  ["log-in-wrong", null, "/log-in", (page) => send(page, 'form[action="/log-in"]', { name: "alice", password: "nonsense" })],
  ["missing-out", null, "/nothing"],
  ["link", null, said["log in"]],
  ["link-gone", null, "/link/0000000000000000000000000000000000000000000"],
  ["reset", null, said.reset],
  ["invitation", null, said.invitation],
  ["invitation-wrong", null, said.invitation, (page) => send(page, "main form", { name: "Root!", password: "short" })],
  ["environments", "alice", "/"],
  ["environments-no-key", "bob", "/"],
  ["environments-empty", "carol", "/"],
  ["vm", "alice", "/vms/vm-0"],
  ["vm-off", "alice", "/vms/vm-2"],
  ["vm-stuck", "alice", "/vms/vm-3"],
  ["vm-boot", "alice", "/vms/vm-3/boot"],
  ["vm-label-wrong", "alice", "/vms/vm-0", (page) => send(page, 'form[action$="/label"]', { label: "x".repeat(41) })],
  ["vm-dialog", "alice", "/vms/vm-0", (page) => page.click("[data-dialog=remove]")],
  ["vm-dialog-rebuild", "alice", "/vms/vm-0", (page) => page.click("[data-dialog=rebuild]")],
  ["vm-dialog-erase", "alice", "/vms/vm-0", (page) => page.click("[data-dialog=erase]")],
  ["vm-rebuild", "alice", "/vms/vm-0/rebuild"],
  ["vm-erase-wrong", "alice", "/vms/vm-0/erase", (page) => send(page, "main form", { name: "vm-1" })],
  ["vm-resize-wrong", "alice", "/vms/vm-0/resize", (page) => send(page, "main form", { size: "2" })],
  ["vm-people-wrong", "alice", "/vms/vm-0", (page) => send(page, "#people form.form", { account: "nobody-here" })],
  ["vm-port-wrong", "alice", "/vms/vm-0", (page) => send(page, "#ports form.form", { port: "22" })],
  ["vm-remove", "alice", "/vms/vm-0/remove"],
  ["terminal", "alice", "/vms/vm-0/terminal"],
  ["terminal-shared", "alice", "/vms/vm-0/terminal?n=3", (page) => share(page, "read")],
  ["watch", "bob", () => link],
  ["watch-now", "bob", () => link, watchIt],
  ["terminal-watched", "alice", "/vms/vm-0/terminal?n=1", (page) => share(page, "type", watchIt)],
  ["watch-gone", "bob", "/watch/0000000000000000000000000000000000000000000"],
  ["vm-until-wrong", "alice", "/vms/vm-0", (page) => send(page, 'form[action$="/snooze"].with-button', { until: "2020-01-01T00:00" })],
  ["account", "alice", "/account"],
  ["account-oidc-wrong", "alice", "/account", (page) => send(page, 'form[action="/account/oidc"]', {})],
  ["passkey", "alice", "/account", addPasskey],
  ["account-passkey", "alice", "/account"],
  ["confirm", "alice", "/account/confirm?to=/account/tokens"],
  ["confirm-wrong", "alice", "/account/confirm", (page) => send(page, 'form[action="/account/confirm"]', { old: "nonsense" })],
  ["team", "bob", "/team"],
  ["team-nobody", "bob", "/team?q=zebra"],
  ["keys", "alice", "/account/keys"],
  ["keys-empty", "carol", "/account/keys"],
  ["keys-bad", "carol", "/account/keys", (page) => send(page, "#add form", { key: "ssh-ed25519 AAAAC3Nz cut" })],
  ["keys-private", "carol", "/account/keys", (page) => send(page, "#add form", { key: PRIVATE })],
  ["key-rename", "alice", "/account/keys", (page) => Promise.all([page.waitForNavigation(), page.click("#keys a[href$=rename]")])],
  ["sessions", "alice", "/account/sessions"],
  ["tokens", "alice", "/account/tokens"],
  ["tokens-made", "alice", "/account/tokens", (page) => send(page, "main form.form", { name: "backup" })],
  ["tokens-wrong", "alice", "/account/tokens", (page) => send(page, "main form.form", { name: "" })],
  ["activity", "alice", "/account/activity"],
  ["help", "alice", "/help"],
  ["api", "alice", "/api"],
  ["missing", "alice", "/vms/vm-99"],
  ["ops", "alice", "/ops"],
  ["ops-invited", "alice", "/ops", (page) => send(page, "main form.form", { note: "erin@example.com" })],
  ["ops-account", "alice", "/ops/accounts/bob"],
  ["ops-account-wrong", "alice", "/ops/accounts/bob", (page) => send(page, "form.limits", { vms: "many" })],
  ["ops-vms", "alice", "/ops/vms"],
  ["ops-vms-none", "alice", "/ops/vms?state=removing"],
  ["ops-team", "alice", "/ops/team"],
  ["ops-team-wrong", "alice", "/ops/team", (page) => send(page, '[action="/ops/team/cas"]', { key: "ssh-ed25519 AAAA" })],
  ["ops-connections", "alice", "/ops/connections"],
  ["ops-recordings", "alice", "/ops/recordings"],
  ["ops-recordings-none", "alice", "/ops/recordings?q=nobody"],
  ["ops-health", "alice", "/ops/health"],
  ["ops-audit", "alice", "/ops/audit"],
  ["site-missing", null, site(said, "www.kd.io")],
  ["site-off", null, site(said, "vm-2.alice.kd.io")],
  ["site-nothing-listens", null, site(said, "vm-0.alice.kd.io")],
];

/** The address of a host of a VM, which the browser finds on this machine. */
function site(said, host) {
  return Object.assign(new URL(said.site), { hostname: host }).href;
}

const ALL_VIEWS = [
  ["1280-light", 1280, 800, "light"],
  ["390-dark", 390, 844, "dark"],
  ["1280-dark", 1280, 800, "dark"],
  ["390-light", 390, 844, "light"],
];
const VIEWS = process.argv.includes("--quick") ? ALL_VIEWS.slice(0, 2) : ALL_VIEWS;

const findings = [];
const people = new Map();

/** An error of the server is an answer like any other; only what the page itself does wrong is told. */
function listen(page, name) {
  page.on("pageerror", (error) => findings.push(`${name}: ${error.message}`));
  page.on("console", (message) => {
    const expected = /status of (4\d\d|50[23])/.test(message.text());
    if (message.type() === "error" && !expected) findings.push(`${name}: ${message.text()}`);
  });
}

async function look(page, [name, , path, act], base) {
  await page.bringToFront();
  const asked = typeof path === "function" ? path() : path;
  await page.goto(new URL(asked, base).href, { waitUntil: "load" });
  if (act) await act(page);
  await new Promise((resolve) => setTimeout(resolve, 150));
  for (const [view, width, height, scheme] of VIEWS) {
    await page.setViewport({ width, height });
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
    if (pictures) {
      await page.screenshot({ path: join(pictures, `${name}-${view}.png`), fullPage: !name.includes("dialog") });
    }
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    if (wide > 0) findings.push(`${name} ${view}: ${wide} px wider than the window`);
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
    for (const { id, impact, help, nodes } of violations) {
      findings.push(`${name} ${view}: ${impact} ${id}: ${help}: ${nodes.map((node) => node.html.slice(0, 160)).join(" | ")}`);
    }
  }
}

const { said, end } = await demo();
if (pictures) mkdirSync(pictures, { recursive: true });
const browser = await puppeteer.launch(BROWSER);
for (const entry of PAGES(said)) {
  const [name, who] = entry;
  if (!name.startsWith(only)) continue;
  if (!people.has(who)) {
    const context = await browser.createBrowserContext();
    const page = await context.newPage();
    listen(page, who ?? "nobody");
    if (who) await logIn(page, said.site, who, said.password);
    people.set(who, page);
  }
  await look(people.get(who), entry, said.site);
}
await browser.close();
end();
for (const finding of findings) console.log(finding);
console.log(findings.length ? `${findings.length} findings` : "nothing found");
process.exit(findings.length ? 1 : 0);
