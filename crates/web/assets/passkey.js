// Forms with data-passkey ask the browser for a passkey before they are sent: "create" makes one, "get" uses one.
// data-options is where the server says what to ask for. Without passkeys in this browser, such forms stay hidden.

const ASK_ANEW = 4 * 60 * 1000; // what the server asks is good for five minutes
const known = window.PublicKeyCredential?.parseRequestOptionsFromJSON !== undefined;

/** Something that a person is told as it stands. */
class Said extends Error {}

async function asked(form, signal) {
  const answer = await fetch(form.dataset.options, { headers: { accept: "application/json" }, signal });
  const body = await answer.json();
  if (!answer.ok) throw new Said(`${body.error.what} ${body.error.next}`);
  return body;
}

async function credential(form, signal, mediation) {
  const options = await asked(form, signal);
  if (form.dataset.passkey === "create") {
    const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(options);
    return navigator.credentials.create({ publicKey, signal });
  }
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(options);
  return navigator.credentials.get({ publicKey, signal, mediation });
}

function send(form, made) {
  form.elements.credential.value = JSON.stringify(made.toJSON());
  form.submit();
}

function words(error) {
  if (error instanceof Said) return error.message;
  if (error.name === "InvalidStateError") return "This device has a passkey for your account already.";
  if (error.name === "NotAllowedError") return "No passkey was used. Try again when you are ready.";
  return "That did not work in this browser. Try again, or use another way.";
}

/** Browsers that can offer passkeys in the field of the name do so while the page is open. */
async function offer(form) {
  if (!(await PublicKeyCredential.isConditionalMediationAvailable?.())) return () => {};
  let controller;
  const ask = () => {
    controller?.abort();
    controller = new AbortController();
    credential(form, controller.signal, "conditional").then((made) => made && send(form, made), () => {});
  };
  ask();
  const timer = setInterval(ask, ASK_ANEW);
  return () => {
    clearInterval(timer);
    controller.abort();
  };
}

function prepare(form) {
  form.hidden = false;
  const said = form.querySelector("[data-passkey-said]");
  const offered = form.hasAttribute("data-conditional") ? offer(form) : Promise.resolve(() => {});
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    said.textContent = "";
    (await offered)();
    try {
      send(form, await credential(form));
    } catch (error) {
      said.textContent = words(error);
    }
  });
}

if (known) {
  for (const form of document.querySelectorAll("form[data-passkey]")) prepare(form);
  for (const without of document.querySelectorAll("[data-no-passkey]")) without.hidden = true;
}
