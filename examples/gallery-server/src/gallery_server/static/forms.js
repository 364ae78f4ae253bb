// A form of a JSON schema: numbers, switches, choices, texts, files; anything else as JSON.
// Each field gives { element, read, write }: read() is undefined where the default stands.

import { upload } from "./api.js";
import { make } from "./dom.js";

const SHOWN = 3; // options that are not needed, before the rest is folded away
let number = 0;

export function formOf(schema, context) {
  const fields = {};
  const element = make("div", { class: "options" });
  const more = make("details", {}, make("summary", {}, "More options"));
  let shown = 0;
  for (const [name, property] of Object.entries(schema.properties ?? {})) {
    const required = (schema.required ?? []).includes(name);
    fields[name] = fieldOf(name, property, schema, required, context);
    (required || shown++ < SHOWN ? element : more).append(fields[name].element);
  }
  if (more.childElementCount > 1) element.append(more);
  return {
    element,
    read() {
      const options = {};
      for (const [name, field] of Object.entries(fields)) {
        const value = field.read();
        if (value !== undefined) options[name] = value;
      }
      return options;
    },
    write(options) {
      for (const [name, field] of Object.entries(fields)) field.write(options[name]);
    },
  };
}

function resolved(property, schema) {
  while (property.$ref) property = { ...schema.$defs[property.$ref.split("/").pop()], ...without(property, "$ref") };
  const kinds = (property.anyOf ?? []).filter((kind) => kind.type !== "null");
  if (kinds.length === 1) return { ...resolved(kinds[0], schema), ...without(property, "anyOf"), nullable: true };
  return property;
}

function without(object, key) {
  const { [key]: _, ...rest } = object;
  return rest;
}

function fieldOf(name, raw, schema, required, context) {
  const property = resolved(raw, schema);
  const id = `option-${++number}`;
  const label = name.replaceAll("_", " ");
  const help = property.description ? make("p", { class: "help", id: `${id}-help` }, property.description) : null;
  const common = { id, "aria-describedby": help && help.id };
  const initial = property.default;
  if (property.format === "asset") return fileField(label, common, help, required, context);
  if (property.type === "boolean") {
    const input = make("input", { ...common, type: "checkbox", checked: initial === true });
    const row = make("div", { class: "check" }, input, make("label", { for: id }, label));
    return {
      element: make("div", {}, row, help),
      read: () => (input.checked === initial ? undefined : input.checked),
      write: (value) => (input.checked = value ?? initial === true),
    };
  }
  const choices = property.enum ?? (property.const !== undefined ? [property.const] : null);
  if (choices) {
    const select = make("select", common, property.nullable ? make("option", { value: "" }, "–") : null);
    for (const [place, choice] of choices.entries()) select.append(make("option", { value: place }, String(choice)));
    const write = (value) => (select.value = choices.includes(value) ? choices.indexOf(value) : "");
    write(initial);
    const read = () => {
      const value = select.value === "" ? null : choices[select.value];
      return value === (initial ?? null) ? undefined : value;
    };
    return { element: labelled(label, id, select, help, required), read, write: (value) => write(value ?? initial) };
  }
  if (property.type === "number" || property.type === "integer") {
    const input = make("input", {
      ...common, type: "number", required,
      min: property.minimum ?? property.exclusiveMinimum, max: property.maximum ?? property.exclusiveMaximum,
      step: property.type === "integer" ? 1 : "any", placeholder: initial ?? "",
    });
    return {
      element: labelled(label, id, input, help, required),
      read: () => {
        if (input.validity.badInput) throw new Error(`${label}: a number is needed`);
        return input.value === "" ? undefined : Number(input.value);
      },
      write: (value) => (input.value = value ?? ""),
    };
  }
  if (property.type === "string") {
    const input = make("input", { ...common, maxlength: property.maxLength, required, placeholder: initial ?? "" });
    return {
      element: labelled(label, id, input, help, required),
      read: () => (input.value === "" ? undefined : input.value),
      write: (value) => (input.value = value ?? ""),
    };
  }
  const input = make("input", { ...common, class: "json", spellcheck: "false", placeholder: initial == null ? "" : JSON.stringify(initial) });
  return {
    element: labelled(label, id, input, help, required),
    read: () => {
      if (input.value.trim() === "") return undefined;
      try {
        return JSON.parse(input.value);
      } catch {
        if (JSON.stringify(property).includes('"string"')) return input.value;
        throw new Error(`${label}: write it as JSON, such as ${JSON.stringify(initial ?? [1, 2])}`);
      }
    },
    write: (value) => (input.value = value === undefined ? "" : JSON.stringify(value)),
  };
}

// A file: something of the server's library, something uploaded before, or a new upload. Its value is a reference.
export function fileField(label, common, help, required, context) {
  const select = make("select", common);
  const input = make("input", { type: "file", id: `${common.id}-file`, accept: "image/png,image/jpeg,image/webp,.safetensors" });
  const status = make("p", { class: "help", role: "status" });
  let chosen = "";
  const fill = () => {
    const group = (title, entries) => (entries.length ? make("optgroup", { label: title }, ...entries) : null);
    const library = context.library.map((name) => make("option", { value: JSON.stringify({ library: name }) }, name));
    const uploads = context.uploads.map((one) => make("option", { value: JSON.stringify({ upload: one.id }) }, one.name));
    const groups = [group("Library", library), group("Uploaded", uploads)].filter((one) => one);
    select.replaceChildren(make("option", { value: "" }, required ? "choose …" : "none"), ...groups);
    select.value = chosen;
  };
  fill();
  select.addEventListener("focus", fill);
  select.addEventListener("change", () => (chosen = select.value));
  input.addEventListener("change", async () => {
    const [file] = input.files;
    if (!file) return;
    status.textContent = `Uploading ${file.name} …`;
    try {
      const stored = await upload(file);
      context.uploads = [stored, ...context.uploads.filter((one) => one.id !== stored.id)];
      chosen = JSON.stringify({ upload: stored.id });
      fill();
      status.textContent = `${stored.name} is uploaded.`;
    } catch (error) {
      status.textContent = error.message;
    }
    input.value = "";
  });
  const pick = make("label", { class: "pick", for: input.id }, "Upload");
  const row = make("div", { class: "file" }, select, make("span", {}, input, pick));
  return {
    element: make("div", {}, make("label", { for: common.id }, label + (required ? " (needed)" : "")), row, help, status),
    read: () => {
      if (chosen === "" && required) throw new Error(`${label}: choose or upload a file`);
      return chosen === "" ? undefined : JSON.parse(chosen);
    },
    write: (value) => {
      chosen = value && (value.upload || value.library) ? JSON.stringify(value) : "";
      fill();
    },
  };
}

function labelled(label, id, input, help, required) {
  return make("div", {}, make("label", { for: id }, label + (required ? " (needed)" : "")), input, help);
}
