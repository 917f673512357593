// One answer, or the problem document that came instead.
import { curlCommand } from "./api.js";
import { el, milliseconds, percent } from "./dom.js";

const MOST_BARS = 20;
const EXPLAINED = { queue: "waiting", cache: "cache", predict: "model", log: "request log", rest: "all else" };

export function rendered(result) {
  const content = result.answer ? prediction(result) : problem(result);
  return el("div", {}, ...content, timing(result), raw("Body of the answer", pretty(result)), raw("As a command", curlCommand(result)));
}

function prediction({ answer, status, replayed, unprotected }) {
  const value = answer.prediction;
  const shown = typeof value === "number" && !Number.isInteger(value) ? value.toPrecision(6) : String(value);
  const certain = answer.confidence === null ? null : el("span", {}, `${percent(answer.confidence)} confident`);
  return [
    el("div", { className: "headline" }, el("strong", { id: "prediction" }, shown), certain),
    tags([
      [`${status}`, "good"],
      replayed ? ["replayed: stored answer of this key", "good"] : ["new answer"],
      [answer.cache_hit ? "cache hit" : "cache miss"],
      unprotected ? ["key not honoured: Redis is away", "warn"] : null,
      [`${answer.model} ${answer.model_version}`],
      [answer.worker_id],
    ]),
    bars(answer.probabilities ?? answer.prediction_probabilities, String(value)),
  ];
}

function bars(probabilities, chosen) {
  if (!probabilities) return null;
  let entries = Object.entries(probabilities);
  if (entries.length > MOST_BARS) entries = entries.sort(([, a], [, b]) => b - a).slice(0, MOST_BARS);
  const cells = entries.flatMap(([name, share]) => {
    const filled = el("span");
    filled.style.width = `${share * 100}%`;
    const track = el("div", { className: "track", role: "presentation" }, filled);
    return [el("span", { className: name === chosen ? "name chosen" : "name" }, name), track, el("span", { className: "number" }, percent(share))];
  });
  return el("div", { className: "bars", role: "group", "aria-label": "Probabilities" }, ...cells);
}

function problem({ problem: document, status, retryAfter }) {
  const violations = (document.errors ?? []).map(({ pointer, message }) => el("li", {}, el("code", {}, pointer || "/"), ` ${message}`));
  return [
    el("div", { className: "problem", id: "problem" },
      el("p", {}, el("strong", {}, `${status || ""} ${document.title ?? ""}`.trim())),
      el("p", {}, document.detail ?? ""),
      violations.length ? el("ul", { className: "violations" }, ...violations) : null),
    tags([
      document.type ? [document.type] : null,
      retryAfter ? [`try again after ${retryAfter} s`, "warn"] : null,
      document.request_id ? [`request ${document.request_id}`] : null,
    ]),
  ];
}

function tags(shown) {
  const items = shown.filter(Boolean).map(([text, state]) => el("li", { className: "tag", "data-state": state }, text));
  return el("ul", { className: "tags" }, ...items);
}

// Where the time went: the service's own stages, and all else, which is the network, the browser and parsing.
function timing({ stages, elapsed }) {
  if (!stages?.length) return null;
  const inside = stages.reduce((sum, [, duration]) => sum + duration, 0);
  const all = [...stages, ["rest", Math.max(0, elapsed - inside)]];
  const parts = all.map(([stage, duration]) => {
    const part = el("span", { className: stage, title: `${EXPLAINED[stage] ?? stage}: ${milliseconds(duration)}` });
    part.style.flexGrow = String(duration);
    return part;
  });
  const legend = all.map(([stage, duration]) => el("li", { className: stage }, `${EXPLAINED[stage] ?? stage} ${milliseconds(duration)}`));
  return el("div", {},
    el("p", { className: "sub" }, `Time to the answer: ${milliseconds(elapsed)}`),
    el("div", { className: "stages", role: "presentation" }, ...parts),
    el("ul", { className: "legend" }, ...legend));
}

function raw(title, text) {
  return text ? el("details", {}, el("summary", {}, title), el("pre", {}, text)) : null;
}

function pretty({ text }) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
