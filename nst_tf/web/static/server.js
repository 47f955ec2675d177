// Requests to the server. An error is the one line of text that it answers with.

export async function ask(method, path, body, headers = {}) {
  let answer;
  try {
    answer = await fetch(path, { method, body, headers });
  } catch {
    throw new Error("The server does not answer. Start it again, and open the address it prints.");
  }
  if (!answer.ok) throw new Error((await answer.text()).trim() || `error ${answer.status}`);
  return answer.headers.get("content-type")?.startsWith("application/json")
    ? answer.json()
    : null;
}

export const post = (path, value) => ask("POST", path, JSON.stringify(value));

export function upload(file, name) {
  return ask("POST", "/inputs", file, {
    "Content-Type": "application/octet-stream",
    "X-Name": encodeURIComponent(name),
  });
}

// Calls functions by the name of an event, as long as the page is open.
export function listen(callbacks) {
  const source = new EventSource("/events");
  for (const [name, callback] of Object.entries(callbacks)) {
    source.addEventListener(name, (event) => callback(event.data && JSON.parse(event.data)));
  }
}
