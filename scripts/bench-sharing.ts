/**
 * `npm run bench:sharing -- [--count N] [--images A,B] [--programs A,B] [--json FILE] [--docs]`: images that differ by one
 * file, pulled one after the other into the same store by oci-pull and its peers, and a container of each at once.
 *
 * What takes minutes is built once and cached: the packages, the images, a machine with the peers in it.
 */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { ensureNearCopies } from '../test/bench/bench-images.ts';
import { SUITE, versionsOf, withBenchMachine } from '../test/bench/bench-machine.ts';
import { goalsTable, markdownTable, writeSection } from '../test/bench/docs.ts';
import { describeMachine, textTable } from '../test/bench/results.ts';
import { measureSharing, SHARING_PEERS, type SharingResult } from '../test/bench/sharing.ts';
import { type SharingReport, sharingGoals, sharingRows } from '../test/bench/sharing-results.ts';
import { ensureHostPackages } from '../test/machine/host-packages.ts';
import { buildPrograms } from './build.ts';
import { main, step, TaskFailed } from './step.ts';

const IMAGES = ['chunked', 'gzip'];
/** As many as build-near-copies.sh makes. */
const MAX_COUNT = 20;

function section(report: SharingReport): string {
  return [
    `Measured on ${report.date}: ${report.machine.join(', ')}. Medians of ${report.count - 1} pulls.`,
    '',
    ...markdownTable(sharingRows(report)),
    '',
    ...goalsTable(sharingGoals(report)),
    '',
    ...Object.entries(report.versions).map(([name, version]) => `- ${name}: ${version}`),
  ].join('\n');
}

await main(async () => {
  const names = SHARING_PEERS.map(({ name }) => name);
  const { values } = parseArgs({
    options: {
      count: { type: 'string', default: `${MAX_COUNT}` },
      images: { type: 'string', default: IMAGES.join(',') },
      programs: { type: 'string', default: names.join(',') },
      json: { type: 'string' },
      docs: { type: 'boolean', default: false },
    },
  });
  const count = Number(values.count);
  if (!Number.isInteger(count) || count < 2 || count > MAX_COUNT)
    throw new TaskFailed(`--count ${values.count}: there are 2 to ${MAX_COUNT} images`, 64);
  const asked = values.programs.split(',').map((name) => name.trim());
  const peers = SHARING_PEERS.filter(({ name }) => asked.some((start) => name.startsWith(start)));
  const images = IMAGES.filter((name) => values.images.split(',').includes(name));
  if (peers.length === 0 || images.length === 0)
    throw new TaskFailed(`there are ${IMAGES.join(', ')}, and ${names.join('; ')}`, 64);

  await ensureHostPackages();
  await buildPrograms();
  const storage = await ensureNearCopies(SUITE);
  const report = await withBenchMachine(storage, 'ext4', async (machine): Promise<SharingReport> => {
    const versions = await versionsOf(machine, peers);
    const results: SharingResult[] = [];
    for (const image of images)
      for (const peer of peers)
        results.push(await step(`${image}: ${peer.name}`, () => measureSharing(machine, peer, image, count)));
    const date = new Date().toISOString().slice(0, 10);
    return { date, machine: describeMachine(), versions, count, results };
  });
  console.log(`\n${textTable(sharingRows(report))}\n`);
  for (const { what, reached, limit } of sharingGoals(report))
    console.log(
      `${reached <= limit ? 'reached' : 'MISSED '}  ${what}: ${reached.toFixed(2)}, at most ${limit}`,
    );
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(report, null, 2)}\n`);
  if (values.docs) writeSection('sharing', section(report));
});
