/**
 * Puts the results of a benchmark into docs/benchmarks.md: each benchmark has a section there between two marks, and
 * the text around them is written by hand.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PROJECT_DIR } from '../../scripts/step.ts';
import { barChart } from './bar-chart.ts';
import { type Goal, goals, type Report, summary, tableRows } from './results.ts';

const DOCS = join(PROJECT_DIR, 'docs');

export function writeDocs(report: Report): void {
  writeSection('pull', pullSection(report));
  const bars = report.results.map(({ image, peer, cold }) => ({
    group: image,
    label: peer,
    value: summary(cold).cpuSeconds,
  }));
  writeFileSync(join(DOCS, 'benchmark-pull.svg'), barChart('CPU seconds of a pull', 's', bars));
}

/** Replaces what stands between `<!-- NAME -->` and `<!-- /NAME -->`. */
export function writeSection(name: string, text: string): void {
  const file = join(DOCS, 'benchmarks.md');
  const page = readFileSync(file, 'utf8');
  const [start, end] = [`<!-- ${name} -->\n`, `<!-- /${name} -->`];
  const from = page.indexOf(start);
  const to = page.indexOf(end);
  if (from < 0 || to < from) throw new Error(`${file} has no section '${name}'`);
  writeFileSync(file, `${page.slice(0, from + start.length)}\n${text}\n\n${page.slice(to)}`);
}

function pullSection(report: Report): string {
  const versions = Object.entries(report.versions).map(([name, version]) => `${name}: ${version}`);
  return [
    `Measured on ${report.date}: ${report.machine.join(', ')}. Medians of ${report.runs} runs.`,
    '',
    ...markdownTable(tableRows(report)),
    '',
    'The columns "wall" and "CPU" with an × are our figure divided by that of the line: below 1 we are better.',
    '',
    ...goalsTable(goals(report)),
    '',
    ...versions.map((line) => `- ${line}`),
  ].join('\n');
}

export function goalsTable(found: readonly Goal[]): string[] {
  return [
    '| Goal | reached | at most |',
    '| --- | --: | --: |',
    ...found.map(
      ({ what, reached, limit }) =>
        `| ${what} | ${reached.toFixed(2)}${reached > limit ? ' (missed)' : ''} | ${limit} |`,
    ),
  ];
}

export function markdownTable([header, ...rows]: readonly (readonly string[])[]): string[] {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [line(header!), line(header!.map((_, column) => (column < 2 ? '---' : '--:'))), ...rows.map(line)];
}
