/** What a machine's journal has to say to somebody who looks for the cause of a failure. */
import type { Machine } from './machine.ts';

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

/** The last lines since `begin` (milliseconds since 1970), without what is the same for everybody. */
export async function machineJournal(machine: Machine, begin: number): Promise<string> {
  const argv = ['journalctl', '--quiet', '--no-hostname', '--output=short-precise'];
  await machine.run(['journalctl', '--sync']);
  const { stdout } = await machine.run([...argv, `--since=@${Math.floor(begin / 1000)}`]);
  const lines = stdout.split('\n').filter((line) => line !== '' && !NOISE.some((noise) => noise.test(line)));
  const left = lines.length - MAX_LINES;
  return [...(left > 0 ? [`(${left} lines before)`] : []), ...lines.slice(-MAX_LINES), ''].join('\n');
}
