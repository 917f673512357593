// A form from a JSON Schema of flat properties. What the service would refuse can be entered: its answer says why.
import { el } from "./dom.js";

const MISSING = "";
// Bounds this wide are those of the number format, and nothing to tell people.
const UNBOUNDED = 2 ** 53 - 1;
const MANY = 12;
export const TOO_MANY = 200;

export class Form {
  constructor(container) {
    this.container = container;
    this.fields = new Map();
  }

  build(schema) {
    this.fields.clear();
    const required = new Set(schema.required ?? []);
    const properties = Object.entries(schema.properties);
    this.container.classList.toggle("many", properties.length > MANY);
    for (const [name, property] of properties) {
      this.fields.set(name, new FormField(name, property, required.has(name)));
    }
    this.container.replaceChildren(...Array.from(this.fields.values(), (field) => field.element));
  }

  fill(body) {
    for (const [name, field] of this.fields) field.value = body[name];
  }

  body() {
    const given = Array.from(this.fields, ([name, field]) => [name, field.value]);
    return Object.fromEntries(given.filter(([, value]) => value !== undefined));
  }

  // Put each violation beside the field that its pointer names.
  showFaults(violations) {
    for (const field of this.fields.values()) field.showFault("");
    for (const { pointer, message } of violations) {
      const name = pointer.split("/")[1]?.replaceAll("~1", "/").replaceAll("~0", "~");
      this.fields.get(name)?.showFault(message);
    }
  }
}

class FormField {
  constructor(name, property, required) {
    const types = [property.type].flat();
    this.nullable = types.includes("null") || property.enum?.includes(null);
    this.type = types.find((type) => type !== "null");
    this.choices = property.enum?.filter((choice) => choice !== null) ?? (this.type === "boolean" && this.nullable ? [true, false] : null);
    this.numeric = this.type === "number" || this.type === "integer" || typeof property.examples?.[0] === "number";
    const id = `field-${name}`;
    this.control = this.makeControl(name, property, id);
    this.fault = el("p", { className: "fault", id: `${id}-fault` });
    const hint = hintOf(property, required);
    const described = el("p", { className: "hint", id: `${id}-hint`, title: hint }, hint);
    this.control.setAttribute("aria-describedby", `${id}-hint ${id}-fault`);
    const label = el("label", { htmlFor: id }, name);
    const control = this.control.type === "checkbox" ? el("div", { className: "check" }, this.control) : this.control;
    const wide = this.control.tagName === "TEXTAREA" ? "field wide" : "field";
    this.element = el("div", { className: wide }, label, control, hint ? described : null, this.fault);
  }

  makeControl(name, property, id) {
    if (this.choices) {
      const options = this.choices.map((choice, index) => el("option", { value: String(index) }, String(choice)));
      if (this.nullable) options.unshift(el("option", { value: MISSING }, "(missing)"));
      return el("select", { id, name }, ...options);
    }
    if (this.type === "boolean") return el("input", { type: "checkbox", id, name });
    if (this.numeric) {
      const bound = (value) => (isBound(value) ? String(value) : undefined);
      const step = this.type === "integer" ? "1" : "any";
      return el("input", { type: "number", id, name, step, min: bound(property.minimum), max: bound(property.maximum) });
    }
    if (name === "text" || property.maxLength > 1000) return el("textarea", { id, name, rows: 3 });
    return el("input", { type: "text", id, name });
  }

  set value(value) {
    if (this.choices) this.control.value = value === null || value === undefined ? MISSING : String(this.choices.indexOf(value));
    else if (this.control.type === "checkbox") this.control.checked = value === true;
    else this.control.value = value ?? "";
  }

  // undefined: left out.
  get value() {
    if (this.choices) return this.control.value === MISSING ? undefined : this.choices[Number(this.control.value)];
    if (this.control.type === "checkbox") return this.control.checked;
    const entered = this.control.value;
    if (this.numeric) return entered === "" ? undefined : Number(entered);
    return entered === "" && this.nullable ? undefined : entered;
  }

  showFault(message) {
    this.fault.textContent = message;
    this.control.setAttribute("aria-invalid", message ? "true" : "false");
  }
}

function isBound(value) {
  return value !== undefined && Math.abs(value) < UNBOUNDED;
}

function hintOf(property, required) {
  const { minimum, maximum } = property;
  const parts = [property.description?.replace(/\.$/, "")];
  if (isBound(minimum) && isBound(maximum)) parts.push(`${minimum} to ${maximum}`);
  else if (isBound(minimum)) parts.push(`at least ${minimum}`);
  else if (isBound(maximum)) parts.push(`at most ${maximum}`);
  if (!required) parts.push("may be missing");
  return parts.filter(Boolean).join(" · ");
}
