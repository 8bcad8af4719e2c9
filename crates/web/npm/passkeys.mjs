// Drives passkeys through the website with an authenticator of the browser's DevTools: one is added, lets in, confirms, is
// renamed and removed.
//
//   node crates/web/npm/passkeys.mjs [--demo PROGRAM]
import assert from "node:assert/strict";
import puppeteer from "puppeteer-core";
import { BROWSER, demo } from "./demo.mjs";

const { said, end } = await demo();
const browser = await puppeteer.launch(BROWSER);
const page = await browser.newPage();
const at = (path) => new URL(path, said.site).href;
const text = () => page.$eval("main", (main) => main.innerText);

/** Presses what the selector means and waits for the page that follows. */
async function press(selector) {
  await Promise.all([page.waitForNavigation({ timeout: 10_000 }), page.click(selector)]);
}

try {
  const devtools = await page.createCDPSession();
  await devtools.send("WebAuthn.enable");
  const { authenticatorId } = await devtools.send("WebAuthn.addVirtualAuthenticator", {
    options: {
      protocol: "ctap2",
      transport: "internal",
      hasResidentKey: true,
      hasUserVerification: true,
      isUserVerified: true,
      automaticPresenceSimulation: true,
    },
  });

  await page.goto(at("/log-in"));
  await page.type("#name", "alice");
  await page.type("#password", said.password);
  await press('form[action="/log-in"] button');

  await page.goto(at("/account"));
  await page.$eval("#label", (field) => { field.value = "this test"; });
  await press('form[action="/account/passkeys"] button');
  assert.equal(new URL(page.url()).pathname, "/account");
  assert.match(await text(), /this test/);
  const { credentials } = await devtools.send("WebAuthn.getCredentials", { authenticatorId });
  assert.equal(credentials.length, 1);
  assert.equal(credentials[0].rpId, "localhost");

  // The same device a second time is refused by the browser, in words.
  await page.click('form[action="/account/passkeys"] button');
  await page.waitForFunction(() => document.querySelector("[data-passkey-said]").textContent.length > 0);
  assert.match(await text(), /has a passkey for your account already/);

  await page.goto(at("/account/confirm?to=/account/tokens"));
  await press('form[action="/account/confirm/passkey"] button');
  assert.equal(new URL(page.url()).pathname, "/account/tokens");

  await press(".who button");
  await page.goto(at("/log-in?to=/account/sessions"));
  // Where the browser offers passkeys by itself, this authenticator takes the offer.
  const byItself = await page.waitForNavigation({ timeout: 3000 }).then(() => true, () => false);
  if (!byItself) await press('form[action="/log-in/passkey"] button');
  assert.equal(new URL(page.url()).pathname, "/account/sessions");
  assert.match(await text(), /by passkey/);
  console.log(byItself ? "logged in as the browser offered it" : "logged in by the button");

  await page.goto(at("/account"));
  await press("#passkeys ~ table a");
  await page.$eval("#label", (field) => { field.value = "renamed"; });
  await press('form[action$="/rename"] button');
  assert.match(await text(), /renamed/);
  await press("#passkeys ~ table a");
  await press('form[action$="/remove"] button');
  assert.doesNotMatch(await text(), /renamed/);

  await press(".who button");
  const refused = page.waitForResponse((answer) => answer.request().method() === "POST", { timeout: 10_000 });
  await page.goto(at("/log-in"));
  if (!byItself) await page.click('form[action="/log-in/passkey"] button');
  assert.equal((await refused).status(), 401);
  console.log("passkeys work in this browser");
} finally {
  await browser.close();
  end();
}
