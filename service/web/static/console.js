// Assembles the console, and keeps the list of models up to date.

import { ComparisonPanels } from "./comparisons.js";
import { LiveCharts } from "./live.js";
import { ModelTable, openCard } from "./models.js";
import { listModels, unreadyReason } from "./server.js";
import { TrialPanel, fillChoice } from "./trial.js";

const REFRESH_SECONDS = 3;

const find = (id) => document.getElementById(id);

function showReadiness(looks, text) {
  const badge = find("readiness");
  // Screen readers announce every change, so change it only when there is news.
  if (badge.textContent === text) return;
  badge.className = `badge ${looks}`;
  badge.textContent = text;
}

async function refresh(table, trial) {
  try {
    const [models, reason] = await Promise.all([listModels(), unreadyReason()]);
    showReadiness(reason ? "warn" : "good", reason ? `not ready: ${reason}` : "ready");
    table.show(models, openCard);
    fillChoice(find("live-model"), models);
    trial.offer(models);
  } catch (refusal) {
    const denied = refusal.code === "PERMISSION_DENIED";
    showReadiness("bad", denied ? "the token does not allow to list models" : "no answer");
  }
}

function closeCardByButtonOrBackdrop() {
  const dialog = find("card");
  find("card-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
}

const table = new ModelTable(find("models-table"), find("models-empty"));
const trial = new TrialPanel();
const comparisons = new ComparisonPanels(find("compared"), find("compared-link"), find("comparisons"));
const charts = new LiveCharts(find("charts"), find("live-model"));
closeCardByButtonOrBackdrop();
charts.run();
for (;;) {
  if (!document.hidden) {
    await refresh(table, trial);
    await comparisons.refresh();
  }
  await new Promise((resolve) => setTimeout(resolve, REFRESH_SECONDS * 1000));
}
