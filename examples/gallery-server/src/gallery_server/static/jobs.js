// Jobs that wait, run, or have just ended.

import { call, follow } from "./api.js";
import { $, make } from "./dom.js";

const WORDS = { queued: "Waiting", running: "Drawing", done: "Done", withheld: "Withheld", failed: "Failed", cancelled: "Cancelled" };

export function watch(job, { open, finished }) {
  const preview = make("img", { alt: "Preview", hidden: true });
  const bar = make("progress", { "aria-label": "Progress", max: 1, value: 0 });
  const state = make("span");
  const note = make("p");
  const pictures = make("div", { class: "pictures" });
  const cancel = make("button", { class: "small", type: "button", onclick: () => call("POST", `/api/jobs/${job.id}/cancel`) }, "Cancel");
  const dismiss = make("button", { class: "small quiet", type: "button", onclick: () => leave(), hidden: true }, "Dismiss");
  const card = make("article", { class: "card job", "data-job": job.id },
    make("div", { class: "frame" }, preview),
    make("div", {}, make("h3", {}, job.request.prompt), make("p", { class: "state" }, state, make("span", {}, cancel, dismiss)), bar, note, pictures));
  $("jobs").prepend(card);
  $("jobs-empty").hidden = true;

  function leave() {
    source.close();
    card.remove();
    $("jobs-empty").hidden = $("jobs").childElementCount > 0;
  }

  const source = follow(job.id, (kind, data) => {
    if (kind === "step") {
      state.textContent = `Step ${data.step} of ${data.steps}` + (data.batches > 1 ? `, batch ${data.batch} of ${data.batches}` : "");
      bar.value = (data.batch - 1 + data.step / data.steps) / data.batches;
      show(data.preview);
    } else if (kind === "warning") {
      note.textContent = data.message;
    } else {
      card.dataset.state = data.state;
      state.textContent = WORDS[data.state] + (data.waiting ? `, ${data.waiting} before it` : "");
      if (data.ended) end(data);
    }
  });

  function show(image) {
    if (!image) return;
    preview.src = image;
    preview.hidden = false;
  }

  function end(data) {
    bar.hidden = true;
    cancel.hidden = true;
    dismiss.hidden = false;
    const ids = data.result?.pictures ?? [];
    const withheld = data.result?.withheld ?? [];
    const reasons = [...new Set(withheld.flatMap((one) => one.reasons))];
    note.textContent = data.message ?? (reasons.length ? `Kept back: ${reasons.join("; ")}` : note.textContent);
    for (const id of ids) {
      const image = make("img", { src: `/thumbnails/${id}.webp`, alt: `Open ${data.request.prompt}` });
      pictures.append(make("button", { type: "button", onclick: () => open(id) }, image));
    }
    if (ids.length) show(`/thumbnails/${ids[0]}.webp`);
    else preview.hidden = true;
    preview.alt = ids.length ? data.request.prompt : "";
    $("announce").textContent = `${WORDS[data.state]}: ${data.request.prompt}`;
    finished(data);
  }
}
