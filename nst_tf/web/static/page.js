// The page: inputs, the picture that is shown, and the list of all pictures.

import { clearPainting, openPainter, paintedMask } from "./brush.js";
import { drawLosses } from "./chart.js";
import { buildControls, fillControls, readControls } from "./controls.js";
import { ask, listen, post, upload } from "./server.js";

const $ = (id) => document.getElementById(id);
const STATES = { queued: "waiting", running: "in progress", finished: "finished",
  stopped: "stopped", failed: "failed" };

let about;
let content = null; // { id, name, width, height }
let mask = null;
let styles = []; // all that are offered: { id, name, credit, chosen }
let pictures = [];
let shown = null; // the identifier of the picture that is shown
let progress = null; // of the picture that is being made
let running = []; // the losses of that picture
let losses = []; // of the picture that is shown
let key = newKey(); // of the next request: sent twice, it makes one picture

const current = () => pictures.find((picture) => picture.id === shown);
const isActive = (picture) => ["queued", "running"].includes(picture.state);

function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(36)).join("");
}

function say(error) {
  $("error").textContent = error ? capitalized(error.message ?? error) : "";
  $("error").hidden = !error;
}

// Names of settings stay as they are.
const capitalized = (text) => text.replace(/^[a-z](?=[a-z]* )/, (letter) => letter.toUpperCase());

function announce(text) {
  $("announcer").textContent = text;
}

// Runs what a button does: an error is shown, and a second click meanwhile does nothing.
function onClick(id, action) {
  $(id).addEventListener("click", async () => {
    if ($(id).dataset.busy) return;
    $(id).dataset.busy = "yes";
    say(null);
    try {
      await action();
    } catch (error) {
      say(error);
    } finally {
      delete $(id).dataset.busy;
    }
  });
}

// --- inputs

async function takeContent(file) {
  $("content-label").textContent = "Reading…";
  try {
    content = await upload(file, file.name);
    mask = null;
    clearPainting();
  } finally {
    showContent();
  }
}

function showContent() {
  $("content-image").hidden = $("paint").hidden = !content;
  $("mask-note").hidden = !mask;
  $("content-label").textContent = content
    ? `${content.name} · choose another` : "Choose a photo, or drop it here";
  if (!content) return;
  const source = `/inputs/${content.id}`;
  if ($("content-image").getAttribute("src") !== source) $("content-image").src = source;
  $("content-image").alt = content.name;
  $("paint").textContent = mask ? "Change the region…" : "Paint a region…";
}

async function takeStyles(files) {
  $("styles-note").textContent = "Reading…";
  try {
    for (const file of files) styles.push({ ...(await upload(file, file.name)), chosen: true });
  } finally {
    showStyles();
  }
}

function showStyles() {
  const chosen = styles.filter((style) => style.chosen);
  const focused = document.activeElement?.dataset?.style;
  $("styles").replaceChildren(...styles.map((style) => {
    const image = Object.assign(new Image(), { src: `/inputs/${style.id}`, alt: style.name });
    const button = Object.assign(document.createElement("button"), { type: "button" });
    button.title = style.credit ? `${style.name}, ${style.credit}` : style.name;
    button.dataset.style = style.id;
    button.setAttribute("aria-pressed", String(style.chosen));
    button.append(image);
    button.addEventListener("click", () => {
      style.chosen = !style.chosen;
      showStyles();
    });
    const item = document.createElement("li");
    item.append(button);
    return item;
  }));
  if (focused) document.querySelector(`[data-style="${focused}"]`)?.focus({ preventScroll: true });
  const names = chosen.map((style) => style.name).join(" + ");
  $("styles-note").textContent = names || "Choose one, or several to blend them.";
}

function acceptFiles(drop, input, take) {
  const receive = async (files) => {
    say(null);
    try {
      if (files.length) await take(files);
    } catch (error) {
      say(error);
    }
  };
  $(input).addEventListener("change", async () => {
    const files = [...$(input).files];
    $(input).value = ""; // the same file can be chosen again
    await receive(files);
  });
  for (const name of ["dragover", "dragleave", "drop"]) {
    $(drop).addEventListener(name, (event) => {
      event.preventDefault();
      $(drop).classList.toggle("over", name === "dragover");
      if (name === "drop") receive([...event.dataTransfer.files]);
    });
  }
}

// --- painting

function openPainting() {
  const scale = Math.min(1, 1024 / Math.max(content.width, content.height));
  showPart("painter");
  const sides = [content.width, content.height].map((side) => Math.max(1, Math.round(scale * side)));
  openPainter(`/inputs/${content.id}`, ...sides);
}

async function closePainting() {
  const painted = await paintedMask();
  mask = painted && (await upload(painted, "region.png"));
  endPainting();
}

function endPainting() {
  showContent();
  showPart(current() ? "viewer" : "empty");
  $("paint").focus();
}

function showPart(name) {
  for (const part of ["empty", "viewer", "painter"]) $(part).hidden = part !== name;
}

// --- the picture that is shown

