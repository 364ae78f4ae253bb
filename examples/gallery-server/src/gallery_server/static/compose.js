// The form on the left: prompt, settings, plugins.

import { call, once } from "./api.js";
import { $, make } from "./dom.js";
import { fileField, formOf } from "./forms.js";

const NUMBERS = ["seed", "steps", "count", "width", "height", "guidance_scale", "strength"];
const TEXTS = ["prompt", "negative_prompt", "scheduler"];
let plugins = [];
let image;

export async function prepare(me, started) {
  const [known, uploaded] = await Promise.all([call("GET", "/api/plugins"), call("GET", "/api/uploads")]);
  const context = { library: me.library, uploads: uploaded.uploads };
  $("steps").placeholder = me.defaults.steps ?? "";
  $("steps").max = me.limits.steps;
  $("count").max = me.limits.count;
  $("guidance_scale").placeholder = me.defaults.guidance_scale ?? "";
  const first = make("option", { value: "" }, me.defaults.scheduler ? `the model's (${me.defaults.scheduler})` : "the model's");
  $("scheduler").replaceChildren(first, ...me.schedulers.map((name) => make("option", {}, name)));
  image = fileField("Input picture", { id: "image" }, null, false, { ...context, library: [] });
  $("image-field").replaceChildren(image.element);
  plugins = known.plugins.map((plugin) => pluginOf(plugin, context));
  $("plugins").hidden = plugins.length === 0;
  $("plugins").replaceChildren($("plugins").firstElementChild, ...plugins.map((one) => one.element));
  $("policy").textContent = me.always.length ? `Always on, by this server's policy: ${me.always.join(", ")}.` : "";
  $("compose").onsubmit = async (event) => {
    event.preventDefault();
    $("compose-error").textContent = "";
    $("prompt").removeAttribute("aria-invalid");
    try {
      started(await once("/api/jobs", read()));
    } catch (error) {
      $("compose-error").textContent = error.message;
    }
  };
  $("prompt").onkeydown = (event) => {
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      $("compose").requestSubmit();
    }
  };
}

function pluginOf(plugin, context) {
  const form = formOf(plugin.schema, context);
  const box = make("input", { type: "checkbox", "data-plugin": plugin.name });
  form.element.prepend(make("p", { class: "help about" }, plugin.about));
  form.element.hidden = true;
  const element = make("div", { class: "plugin" }, make("label", {}, box, plugin.name, make("small", {}, plugin.package)), form.element);
  const show = () => {
    form.element.hidden = !box.checked;
    element.classList.toggle("on", box.checked);
  };
  box.addEventListener("change", show);
  return {
    element,
    read: () => (box.checked ? { plugin: plugin.name, options: form.read() } : null),
    write: (use) => {
      box.checked = use !== undefined;
      form.write(use?.options ?? {});
      show();
    },
    name: plugin.name,
  };
}

function read() {
  const request = {};
  for (const name of TEXTS) if ($(name).value.trim() !== "") request[name] = $(name).value.trim();
  if (!request.prompt) {
    $("prompt").setAttribute("aria-invalid", "true");
    $("prompt").focus();
    throw new Error("Say in the prompt what to draw.");
  }
  for (const name of NUMBERS) {
    if ($(name).validity.badInput) throw new Error(`${name}: a number is needed`);
    if ($(name).value !== "") request[name] = Number($(name).value);
  }
  const picture = image.read();
  if (picture) request.image = picture;
  else delete request.strength;
  const use = plugins.map((one) => one.read()).filter((one) => one);
  if (use.length) request.use = use;
  return request;
}

// Settings of a job back into the form.
export function reuse(request, seed) {
  for (const name of [...TEXTS, ...NUMBERS]) $(name).value = request[name] ?? "";
  $("count").value = 1;
  $("seed").value = seed;
  image.write(request.image);
  for (const one of plugins) one.write((request.use ?? []).find((use) => use.plugin === one.name));
  $("prompt").focus();
}
