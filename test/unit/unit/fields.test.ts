/** The table of config.json's fields: complete, obeyed, and the same as in oci-units(7). */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { RUNTIME_SPEC } from '../../../src/oci/runtime-spec.ts';
import { fieldPaths } from '../../../src/oci/schema.ts';
import { FIELDS, fateOf, fieldsTable } from '../../../src/unit/fields.ts';
import { PROPERTY_NAMES } from '../../../src/unit/property.ts';
import { throwsOci } from '../expect-error.ts';
import { payloadSettings, specWith } from './fixture.ts';

const paths = fieldPaths(RUNTIME_SPEC);

test('every field of the specification has a row, and every row is a field', () => {
  assert.ok(paths.length > 120, String(paths.length));
  assert.deepEqual(
    paths.filter((path) => fateOf(path) === undefined),
    [],
  );
  const isField = (row: string) =>
    paths.some((path) => path === row || path.startsWith(`${row}.`) || path.startsWith(`${row}[]`));
  assert.deepEqual(
    Object.keys(FIELDS).filter((row) => !isField(row)),
    [],
  );
});

test('oci-units(7) shows the table, and oci-run(1) the properties', () => {
  const page = (name: string) => readFileSync(join(import.meta.dirname, '../../../man', name), 'utf8');
  assert.ok(page('oci-units.7.scd').includes(`\n${fieldsTable()}\n`), fieldsTable());
  for (const name of PROPERTY_NAMES) assert.match(page('oci-units.7.scd'), new RegExp(`\\b${name}=`), name);
});

test('what the table refuses is refused, by name, wherever it stands', () => {
  const table: [Parameters<typeof specWith>[0], string][] = [
    [{ process: { execCPUAffinity: { final: '0' } } }, 'process.execCPUAffinity.final'],
    [{ process: { commandLine: 'x' } }, 'process.commandLine'],
    [{ process: { user: { uid: 0, gid: 0, username: 'x' } } }, 'process.user.username'],
    [{ process: { scheduler: { policy: 'SCHED_OTHER', deadline: 5 } } }, 'process.scheduler.deadline'],
    [{ hooks: { createContainer: [{ path: '/x' }] } }, 'hooks.createContainer[].path'],
    [{ hooks: { startContainer: [{ path: '/x' }] } }, 'hooks.startContainer[].path'],
    [{ hooks: { poststart: [{ path: '/x' }] } }, 'hooks.poststart[].path'],
    [{ linux: { intelRdt: { closID: 'x' } } }, 'linux.intelRdt'],
    [{ linux: { timeOffsets: { boottime: { secs: 1 } } } }, 'linux.timeOffsets'],
    [{ linux: { mountLabel: 'x' } }, 'linux.mountLabel'],
    [{ linux: { netDevices: { eth0: {} } } }, 'linux.netDevices'],
    [{ linux: { resources: { memory: { kernel: 1 } } } }, 'linux.resources.memory.kernel'],
    [{ linux: { resources: { memory: { swappiness: 0 } } } }, 'linux.resources.memory.swappiness'],
    [{ linux: { resources: { memory: { disableOOMKiller: true } } } }, 'disableOOMKiller'],
    [{ linux: { resources: { cpu: { burst: 1 } } } }, 'linux.resources.cpu.burst'],
    [
      { linux: { resources: { hugepageLimits: [{ pageSize: '2MB', limit: 1 }] } } },
      'hugepageLimits[].pageSize',
    ],
    [{ linux: { resources: { rdma: { mlx5: {} } } } }, 'linux.resources.rdma'],
    [{ linux: { resources: { blockIO: { leafWeight: 10 } } } }, 'blockIO.leafWeight'],
    [{ windows: { x: 1 } }, 'windows'],
  ];
  for (const [parts, field] of table) throwsOci(() => payloadSettings(specWith(parts)), 'UNSUPPORTED', field);
  // set to nothing, they are no reason to refuse
  payloadSettings(
    specWith({
      hooks: { poststart: [] },
      linux: { mountLabel: null, resources: { memory: { disableOOMKiller: false }, hugepageLimits: [] } },
    }),
  );
});