async function show(id, { recall = false } = {}) {
  shown = id;
  losses = progress?.id === id ? running : [];
  const picture = current();
  $("after").hidden = true;
  setCompare(100); // the photo, as long as there is nothing else
  $("before").src = `/inputs/${picture.content.id}`;
  $("frame").style.setProperty("--ratio", picture.width / picture.height);
  if (recall || $("painter").hidden) showPart("viewer");
  if ($("stage").getBoundingClientRect().top < 0) $("stage").scrollIntoView();
  refreshImage();
  showPicture();
  showHistory();
  if (recall) recallForm(picture);
  if (progress?.id === id) return;
  const all = await ask("GET", `/pictures/${id}/losses`);
  if (shown !== id) return;
  losses = all;
  drawLosses(losses);
}

// Whether there is something to see of a picture beside the photo.
const hasImage = (picture) => picture.loss !== null || picture.state === "stopped"
  || picture.state === "failed" || (progress?.id === picture.id && progress.frame > 0);

function refreshImage() {
  const id = shown;
  if (!hasImage(current())) return;
  const source = `/pictures/${id}/image?${Date.now()}`;
  const next = new Image();
  next.onload = () => {
    if (shown !== id) return;
    $("after").src = source;
    if ($("after").hidden) setCompare(0);
    $("after").hidden = false;
  };
  next.src = source;
}

function showPicture() {
  const picture = current();
  if (!picture) return showPart($("painter").hidden ? "empty" : "painter");
  const names = picture.styles.map((style) => style.name).join(", ");
  const title = `${picture.content.name} in the style of ${names}`;
  $("after").alt = title;
  $("before").alt = "";
  const isRunning = progress?.id === picture.id;
  const active = isActive(picture);
  $("state").className = picture.state === "failed" ? "bad" : "";
  $("state").textContent = isRunning ? describeProgress() : describeState(picture);
  $("progress").hidden = !isRunning;
  if (isRunning) $("progress").value = progress.done;
  $("stop").hidden = !active;
  $("stop").textContent = picture.state === "queued" ? "Take it out of the queue"
    : "Stop, keep what there is";
  const saved = !active && picture.loss !== null;
  $("download-group").hidden = $("larger").hidden = !saved;
  $("more").hidden = $("delete").hidden = active;
  $("copy").hidden = active || picture.mask || picture.initial || !navigator.clipboard;
  $("more").textContent = picture.state === "finished" ? "More iterations" : "Go on";
  setDownload();
  $("facts").replaceChildren(...facts(picture).map(([name, value]) => {
    const entry = document.createElement("div");
    const [term, text] = ["dt", "dd"].map((tag) => document.createElement(tag));
    term.textContent = name;
    text.textContent = value;
    entry.append(term, text);
    return entry;
  }));
  drawLosses(losses);
}

function describeProgress() {
  if (progress.phase === "starting") return "Starting…";
  if (progress.phase === "scoring") return "Saving…";
  if (!progress.iteration) return "First version";
  const left = progress.seconds_left === null ? "" : ` · ${duration(progress.seconds_left)} left`;
  return `Iteration ${progress.iteration} of ${progress.num_iterations}${left}`;
}

function describeState(picture) {
  if (picture.state === "failed") return capitalized(`${picture.message}`);
  if (picture.state === "queued") {
    const place = pictures.filter((other) => other.state === "queued").indexOf(picture) + 1;
    return `Waiting, number ${place} in the queue`;
  }
  if (picture.state === "running") return "Starting…";
  const after = picture.iterations ? `after ${picture.iterations} iterations` : "";
  return capitalized(`${STATES[picture.state]} ${after}`);
}

const duration = (seconds) => seconds < 100 ? `${Math.round(seconds)} s`
  : seconds < 6000 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;

function facts(picture) {
  const entries = [["size", `${picture.width} × ${picture.height}`]];
  if (picture.loss !== null) entries.push(["loss", picture.loss.toPrecision(4)]);
  if (picture.seconds) entries.push(["time", duration(picture.seconds)]);
  if (picture.mask) entries.push(["region", "painted"]);
  if (picture.initial) entries.push(["starts from", picture.initial.name]);
  for (const [name, value] of Object.entries(picture.settings)) {
    entries.push([name.replaceAll("_", " "), value]);
  }
  return entries;
}

function setDownload() {
  $("download").href = `/pictures/${shown}/download?format=${$("format").value}`;
}

function setCompare(value) {
  $("compare").value = value;
  $("frame").style.setProperty("--cut", `${value}%`);
}

