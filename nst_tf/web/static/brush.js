// Painting of a region over the photo: white on black, as a mask of the command.

const frame = document.getElementById("canvas-frame");
const image = document.getElementById("paint-image");
const canvas = document.getElementById("canvas");
const size = document.getElementById("brush");
const erase = document.getElementById("erase");
const context = canvas.getContext("2d");
const COLOR = "#ff8a00";
const STEP = 0.02;
let cursor = null; // of the keyboard, in pixels of the canvas
let last = null;
let painted = null; // what is painted, without the cursor

export function openPainter(source, width, height) {
  frame.style.setProperty("--ratio", width / height);
  image.src = source;
  if (canvas.width !== width || canvas.height !== height || canvas.dataset.source !== source) {
    [canvas.width, canvas.height, canvas.dataset.source] = [width, height, source];
    painted = null;
  }
  cursor = [width / 2, height / 2];
  canvas.focus();
}

export function clearPainting() {
  context.clearRect(0, 0, canvas.width, canvas.height);
  painted = null;
}

// Returns the mask as a PNG; null where nothing is painted.
export async function paintedMask() {
  restore();
  const { width, height } = canvas;
  const pixels = context.getImageData(0, 0, width, height);
  let any = false;
  for (let i = 0; i < pixels.data.length; i += 4) {
    const value = pixels.data[i + 3] > 127 ? 255 : 0;
    any ||= value > 0;
    pixels.data.set([value, value, value, 255], i);
  }
  if (!any) return null;
  const mask = new OffscreenCanvas(width, height);
  mask.getContext("2d").putImageData(pixels, 0, 0);
  return mask.convertToBlob({ type: "image/png" });
}

function radius() {
  return (size.value / 200) * Math.max(canvas.width, canvas.height);
}

function stroke(from, to) {
  restore();
  context.globalCompositeOperation =
    erase.getAttribute("aria-pressed") === "true" ? "destination-out" : "source-over";
  context.strokeStyle = COLOR;
  context.lineWidth = 2 * radius();
  context.lineCap = "round";
  context.beginPath();
  context.moveTo(...from);
  context.lineTo(...to);
  context.stroke();
  context.globalCompositeOperation = "source-over";
}

function restore() {
  if (!painted) return;
  context.putImageData(painted, 0, 0);
  painted = null;
}

function showCursor() {
  restore();
  painted = context.getImageData(0, 0, canvas.width, canvas.height);
  context.lineWidth = Math.max(2, canvas.width / 200);
  for (const [color, grow] of [["#000", 0], ["#fff", context.lineWidth]]) {
    context.strokeStyle = color;
    context.beginPath();
    context.arc(...cursor, radius() + grow, 0, 2 * Math.PI);
    context.stroke();
  }
}

function position(event) {
  const box = canvas.getBoundingClientRect();
  return [
    ((event.clientX - box.left) / box.width) * canvas.width,
    ((event.clientY - box.top) / box.height) * canvas.height,
  ];
}

canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  last = position(event);
  stroke(last, last);
});
canvas.addEventListener("pointermove", (event) => {
  if (!last) return;
  const now = position(event);
  stroke(last, now);
  last = now;
});
for (const name of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(name, () => (last = null));
}
canvas.addEventListener("keydown", (event) => {
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  if (event.key === " ") stroke(cursor, cursor);
  else if (event.key in moves) {
    const step = STEP * Math.max(canvas.width, canvas.height) * (event.shiftKey ? 4 : 1);
    const limits = [canvas.width, canvas.height];
    cursor = cursor.map((value, i) =>
      Math.min(limits[i], Math.max(0, value + step * moves[event.key][i])));
  } else return;
  event.preventDefault();
  showCursor();
});
canvas.addEventListener("blur", restore);
erase.addEventListener("click", () => {
  erase.setAttribute("aria-pressed", String(erase.getAttribute("aria-pressed") !== "true"));
});
document.getElementById("clear").addEventListener("click", clearPainting);
