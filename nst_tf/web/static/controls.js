// The settings of the form, built from the server's description of them.

const RANGES = { strength: { step: 0.05, ends: ["photo", "painting"] } };
const fields = new Map();

const title = (name) => {
  const words = name.replaceAll("_", " ");
  return words[0].toUpperCase() + words.slice(1);
};

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

export function buildControls(descriptions, presets) {
  for (const control of descriptions) {
    const id = `control-${control.name}`;
    const input = makeInput(control, id);
    const label = element("label", { for: id }, title(control.name));
    const row = element("div", { class: "control", title: control.description }, label, input);
    const range = RANGES[control.name];
    if (range) {
      const output = element("output", { for: id });
      const ends = element("p", { class: "ends", "aria-hidden": "true" }, ...range.ends.map(
        (end) => element("span", {}, end)));
      const show = () => (output.textContent = Number(input.value).toFixed(2));
      input.addEventListener("input", show);
      row.classList.add("wide");
      row.replaceChildren(label, output, input, ends);
      fields.set(control.name, { control, input, show });
      show();
    } else {
      fields.set(control.name, { control, input, show: () => {} });
    }
    const place = control.is_main ? "main-controls" : "more-controls";
    document.getElementById(place).append(row);
  }
  const preset = fields.get("preset").input;
  preset.addEventListener("change", () => showDefaults(presets[preset.value]));
}

// Shows what the preset stands for where no value is given.
function showDefaults(meaning) {
  for (const [name, { control, input }] of fields) {
    if (input.placeholder) input.placeholder = meaning[name] ?? control.default;
  }
}

function makeInput(control, id) {
  if (control.kind === "choice") {
    const options = control.choices.map((choice) =>
      element("option", { value: choice }, choice.replaceAll("_", " ")));
    const select = element("select", { id }, ...options);
    select.value = control.default;
    return select;
  }
  const range = RANGES[control.name];
  const numeric = control.kind !== "text";
  const input = element("input", {
    id,
    type: range ? "range" : "text",
    inputmode: numeric ? "decimal" : null,
    min: range && control.low,
    max: range && control.high,
    step: range?.step,
    placeholder: range ? null : control.default,
    autocomplete: "off",
    spellcheck: "false",
  });
  if (range) input.value = control.default;
  return input;
}

// Returns the values that differ from the defaults. The server says what is wrong with them.
export function readControls() {
  const values = {};
  for (const [name, { control, input }] of fields) {
    const text = input.value.trim();
    const isTyped = control.kind !== "choice" && !(name in RANGES);
    if (text === "" || (!isTyped && text === String(control.default))) continue;
    const number = Number(text);
    const isNumber = control.kind === "whole" || control.kind === "number";
    values[name] = isNumber && Number.isFinite(number) ? number : text;
  }
  return values;
}

export function fillControls(values) {
  for (const [name, { control, input, show }] of fields) {
    const empty = control.kind === "choice" || name in RANGES ? control.default : "";
    input.value = values[name] ?? empty;
    show();
  }
  fields.get("preset").input.dispatchEvent(new Event("change"));
}
