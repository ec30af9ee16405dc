/** ocictl stats: what containers use, as systemd counts it. */
import type { Command } from 'commander';
import type { ContainerUsage } from '../containers.ts';
import type { CommonOptions } from './options.ts';
import { humanBytes, tableText } from './output.ts';
import { type Context, withManager } from './with-manager.ts';

export function statsCommand(program: Command): void {
  program
    .command('stats [unit...]')
    .description('show what containers use; on a terminal again every second')
    .option('--no-stream', 'show it once')
    .action(withManager(stats));
}

const HEADERS = ['UNIT', 'CPU', 'MEMORY', 'LIMIT', 'TASKS', 'READ', 'WRITTEN'];
const STREAM_INTERVAL_MS = 1000;
const SINGLE_INTERVAL_MS = 200;

async function stats(
  { options, output, runRoot, manager }: Context<CommonOptions & { stream: boolean }>,
  units: string[],
): Promise<void> {
  const { containerUsage, listContainers, requireContainer } = await import('../containers.ts');
  const named = new Set(units.map((unit) => requireContainer(runRoot, unit).unit));
  const measure = async () => ({
    at: performance.now(),
    usages: await Promise.all(
      listContainers(runRoot)
        .filter(({ unit }) => named.size === 0 || named.has(unit))
        .map((container) => containerUsage(container, manager)),
    ),
  });
  const stream = options.stream && !output.json && process.stdout.isTTY === true;
  let before = await measure();
  if (stream) process.stdout.write(CLEAR_SCREEN);
  do {
    await new Promise((resolve) => setTimeout(resolve, stream ? STREAM_INTERVAL_MS : SINGLE_INTERVAL_MS));
    const now = await measure();
    const shares = now.usages.map((usage) => cpuShare(usage, before.usages, now.at - before.at));
    if (output.json)
      return output.value(now.usages.map((usage, index) => ({ ...usage, cpuPercent: shares[index] })));
    const rows = now.usages.map((usage, index) => usageRow(usage, shares[index]));
    if (stream) process.stdout.write(screenText(tableText(HEADERS, rows), process.stdout.rows));
    else output.table(HEADERS, rows);
    before = now;
    // those that were asked for have all ended
    if (named.size > 0 && rows.length === 0) return;
  } while (stream);
}

const HOME = '\x1b[H';
const CLEAR_SCREEN = `${HOME}\x1b[2J`;
const CLEAR_LINE_END = '\x1b[K';
const CLEAR_BELOW = '\x1b[J';

/** Text over what the screen shows, without flicker: what fits, and nothing of before. `rows`: 0 when not known. */
export function screenText(text: string, rows: number): string {
  const lines = text.split('\n').slice(0, -1);
  if (rows > 0) lines.splice(Math.max(rows - 1, 1));
  return `${HOME}${lines.map((line) => `${line}${CLEAR_LINE_END}\n`).join('')}${CLEAR_BELOW}`;
}

/** Per cent of one CPU since the last measurement. */
function cpuShare(
  now: ContainerUsage,
  before: readonly ContainerUsage[],
  elapsedMs: number,
): number | undefined {
  const earlier = before.find(({ unit }) => unit === now.unit)?.cpuNsec;
  if (now.cpuNsec === undefined || earlier === undefined) return undefined;
  return Math.round(((now.cpuNsec - earlier) / 1e6 / elapsedMs) * 1000) / 10;
}

function usageRow(usage: ContainerUsage, cpu: number | undefined): string[] {
  const bytes = (value: number | undefined) => (value === undefined ? '-' : humanBytes(value));
  return [
    usage.unit,
    cpu === undefined ? '-' : `${cpu.toFixed(1)}%`,
    bytes(usage.memoryBytes),
    bytes(usage.memoryMaxBytes),
    tasks(usage),
    bytes(usage.ioReadBytes),
    bytes(usage.ioWriteBytes),
  ];
}

function tasks({ tasks, tasksMax }: ContainerUsage): string {
  if (tasks === undefined) return '-';
  return tasksMax === undefined ? String(tasks) : `${tasks}/${tasksMax}`;
}
