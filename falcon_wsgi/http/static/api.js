// What the page knows of the service: the OpenAPI document, and how to send a prediction.

const METHODS = [
  { path: "/infer", kind: "text" },
  { path: "/predict", kind: "row" },
];

// The served models, each with its route, the JSON Schema of its body, and example bodies.
export async function servedModels() {
  const document = await getJson("/openapi.json");
  return METHODS.flatMap(({ path, kind }) => {
    const operation = document.paths[path].post;
    const examples = operation.requestBody.content["application/json"].examples ?? {};
    const names = operation.parameters.find((parameter) => parameter.name === "model").schema.enum ?? [];
    return names.map((name) => ({
      name,
      kind,
      path: `${path}?model=${encodeURIComponent(name)}`,
      schema: document.components.schemas[`${name}-input`],
      examples: Object.entries(examples)
        .filter(([key]) => key.split(".")[0] === name)
        .map(([, example]) => example.value),
    }));
  });
}

export async function getJson(path) {
  const response = await fetch(path, { headers: { Accept: "application/json" } });
  return await response.json();
}

export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// Send a body as it stands. The result has `problem` where there is no answer, `answer` where there is.
export async function predict(path, body, key) {
  const started = performance.now();
  let response, text;
  try {
    response = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", "Idempotency-Key": key },
      body,
    });
    text = await response.text();
  } catch (error) {
    const detail = "the service cannot be reached";
    return { key, path, body, status: 0, elapsed: performance.now() - started, problem: { title: "No answer", detail } };
  }
  const result = {
    key,
    path,
    body,
    text,
    status: response.status,
    elapsed: performance.now() - started,
    stages: stagesOf(response.headers.get("Server-Timing")),
    replayed: response.headers.get("Idempotency-Replayed") === "true",
    unprotected: response.headers.get("Idempotency-Status") === "unavailable",
    worker: response.headers.get("X-Worker-ID"),
    retryAfter: response.headers.get("Retry-After"),
  };
  try {
    result[response.ok ? "answer" : "problem"] = JSON.parse(text);
  } catch {
    result.problem = { title: response.statusText || "No answer", detail: `status ${response.status}, without a problem document` };
  }
  return result;
}

// Server-Timing as [stage, milliseconds].
function stagesOf(header) {
  return (header ?? "")
    .split(",")
    .map((part) => /^\s*([a-z]+);dur=([\d.]+)/.exec(part))
    .filter(Boolean)
    .map(([, stage, duration]) => [stage, Number(duration)]);
}

export function curlCommand({ path, body, key }) {
  const quoted = (text) => `'${text.replaceAll("'", String.raw`'\''`)}'`;
  return [
    `curl ${quoted(location.origin + path)}`,
    `  -H 'Content-Type: application/json'`,
    `  -H 'Idempotency-Key: ${key}'`,
    `  -d ${quoted(body)}`,
  ].join(" \\\n");
}
