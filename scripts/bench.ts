/**
 * `npm run bench -- [--runs N] [--images A,B] [--programs A,B] [--json FILE] [--docs]`: pulls of the same images by
 * oci-pull and its peers, one after the other, again and again, on the test machine. Prints the medians as a table.
 *
 * What takes minutes is built once and cached: the packages, the images, a machine with the peers in it.
 */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { ensureBenchImages } from '../test/bench/bench-images.ts';
import { REGISTRY, SUITE, versionsOf, withBenchMachine } from '../test/bench/bench-machine.ts';
import { writeDocs } from '../test/bench/docs.ts';
import { measure, type Sample } from '../test/bench/measure.ts';
import { PEERS, type Peer } from '../test/bench/peers.ts';
import { describeMachine, goals, type Report, tableRows, textTable } from '../test/bench/results.ts';
import { ensureHostPackages } from '../test/machine/host-packages.ts';
import { type Machine, stdoutOf } from '../test/machine/machine.ts';
import { buildPrograms } from './build.ts';
import { main, step, TaskFailed } from './step.ts';

const IMAGES = ['app:gzip', 'app:zstd', 'base:gzip', 'base:zstd', 'tiny:gzip', 'tiny:zstd'];

interface Choice {
  readonly runs: number;
  readonly images: readonly string[];
  readonly peers: readonly Peer[];
}

function choose(values: { runs: string; images: string; programs: string }): Choice {
  const runs = Number(values.runs);
  if (!Number.isInteger(runs) || runs < 1)
    throw new TaskFailed(`--runs ${values.runs} is no number of runs`, 64);
  const images = IMAGES.filter((name) => values.images.split(',').some((start) => name.startsWith(start)));
  const peers = PEERS.filter(({ name }) =>
    values.programs.split(',').some((start) => name.startsWith(start)),
  );
  if (images.length === 0 || peers.length === 0)
    throw new TaskFailed(
      `there are ${IMAGES.join(', ')}, and ${PEERS.map(({ name }) => name).join(', ')}`,
      64,
    );
  return { runs, images, peers };
}

async function run(machine: Machine, { runs, images, peers }: Choice): Promise<Report> {
  const versions = await versionsOf(machine, peers);
  const node: Sample[] = [];
  const results = images.flatMap((image) =>
    peers.map(({ name }) => ({ image, peer: name, cold: [] as Sample[], again: [] as Sample[] })),
  );
  for (let count = 1; count <= runs; count++)
    await step(`Run ${count} of ${runs}`, async () => {
      for (let i = 0; i < 3; i++) node.push(await measure(machine, 'node -e 0', []));
      for (const { image, peer, cold, again } of results) {
        const { pull, clean, services, once } = peers.find(({ name }) => name === peer)!;
        stdoutOf(await machine.script(clean));
        const reference = `${REGISTRY}/bench/${image}`;
        cold.push(await measure(machine, pull, [reference], services));
        if (!once) again.push(await measure(machine, pull, [reference], services));
        stdoutOf(await machine.script(clean));
      }
    });
  return {
    date: new Date().toISOString().slice(0, 10),
    machine: describeMachine(),
    versions,
    runs,
    node,
    results,
  };
}

await main(async () => {
  const { values } = parseArgs({
    options: {
      runs: { type: 'string', default: '3' },
      images: { type: 'string', default: IMAGES.join(',') },
      programs: { type: 'string', default: PEERS.map(({ name }) => name).join(',') },
      json: { type: 'string' },
      docs: { type: 'boolean', default: false },
    },
  });
  const choice = choose(values);
  await ensureHostPackages();
  await buildPrograms();
  const storage = await ensureBenchImages(SUITE);
  const report = await withBenchMachine(storage, 'tmpfs', (machine) => run(machine, choice));
  console.log(`\n${textTable(tableRows(report))}\n`);
  for (const { what, reached, limit } of goals(report))
    console.log(
      `${reached <= limit ? 'reached' : 'MISSED '}  ${what}: ${reached.toFixed(2)}, at most ${limit}`,
    );
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(report, null, 2)}\n`);
  if (values.docs) writeDocs(report);
});
