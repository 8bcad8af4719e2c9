// The whole tutorial in a browser, as somebody new lives it, against a real server and real VMs: invitation, key, ssh,
// off and on, terminal, hello page, asleep once the last tab is closed, awake again by the page.
//
// Started by berth's end-to-end tests, in a home whose ssh has the tutorial's config. Takes from the environment BERTH
// (the program), BERTH_CONFIG (its configuration), KNOWN_HOSTS (the server's file) and SITE (the website's address).
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { copyFileSync, readFileSync } from "node:fs";
import { promisify } from "node:util";
import { chromium } from "playwright-core";
import { BROWSER } from "./demo.mjs";

const { BERTH, KNOWN_HOSTS, SITE, HOME } = process.env;
const HOST = "vm-0.carol.koding.kd.io";
/** Boots are slow where everything is emulated. */
const PATIENCE = 120_000;

const run = async (program, ...words) => (await promisify(execFile)(program, words, { timeout: PATIENCE })).stdout;
const admin = async (...words) => JSON.parse(await run(BERTH, "admin", ...words, "--json"));
const status = async () => (await admin("vm", "list", "carol")).vms[0].status;

async function until(wanted) {
  const end = Date.now() + PATIENCE;
  while ((await status()) !== wanted) {
    assert(Date.now() < end, `it is ${await status()} and not ${wanted}`);
    await new Promise((done) => setTimeout(done, 300));
  }
}

const step = (words) => console.log(words);

const { link } = await admin("account", "invite", "--note", "Carol");
const browser = await chromium.launch(BROWSER);
try {
  const context = await browser.newContext();
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();

  step("an account from the invitation");
  await page.goto(link);
  await page.getByLabel("Name of your account").fill("carol");
  await page.getByLabel("Password").fill("a green boat on a hill");
  await page.getByRole("button", { name: "Make my account" }).click();
  await page.getByRole("heading", { name: "SSH keys" }).waitFor();

  step("a log-in by hand, too");
  await page.getByRole("button", { name: "Log out" }).click();
  await page.goto(`${SITE}/log-in`);
  await page.locator("#name").fill("carol");
  await page.getByLabel("Password").fill("a green boat on a hill");
  await page.getByRole("button", { name: "Log in", exact: true }).click();
  await page.getByRole("heading", { name: "Your environments" }).waitFor();

  step("a VM");
  if (await page.getByRole("button", { name: "Make a VM" }).count()) {
    await page.getByRole("button", { name: "Make a VM" }).click();
  }
  await page.locator("#switch-vm-0").waitFor();

  step("a key, pasted with line breaks");
  await page.goto(`${SITE}/account/keys`);
  const key = readFileSync(`${HOME}/.ssh/id_ed25519.pub`, "utf8").trim();
  await page.getByLabel("Public key").fill(key.replace(/(.{30})/g, "$1\r\n"));
  await page.locator("#label").fill("laptop");
  await page.getByRole("button", { name: "Add", exact: true }).click();
  await page.getByText("for the first connection with laptop").waitFor();

  step("ssh");
  // As the ssh_config that `make up` prints has it: the server keeps it in step.
  copyFileSync(KNOWN_HOSTS, `${HOME}/.ssh/known_hosts`);
  assert.equal(await run("ssh", "-o", "BatchMode=yes", HOST, "whoami; pwd"), "carol\n/home/carol\n");
  await page.getByText("It works").waitFor();

  step("off and on");
  await page.goto(SITE);
  const toggle = page.getByRole("switch");
  const state = page.locator("#vm-vm-0 [aria-live]");
  await state.getByText("running").waitFor();
  await toggle.click();
  await state.getByText("off", { exact: true }).waitFor();
  assert.equal(await status(), "off");
  await toggle.click();
  await state.getByText("running").waitFor();

  step("a terminal");
  await page.goto(`${SITE}/vms/vm-0/terminal`);
  const screen = page.locator(".xterm-rows");
  await screen.getByText("carol@vm-0:~$").first().waitFor();
  await page.locator(".xterm-helper-textarea").focus();
  await page.keyboard.type("echo it is $((6 * 7)) §\n");
  await screen.getByText("it is 42 §").waitFor();
  await page.reload();
  await screen.getByText("it is 42 §").waitFor();

  step("the VM's own website");
  await page.goto("http://vm-0.carol.kd.io/");
  await page.getByText("vm-0").first().waitFor();
  assert.match(await page.content(), /Web/);

  step("the last tab is closed");
  await page.close();
  await until("asleep");

  step("awake again by the page");
  const again = await context.newPage();
  await again.goto(SITE);
  await again.getByRole("button", { name: "Wake now" }).click();
  await again.locator("#vm-vm-0 [aria-live]").getByText("running").waitFor();
  assert.equal(await status(), "running");
  console.log("done");
} catch (error) {
  for (const page of browser.contexts().flatMap((context) => context.pages())) {
    console.log(page.url(), await page.locator("body").innerText().catch(() => ""));
  }
  throw error;
} finally {
  await browser.close();
}
