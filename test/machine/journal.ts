/** What a machine's journal has to say to somebody who looks for the cause of a failure. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { isRunning, type Machine } from './machine.ts';
import { machineDir } from './machine-dir.ts';

const MAX_LINES = 80;

/** What every start says in these machines, and what is of no container. */
const NOISE = [
  /Failed to read pids\.max /, // there is no such controller
  /Supervising process \d+ which is not our child/,
  / docker-registry\[\d+\]: /,
  / Consumed [0-9.]+m?s CPU time/,
  /\.mount: Deactivated successfully/,
  /Accepting user\/group name .* strict user\/group name rules/,
];

const JOURNALCTL = ['journalctl', '--quiet', '--no-hostname', '--output=short-precise'] as const;

/**
 * The last lines since `begin` (milliseconds since 1970), without what is the same for everybody. Of a machine that has
 * ended by itself what it had written by then.
 */
export async function machineJournal(machine: Machine, begin: number): Promise<string> {
  const lines = (await journalSince(machine, `--since=@${Math.floor(begin / 1000)}`))
    .split('\n')
    .filter((line) => line !== '' && !NOISE.some((noise) => noise.test(line)));
  const left = lines.length - MAX_LINES;
  return [...(left > 0 ? [`(${left} lines before)`] : []), ...lines.slice(-MAX_LINES), ''].join('\n');
}

async function journalSince(machine: Machine, since: string): Promise<string> {
  if (!isRunning(machine)) {
    const directory = join(machineDir(machine.name).path, 'var/log/journal');
    const [journalctl, ...options] = JOURNALCTL;
    return execFileSync(journalctl, [...options, since, `--directory=${directory}`], { encoding: 'utf8' });
  }
  await machine.run(['journalctl', '--sync']);
  return (await machine.run([...JOURNALCTL, since])).stdout;
}
