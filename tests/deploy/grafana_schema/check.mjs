// Checks the dashboards against the types of Grafana's schema library: each becomes a TypeScript
// literal, and the compiler says what is missing, misspelled or of the wrong kind.
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";

const here = import.meta.dirname;
const dashboards = join(here, "../../../deploy/grafana/dashboards");
const output = join(here, "node_modules/.check");

const PANELS = {
  timeseries: "timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen",
  stat: "stat/panelcfg/x/StatPanelCfg_types.gen",
  table: "table/panelcfg/x/TablePanelCfg_types.gen",
  bargauge: "bargauge/panelcfg/x/BarGaugePanelCfg_types.gen",
};

const imports = Object.entries(PANELS).map(
  ([type, path]) => `import type * as ${type} from "@grafana/schema/dist/esm/raw/composable/${path}";`,
);
const header = `import type { Dashboard, Panel, RowPanel } from "@grafana/schema";
import type { PrometheusDataQuery } from "./query.ts";
${imports.join("\n")}
// JSON writes the values of enumerations, and may leave to Grafana what has a default.
type Json<T> = T extends string ? \`\${T}\` : T extends number | boolean | null | undefined ? T
  : T extends (infer U)[] ? Json<U>[] : T extends object ? { [K in keyof T]?: Json<T[K]> } : T;
`;
// The data source's own part of a query, as Grafana's editor for Prometheus writes it.
const query = `export interface PrometheusDataQuery {
  refId: string; datasource: { type: "prometheus"; uid: string }; expr: string;
  legendFormat: string; instant: boolean; range: boolean; format: "time_series" | "table";
}
`;

mkdirSync(output, { recursive: true });
writeFileSync(join(output, "query.ts"), query);
const files = readdirSync(dashboards).filter((file) => file.endsWith(".json"));
let panels = 0;
for (const file of files) {
  const dashboard = JSON.parse(readFileSync(join(dashboards, file), "utf8"));
  const { panels: placed, ...rest } = dashboard;
  const lines = [header, `export const dashboard: Json<Dashboard> = ${JSON.stringify(rest)};`];
  for (const { options, targets, fieldConfig, ...panel } of placed) {
    const name = `panel${panel.id}`;
    if (panel.type === "row") {
      lines.push(`export const ${name}: Json<RowPanel> = ${JSON.stringify(panel)};`);
      continue;
    }
    if (!(panel.type in PANELS)) throw new Error(`${file}: unknown panel type ${panel.type}`);
    panels += 1;
    const { custom, ...defaults } = fieldConfig.defaults;
    lines.push(
      `export const ${name}: Json<Panel> = ${JSON.stringify(panel)};`,
      `export const ${name}Options: Json<${panel.type}.Options> = ${JSON.stringify(options)};`,
      `export const ${name}Defaults: Json<NonNullable<Panel["fieldConfig"]>["defaults"]> = ${JSON.stringify(defaults)};`,
      `export const ${name}Targets: PrometheusDataQuery[] = ${JSON.stringify(targets)};`,
    );
    if (panel.type === "timeseries") {
      lines.push(`export const ${name}Custom: Json<timeseries.FieldConfig> = ${JSON.stringify(custom)};`);
    }
  }
  writeFileSync(join(output, `${basename(file, ".json")}.ts`), lines.join("\n"));
}
const flags = ["--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", "--allowImportingTsExtensions"];
const sources = files.map((file) => join(output, `${basename(file, ".json")}.ts`));
try {
  execFileSync(join(here, "node_modules/.bin/tsc"), [...flags, ...sources], { stdio: "inherit" });
} catch {
  process.exit(1);
}
console.log(`${files.length} dashboards with ${panels} panels fit Grafana's schema`);