// The command that makes the same picture from the same files.
function command(picture) {
  const quoted = (text) => (/^[\w./=,:-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
  const files = [picture.content, ...picture.styles].map((part) => quoted(part.name));
  const settings = Object.entries(picture.settings).map(([name, value]) =>
    quoted(`--${name}=${value}`));
  return ["nst-tf", ...files, ...settings].join(" ");
}

// --- all pictures

function showHistory() {
  $("no-history").hidden = pictures.length > 0;
  const focused = document.activeElement?.dataset?.picture;
  const items = pictures.toReversed().map((picture) => {
    const button = Object.assign(document.createElement("button"), { type: "button" });
    button.dataset.picture = picture.id;
    button.setAttribute("aria-current", String(picture.id === shown));
    const image = new Image();
    image.src = picture.loss !== null ? `/pictures/${picture.id}/thumbnail?${picture.iterations}`
      : `/inputs/${picture.content.id}`;
    image.alt = `${picture.content.name}, ${picture.styles.map((style) => style.name).join(", ")}`;
    image.loading = "lazy";
    const label = document.createElement("span");
    label.className = picture.state;
    label.textContent = picture.state === "finished"
      ? `${picture.width} × ${picture.height}` : STATES[picture.state];
    button.append(image, label);
    button.addEventListener("click", () => {
      say(null);
      show(picture.id, { recall: true }).catch(say);
    });
    const item = document.createElement("li");
    item.append(button);
    return item;
  });
  $("history").replaceChildren(...items);
  if (focused) document.querySelector(`#history [data-picture="${focused}"]`)?.focus({ preventScroll: true });
}

function recallForm(picture) {
  fillControls(picture.settings);
  content = { ...picture.content, width: picture.width, height: picture.height };
  mask = picture.mask;
  for (const style of styles) style.chosen = false;
  for (const part of picture.styles) {
    const known = styles.find((style) => style.id === part.id);
    if (known) known.chosen = true;
    else styles.push({ ...part, chosen: true });
  }
  showContent();
  showStyles();
}

function onPictures(list) {
  const before = new Map(pictures.map((picture) => [picture.id, picture]));
  pictures = list;
  for (const picture of list) {
    const old = before.get(picture.id);
    if (!old || old.state === picture.state) continue;
    announce(`${picture.content.name}: ${STATES[picture.state]}`);
    if (progress?.id === picture.id && picture.state !== "running") progress = null;
    if (picture.id === shown && !isActive(picture)) refreshImage();
  }
  if (shown && !current()) {
    shown = null;
    showPart("empty");
  }
  const first = list.find((picture) => picture.state === "running");
  if (!shown && !before.size && first) show(first.id).catch(say);
  showHistory();
  if (shown && $("painter").hidden) showPicture();
}

function onProgress(now) {
  const isNewFrame = progress?.id !== now.id || progress.frame !== now.frame;
  progress = now;
  running = [...running.slice(0, now.first), ...now.losses];
  if (now.id !== shown) return;
  losses = running;
  if (isNewFrame && now.frame) refreshImage();
  if ($("painter").hidden) showPicture();
}

// --- wiring

$("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  if ($("make").disabled) return;
  say(null);
  const chosen = styles.filter((style) => style.chosen);
  if (!content) return say("Choose a photo first.");
  if (!chosen.length) return say("Choose a style first.");
  $("make").disabled = true;
  $("make").textContent = "Checking…";
  try {
    const made = await post("/pictures", {
      key,
      content: content.id,
      styles: chosen.map((style) => style.id),
      mask: mask?.id ?? null,
      settings: readControls(),
    });
    await showMade(made);
  } catch (error) {
    say(error);
  } finally {
    $("make").disabled = false;
    $("make").textContent = "Make picture";
  }
});

async function showMade(picture) {
  key = newKey();
  if (!pictures.some((other) => other.id === picture.id)) pictures = [...pictures, picture];
  await show(picture.id);
}

acceptFiles("content-drop", "content-file", ([file]) => takeContent(file));
acceptFiles("styles-drop", "styles-file", takeStyles);
$("compare").addEventListener("input", () => setCompare($("compare").value));
$("format").addEventListener("change", setDownload);
onClick("paint", openPainting);
onClick("done", closePainting);
onClick("cancel-paint", endPainting);
onClick("mask-remove", () => {
  mask = null;
  clearPainting();
  showContent();
});
onClick("stop", () => post(`/pictures/${shown}/stop`, {}));
onClick("more", () =>
  post(`/pictures/${shown}/continue`, { iterations: current().state === "finished" ? 40 : 0 }));
onClick("larger", async () => showMade(await post(`/pictures/${shown}/larger`, { key })));
onClick("copy", async () => {
  await navigator.clipboard.writeText(command(current()));
  announce("The command is copied");
  $("copy").textContent = "Copied";
  setTimeout(() => ($("copy").textContent = "Copy command"), 2000);
});
onClick("delete", async () => {
  if (confirm("Delete this picture?")) await ask("DELETE", `/pictures/${shown}`);
});

about = await ask("GET", "/about");
buildControls(about.controls, about.presets);
styles = about.gallery.map((image) => ({ ...image, chosen: false }));
showStyles();
$("format").replaceChildren(...about.formats.map((format) =>
  Object.assign(document.createElement("option"), { value: format, textContent: format.toUpperCase() })));
listen({
  pictures: onPictures,
  progress: onProgress,
  error: () => $("error").hidden && say("The connection is lost. If the server has ended, start it again and open the address it prints."),
  open: () => say(null),
});
document.body.dataset.ready = "yes"; // for tests of the page
