// What the pages do beyond forms and links: copy, dialogs, times in the visitor's zone, and the line that says that the
// page is not live. Everything works without it, less comfortably.
"use strict";

/** How long the page may be without its stream before it says so: a short break is nobody's business. */
const PATIENCE = 4000;

function select(node) {
  const range = document.createRange();
  range.selectNodeContents(node);
  const selection = window.getSelection();
  selection.removeAllRanges();
  selection.addRange(range);
}

async function copy(button) {
  const code = button.closest(".copy").querySelector("code");
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
  } catch {
    // Browsers keep the clipboard from pages without TLS; a selection is the next best thing.
    select(code);
    button.textContent = "Selected";
  }
  setTimeout(() => { button.textContent = before; }, 2000);
}

function openDialog(event, link) {
  const dialog = document.getElementById(link.dataset.dialog);
  if (!dialog) return;
  event.preventDefault();
  dialog.showModal();
}

document.addEventListener("click", (event) => {
  const target = event.target.closest("[data-copy], [data-dialog], [data-close]");
  if (!target) return;
  if (target.matches("[data-copy]")) copy(target);
  else if (target.matches("[data-dialog]")) openDialog(event, target);
  else if (target.closest("dialog")) {
    event.preventDefault();
    target.closest("dialog").close();
  }
});

// The button that removes wakes up when the name is typed; the server looks again.
document.addEventListener("input", (event) => {
  const wanted = event.target.dataset?.mustBe;
  if (wanted === undefined) return;
  const button = event.target.form.querySelector("[data-guarded]");
  button.disabled = event.target.value.trim() !== wanted;
});

/** Makes what the server sent fit this browser. Done again for whatever is put into the page later. */
function dress(root) {
  for (const button of root.querySelectorAll("[data-copy]")) button.hidden = false;
  for (const button of root.querySelectorAll("[data-guarded]")) button.disabled = true;
  for (const time of root.querySelectorAll("time[data-local]")) {
    time.textContent = new Date(time.dateTime).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
    time.removeAttribute("data-local");
  }
  for (const field of root.querySelectorAll("input[data-zone]")) {
    field.value = String(-new Date().getTimezoneOffset());
  }
  for (const words of root.querySelectorAll("[data-utc]")) words.hidden = true;
}

dress(document);
document.addEventListener("htmx:after:swap", () => dress(document));

const lost = document.getElementById("lost");
let waiting;

function streamIs(open) {
  if (open) {
    clearTimeout(waiting);
    waiting = undefined;
    lost.hidden = true;
  } else {
    waiting ??= setTimeout(() => { lost.hidden = false; }, PATIENCE);
  }
}

document.addEventListener("htmx:sse:after:connection", () => streamIs(true));
document.addEventListener("htmx:sse:error", () => streamIs(false));
document.addEventListener("htmx:sse:close", () => streamIs(false));
// The server says that the log-in has ended: the page shows things of nobody then.
document.addEventListener("berth:ended", () => location.reload());
