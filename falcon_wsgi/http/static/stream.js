// One request after another, to see what the service does meanwhile. Each has a key of its own, so each needs Redis.
import { newKey, predict } from "./api.js";
import { byId, el, milliseconds } from "./dom.js";

const PAUSE_MS = 500;
const KEPT = 60;
const TALLEST_MS = 500;

export class Stream {
  constructor(current) {
    this.current = current; // () => { path, body } to send next
    this.results = [];
    this.running = false;
  }

  toggle() {
    this.running = !this.running;
    byId("stream").setAttribute("aria-pressed", String(this.running));
    byId("stream").textContent = this.running ? "Stop sending" : "Keep sending";
    byId("stream-panel").hidden = false;
    if (this.running) this.run();
  }

  async run() {
    const mine = (this.turn = Symbol("turn"));
    while (this.running && this.turn === mine) {
      const { path, body } = this.current();
      this.results = [...this.results, await predict(path, body, newKey())].slice(-KEPT);
      this.show();
      await new Promise((resume) => setTimeout(resume, PAUSE_MS));
    }
  }

  show() {
    byId("strip").replaceChildren(...this.results.map((result) => {
      const bar = el("i", { className: result.problem ? "bad" : result.unprotected ? "warn" : "", title: `${result.status}, ${milliseconds(result.elapsed)}` });
      bar.style.height = `${Math.max(6, 100 * Math.min(1, Math.sqrt(result.elapsed / TALLEST_MS)))}%`;
      return bar;
    }));
    const failed = this.results.filter(({ problem }) => problem).length;
    const unprotected = this.results.filter(({ unprotected }) => unprotected).length;
    const slowest = Math.max(...this.results.map(({ elapsed }) => elapsed));
    byId("stream-summary").textContent =
      `Last ${this.results.length}: ${this.results.length - failed} answered, ${failed} failed, slowest ${milliseconds(slowest)}` +
      (unprotected ? `, ${unprotected} without Redis (key not honoured)` : "");
  }
}
