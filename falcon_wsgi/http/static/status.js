// The live panel: three routes are read every two seconds while the page is visible.
import { byId, el, milliseconds, percent } from "./dom.js";
import { Scrape, Span } from "./metrics.js";

const INTERVAL_MS = 2000;
const WINDOW_MS = 30_000;
const HISTORY = 60;
const STATES = ["closed", "open", "half-open"];
const DEPENDENCIES = [
  { key: "redis", check: "redis_available", name: "Redis", without: "Answers go on, without the shared cache; keys as IDEMPOTENCY_ON_OUTAGE says." },
  { key: "postgres", check: "database_available", name: "Postgres", without: "Answers go on; the request log waits on local disk." },
];

export class Status {
  constructor(onModels) {
    this.onModels = onModels;
    this.scrapes = [];
    this.rates = [];
  }

  async run() {
    for (;;) {
      if (!document.hidden) await this.refresh();
      await new Promise((resume) => setTimeout(resume, INTERVAL_MS));
    }
  }

  async refresh() {
    try {
      const [readiness, health, metrics] = await Promise.all(["/readyz", "/health", "/metrics"].map((path) => fetch(path)));
      if (!metrics.ok) throw new Error(`status ${metrics.status}`);
      this.add(new Scrape(await metrics.text(), performance.now()));
      this.showCondition(await health.json());
      this.showDependencies(await readiness.json());
      this.showFigures();
    } catch (error) {
      condition(`not reachable (${error.message})`, "bad");
    }
  }

  add(scrape) {
    const previous = this.scrapes.at(-1);
    if (previous) this.rates = [...this.rates, new Span(previous, scrape).rate("inference_requests_total")].slice(-HISTORY);
    this.scrapes = [...this.scrapes.filter(({ at }) => scrape.at - at <= WINDOW_MS), scrape];
  }

  get latest() {
    return this.scrapes.at(-1);
  }

  showCondition({ status, message, models }) {
    condition(message, status !== "healthy" ? "bad" : message === "serving" ? "good" : "warn");
    this.onModels(models);
  }

  showDependencies({ checks }) {
    const items = DEPENDENCIES.map(({ key, check, name, without }) => {
      const state = STATES[this.latest.total("circuit_breaker_state", { dependency: key })] ?? "closed";
      const available = checks[check];
      const judged = state === "open" ? "bad" : available && state === "closed" ? "good" : "warn";
      return el("li", { id: `dependency-${key}`, "data-state": judged },
        el("b", {}, name),
        el("span", {}, `${available ? "available" : "away"} · circuit ${state}`),
        judged === "good" ? null : el("span", { className: "consequence" }, without));
    });
    replaceIfChanged(byId("dependencies"), items);
  }

  showFigures() {
    const span = new Span(this.scrapes[0], this.latest);
    const requests = span.growth("inference_requests_total");
    const failed = span.growth("inference_requests_total", { status: "error" });
    const hits = span.growth("cache_hits_total");
    const errorShare = span.share(failed, requests);
    const seconds = (q) => milliseconds(1000 * span.quantile("inference_duration_seconds", q));
    byId("window").textContent = span.seconds > 1 ? `over ${Math.round(span.seconds)} s` : "";
    byId("figures").replaceChildren(
      figure("Requests", rate(span.rate("inference_requests_total")), "/s"),
      figure("Errors", percent(errorShare), "", errorShare > 0),
      figure("p50", ...split(seconds(0.5))),
      figure("p99", ...split(seconds(0.99))),
      figure("Cache hits", percent(span.share(hits, hits + span.growth("cache_misses_total")))),
      figure("In flight", String(this.latest.total("requests_in_flight"))),
      figure("Workers", String(new Set(this.latest.of("memory_usage_bytes").map(({ labels }) => labels.worker_id)).size)),
      figure("Memory", (this.latest.total("memory_usage_bytes") / 2 ** 20).toFixed(0), "MiB"),
      figure("Log backlog", this.latest.total("journal_depth_records").toLocaleString("en"), "rows"),
    );
    this.drawRates();
  }

  drawRates() {
    const highest = Math.max(1, ...this.rates);
    const x = (index) => (300 * (HISTORY - this.rates.length + index)) / (HISTORY - 1);
    const y = (value) => 47 - (44 * value) / highest;
    const points = this.rates.map((value, index) => `L${x(index).toFixed(1)} ${y(value).toFixed(1)}`);
    const outline = points.length > 1 ? `M${x(0).toFixed(1)} 49 ${points.join(" ")} L301 49Z` : "";
    byId("spark").firstElementChild.setAttribute("d", outline);
  }
}

function condition(message, state) {
  const pill = byId("condition");
  if (pill.textContent !== message) pill.textContent = message;
  pill.dataset.state = state;
}

function rate(value) {
  return Number.isFinite(value) ? value.toFixed(value < 10 ? 1 : 0) : "–";
}

function split(shown) {
  const [value, unit] = shown.split(" ");
  return [value, unit ?? ""];
}

function figure(name, value, unit = "", alarming = false) {
  return el("div", {}, el("dt", {}, name), el("dd", { className: alarming ? "bad" : "" }, value, unit ? el("small", {}, unit) : null));
}

// So that a screen reader's place is not lost every two seconds.
function replaceIfChanged(list, items) {
  if (list.innerHTML !== items.map((item) => item.outerHTML).join("")) list.replaceChildren(...items);
}
