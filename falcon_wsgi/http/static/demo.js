// The demo page: what a model is asked, its answer, and the state of the service beside it.
import { newKey, predict, servedModels } from "./api.js";
import { rendered } from "./answer.js";
import { byId, el } from "./dom.js";
import { Form, TOO_MANY } from "./form.js";
import { Status } from "./status.js";
import { Stream } from "./stream.js";

const form = new Form(byId("fields"));
let models = [];
let last = null;

const chosen = () => models.find(({ name }) => name === byId("model").value);
const mode = () => document.querySelector("input[name=mode]:checked").value;
const body = () => (mode() === "json" ? byId("raw").value : JSON.stringify(form.body()));

function showModel() {
  const model = chosen();
  const large = Object.keys(model.schema.properties).length > TOO_MANY;
  const [formMode, jsonMode] = document.querySelectorAll("input[name=mode]");
  formMode.disabled = large;
  if (large) jsonMode.checked = true;
  else form.build(model.schema);
  byId("examples").replaceChildren(...model.examples.map((example, index) => {
    const label = model.kind === "text" ? example.text : `Example ${index + 1}`;
    return el("button", { type: "button", onclick: () => fill(example) }, label);
  }));
  showMode();
  fill(model.examples[0]);
}

function fill(example) {
  form.fill(example);
  form.showFaults([]);
  byId("raw").value = JSON.stringify(example, null, 2);
}

function showMode() {
  byId("fields").hidden = mode() === "json";
  byId("raw-field").hidden = mode() !== "json";
}

function switchMode() {
  if (mode() === "json") byId("raw").value = JSON.stringify(form.body(), null, 2);
  else {
    try {
      form.fill(JSON.parse(byId("raw").value) ?? {});
    } catch {
      // What is no JSON stays in the text; the form keeps what it had.
    }
  }
  showMode();
}

async function send(path, sent, key) {
  byId("send").disabled = true;
  const result = await predict(path, sent, key);
  byId("send").disabled = false;
  last = result;
  byId("repeat").disabled = false;
  form.showFaults(result.problem?.errors ?? []);
  byId("answer").replaceChildren(rendered(result));
}

function showServed(health) {
  const items = Object.entries(health).map(([name, { version, predictor, digest, canary, shadow }]) =>
    el("li", {},
      el("b", {}, name),
      el("span", {}, version),
      el("span", { className: "hint" }, `${predictor} · ${digest.slice(0, 12)}`,
        canary ? ` · canary ${canary.version}` : "",
        shadow ? ` · shadow ${shadow.version}` : "")));
  byId("served").replaceChildren(...items);
}

async function start() {
  new Status(showServed).run();
  models = await servedModels();
  if (!models.length) {
    byId("answer").replaceChildren(el("p", { className: "empty" }, "No model is served."));
    return;
  }
  byId("model").replaceChildren(...models.map(({ name, kind }) => el("option", { value: name }, `${name} (${kind})`)));
  byId("model").addEventListener("change", showModel);
  byId("mode").addEventListener("change", switchMode);
  byId("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    send(chosen().path, body(), newKey());
  });
  byId("repeat").addEventListener("click", () => send(last.path, last.body, last.key));
  const stream = new Stream(() => ({ path: chosen().path, body: body() }));
  byId("stream").addEventListener("click", () => stream.toggle());
  showModel();
}

start();
