// The curve of the losses, on a logarithmic scale.

const line = document.getElementById("line");
const chart = document.getElementById("chart");
const note = document.getElementById("chart-note");
const curve = document.getElementById("curve");
const [WIDTH, HEIGHT, MARGIN] = [600, 120, 8];

export function drawLosses(losses) {
  curve.hidden = losses.length < 2;
  if (curve.hidden) return;
  const values = losses.map(([, loss]) => Math.log(Math.max(loss, 1e-12)));
  const low = Math.min(...values);
  const range = Math.max(...values) - low || 1;
  const last = Math.max(losses.at(-1)[0], 2);
  const points = losses.map(([iteration], i) => {
    const x = MARGIN + ((iteration - 1) / (last - 1)) * (WIDTH - 2 * MARGIN);
    const y = HEIGHT - MARGIN - ((values[i] - low) / range) * (HEIGHT - 2 * MARGIN);
    return `${x.toFixed(1)} ${y.toFixed(1)}`;
  });
  line.setAttribute("d", `M${points.join("L")}`);
  const [first, now] = [losses[0][1], losses.at(-1)[1]].map((loss) => loss.toPrecision(3));
  note.textContent = `From ${first} to ${now} in ${losses.at(-1)[0]} iterations (logarithmic)`;
  chart.setAttribute("aria-label", `Loss of each iteration, from ${first} to ${now}`);
}
