// The page: log in, then compose, jobs and gallery.

import { call, Refused } from "./api.js";
import { prepare, reuse } from "./compose.js";
import { $ } from "./dom.js";
import { open, prepareViewer, refresh } from "./gallery.js";
import { watch } from "./jobs.js";

const handlers = { open, finished: (job) => job.result?.pictures?.length && refresh() };

async function enter() {
  let me;
  try {
    me = await call("GET", "/api/me");
  } catch (error) {
    if (!(error instanceof Refused && error.status === 401)) throw error;
    $("login").hidden = false;
    $("key").focus();
    return;
  }
  $("login").hidden = true;
  $("leave").hidden = false;
  $("who").textContent = `${me.name} · model ${me.model}`;
  prepareViewer(reuse);
  await prepare(me, (job) => watch(job, handlers));
  $("studio").hidden = false; // not before the form does something
  const { jobs } = await call("GET", "/api/jobs");
  const waiting = jobs.filter((job) => job.kind === "generate" && !job.ended);
  for (const job of waiting.reverse()) watch(job, handlers);
  await refresh();
}

$("login").onsubmit = async (event) => {
  event.preventDefault();
  $("login-error").textContent = "";
  try {
    await call("POST", "/api/session", { key: $("key").value });
    $("key").value = "";
    await enter();
  } catch (error) {
    $("login-error").textContent = error.message;
  }
};

$("leave").onclick = async () => {
  await call("DELETE", "/api/session");
  location.reload();
};

await enter();
