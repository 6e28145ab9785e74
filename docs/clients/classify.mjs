// Classify a picture over HTTP with Node 18 or newer: node classify.mjs PICTURE [MODEL [ADDRESS]]
//
// `classify` uses nothing but `fetch`, so a page can use it too, with a file that was chosen. The
// server answers only pages of its own origin: put both behind one proxy.

/** The most probable classes of a picture: [{ index, label, probability }]. */
export async function classify(server, model, picture, { topK = 3, seconds = 10 } = {}) {
  const response = await fetch(`${server}/v1/classify/${model}?top_k=${topK}`, {
    method: "POST",
    body: picture,
    headers: { "X-Request-Timeout": String(seconds) },
    signal: AbortSignal.timeout(1000 * seconds),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(`${answer.code}: ${answer.detail} (${answer.request_id})`);
  return answer.results[0].classification.classes;
}

if (globalThis.process?.argv[1]?.endsWith("classify.mjs")) {
  const { readFile } = await import("node:fs/promises");
  const [picture, model = "digits", address = "localhost:8002"] = process.argv.slice(2);
  const classes = await classify(`http://${address}`, model, await readFile(picture));
  for (const { label, probability } of classes) {
    console.log(`${label.padEnd(20)} ${(100 * probability).toFixed(1).padStart(5)} %`);
  }
}
