// Prometheus' text format, and rates and quantiles over a window of scrapes.

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

export class Scrape {
  constructor(text, at) {
    this.at = at;
    this.samples = new Map();
    for (const line of text.split("\n")) {
      const found = LINE.exec(line);
      if (!found || line.startsWith("#")) continue;
      const labels = Object.fromEntries(Array.from((found[2] ?? "").matchAll(LABEL), ([, name, value]) => [name, value]));
      if (!this.samples.has(found[1])) this.samples.set(found[1], []);
      this.samples.get(found[1]).push({ labels, value: found[3] === "+Inf" ? Infinity : Number(found[3]) });
    }
  }

  of(name) {
    return this.samples.get(name) ?? [];
  }

  total(name, wanted = {}) {
    return this.of(name)
      .filter(({ labels }) => Object.entries(wanted).every(([label, value]) => labels[label] === value))
      .reduce((sum, { value }) => sum + value, 0);
  }

  // Cumulative counts by upper bound, over all series.
  buckets(name) {
    const sums = new Map();
    for (const { labels, value } of this.of(`${name}_bucket`)) {
      const bound = labels.le === "+Inf" ? Infinity : Number(labels.le);
      sums.set(bound, (sums.get(bound) ?? 0) + value);
    }
    return sums;
  }
}

// The first and the last scrape of a window. Counters do not fall, but an instance that was started anew begins at 0.
export class Span {
  constructor(first, last) {
    this.first = first;
    this.last = last;
    this.seconds = (last.at - first.at) / 1000;
  }

  growth(name, labels) {
    const later = this.last.total(name, labels);
    const earlier = this.first.total(name, labels);
    return later < earlier ? later : later - earlier;
  }

  rate(name, labels) {
    return this.seconds > 0 ? this.growth(name, labels) / this.seconds : NaN;
  }

  share(part, whole) {
    return whole > 0 ? part / whole : NaN;
  }

  // Linear within a bucket, as Prometheus' histogram_quantile has it. In the histogram's unit.
  quantile(name, q) {
    const before = this.first.buckets(name);
    const counts = Array.from(this.last.buckets(name), ([bound, count]) => [bound, count - (before.get(bound) ?? 0)]);
    counts.sort(([a], [b]) => a - b);
    const total = counts.at(-1)?.[1] ?? 0;
    if (total <= 0) return NaN;
    let lower = 0;
    let below = 0;
    for (const [bound, count] of counts) {
      if (count >= q * total) {
        return bound === Infinity ? lower : lower + ((bound - lower) * (q * total - below)) / (count - below || 1);
      }
      [lower, below] = [bound, count];
    }
    return lower;
  }
}
