// The pictures, and the one that is open.

import { call, follow, once } from "./api.js";
import { $, make } from "./dom.js";

let last;
let opened;

export async function refresh() {
  $("gallery").replaceChildren();
  last = undefined;
  await more();
}

export async function more() {
  const { pictures } = await call("GET", `/api/pictures?limit=48${last === undefined ? "" : `&before=${last}`}`);
  for (const picture of pictures) {
    const image = make("img", { src: picture.thumbnail, alt: picture.prompt, loading: "lazy" });
    const caption = make("span", { title: picture.prompt, "aria-hidden": "true" }, picture.prompt);
    const button = make("button", { type: "button", "data-picture": picture.id, onclick: () => open(picture.id) }, image, caption);
    $("gallery").append(make("li", {}, button));
    last = picture.number;
  }
  $("more").hidden = pictures.length < 48;
  $("gallery-empty").hidden = $("gallery").childElementCount > 0;
}

export async function open(id) {
  const picture = await call("GET", `/api/pictures/${encodeURIComponent(id)}`);
  opened = picture;
  const { record } = picture;
  $("viewer-title").textContent = picture.prompt;
  $("viewer-image").src = picture.file;
  $("viewer-image").alt = picture.prompt;
  const facts = {
    seed: picture.seed, size: `${picture.width} × ${picture.height}`, steps: record.request.steps,
    scheduler: record.request.scheduler, guidance: record.request.guidance_scale,
    plugins: (record.request.use ?? []).map((use) => use.plugin).join(", ") || "none", model: record.model.source,
    flags: picture.verdicts.map((one) => one.reason || one.check).join("; "),
  };
  const rows = Object.entries(facts).filter(([, value]) => value !== "" && value != null);
  $("viewer-facts").replaceChildren(...rows.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, String(value))]));
  $("viewer-record").textContent = JSON.stringify(record, null, 2);
  $("viewer-download").href = picture.file;
  $("viewer-download").download = `${picture.id}.png`;
  verdict("", false);
  if (!$("viewer").open) $("viewer").showModal();
}

function verdict(text, good, differences = []) {
  $("viewer-replay").textContent = text;
  $("viewer-replay").classList.toggle("good", good);
  $("viewer-differences").replaceChildren(...differences.map((one) => make("li", {}, one)));
}

async function replay() {
  const { id } = opened;
  const mine = (text, ...rest) => opened.id === id && verdict(text, ...rest);
  try {
    const job = await once(`/api/pictures/${encodeURIComponent(id)}/replay`);
    mine("Drawing it again …", false);
    follow(job.id, (kind, data) => {
      if (kind === "step") mine(`Drawing it again: step ${data.step} of ${data.steps}`, false);
      if (kind !== "state" || !data.ended) return;
      if (data.state !== "done") mine(data.message ?? `The replay was ${data.state}.`, false);
      else if (data.result.identical) mine("Identical: every pixel is as it was.", true, data.result.differences);
      else mine("Not identical.", false, data.result.differences);
    });
  } catch (error) {
    mine(error.message, false);
  }
}

export function prepareViewer(reuse) {
  $("viewer-again").onclick = replay;
  $("viewer-reuse").onclick = async () => {
    const job = await call("GET", `/api/jobs/${encodeURIComponent(opened.job)}`);
    $("viewer").close();
    reuse(job.request, opened.seed);
  };
  $("viewer-delete").onclick = async () => {
    if (!confirm("Delete this picture and its record?")) return;
    await call("DELETE", `/api/pictures/${encodeURIComponent(opened.id)}`);
    $("viewer").close();
    await refresh();
  };
  $("viewer").addEventListener("click", (event) => event.target === $("viewer") && $("viewer").close());
  $("more").onclick = more;
}
