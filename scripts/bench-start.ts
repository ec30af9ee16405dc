/**
 * `npm run bench:start -- [--runs N] [--docs]`: the time from a command to its payload's first instruction, and to the
 * command's end, of oci-run and its peers in turns, on the test machine. Prints the medians as a table.
 *
 * containerd is not among them: its runtime wants the cpu controller, which the machine in namespaces has not.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { markdownTable, writeSection } from '../test/bench/docs.ts';
import { describeMachine, median, textTable } from '../test/bench/results.ts';
import { ensureHostPackages } from '../test/machine/host-packages.ts';
import { stdoutOf } from '../test/machine/machine.ts';
import { withMachine } from '../test/machine/with-machine.ts';
import { buildPrograms } from './build.ts';
import { command, main, PROJECT_DIR, step, TaskFailed } from './step.ts';

const TIMEOUT_MS = 10 * 60_000;
const GOAL = 0.6;

/** Program → milliseconds of each start. */
type Times = Map<string, { first: number[]; end: number[] }>;

function parse(output: string): Times {
  const times: Times = new Map();
  for (const line of output.trim().split('\n')) {
    const [program = '', first, end] = line.split(' ');
    const own = times.get(program) ?? { first: [], end: [] };
    times.set(program, own);
    own.first.push(Number(first) / 1000);
    own.end.push(Number(end) / 1000);
  }
  return times;
}

function rows(times: Times): string[][] {
  const own = median(times.get('oci-run')!.first);
  const lines = [...times].map(([program, { first, end }]) => [
    program,
    '',
    median(first).toFixed(0),
    median(end).toFixed(0),
    program === 'oci-run' ? '' : `${(own / median(first)).toFixed(2)}×`,
  ]);
  return [['program', '', 'first instruction, ms', 'end, ms', "oci-run's"], ...lines];
}

await main(async () => {
  const { values } = parseArgs({
    options: { runs: { type: 'string', default: '15' }, docs: { type: 'boolean', default: false } },
  });
  const runs = Number(values.runs);
  if (!Number.isInteger(runs) || runs < 1)
    throw new TaskFailed(`--runs ${values.runs} is no number of runs`, 64);
  await ensureHostPackages();
  await buildPrograms();
  const bench = join(PROJECT_DIR, 'test/bench');
  const stamp = join(PROJECT_DIR, 'node_modules/.ocictl-stamp');
  await command(['gcc', '-O2', '-static', '-o', stamp, join(bench, 'stamp.c')]);
  const times = await withMachine({ suite: 'forky' }, async (machine) => {
    await machine.writeFile('/usr/local/bin/stamp', readFileSync(stamp), 0o755);
    const script = readFileSync(join(bench, 'start.sh'), 'utf8');
    return step(`Starting the payload ${runs} times by each program`, async () =>
      parse(
        stdoutOf(await machine.run(['bash', '-c', script, 'bash', String(runs)], { timeoutMs: TIMEOUT_MS })),
      ),
    );
  });
  const table = rows(times);
  console.log(`\n${textTable(table)}\n`);
  const reached = median(times.get('oci-run')!.first) / median(times.get('podman')!.first);
  const verdict = `first instruction ÷ podman's: ${reached.toFixed(2)}, at most ${GOAL}`;
  console.log(`${reached <= GOAL ? 'reached' : 'MISSED '}  ${verdict}`);
  if (values.docs)
    writeSection(
      'start',
      [
        `Measured on ${new Date().toISOString().slice(0, 10)}: ${describeMachine().join(', ')}. Medians of ${runs} starts.`,
        '',
        ...markdownTable(table),
        '',
        `Goal: ${verdict}${reached > GOAL ? ' (missed)' : ''}.`,
      ].join('\n'),
    );
});
