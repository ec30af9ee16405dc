/** A process of exec that ends while it is moved into its cgroup. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ContainerRecord } from '../../src/containers.ts';
import { execInContainer } from '../../src/exec.ts';
import type { Process } from '../../src/oci/runtime-spec.ts';
import type { Manager } from '../../src/systemd/manager.ts';

const command: Process = {
  args: ['true'],
  env: [],
  cwd: '/',
  terminal: false,
  user: { uid: 0, gid: 0 },
} as unknown as Process;

const container = {
  unit: 'web',
  spec: { annotations: {}, process: command, mounts: [], linux: {} },
} as unknown as ContainerRecord;

test('its end is heard of even when it comes before it was let go', async () => {
  const killed = {
    async attach(_unit: string, _subgroup: string, [pid]: readonly number[]) {
      process.kill(pid!, 'SIGKILL');
      while (existsSync(`/proc/${pid}`)) await sleep(5);
      await sleep(20); // for Node.js to tell about it
    },
  } as unknown as Manager;
  assert.equal(await execInContainer(container, process.pid, command, killed, false), 128 + 9);
});

test('who cannot be moved into the cgroup is killed', async () => {
  let pid = 0;
  const refusing = {
    async attach(_unit: string, _subgroup: string, pids: readonly number[]) {
      pid = pids[0]!;
      throw new Error('refused');
    },
  } as unknown as Manager;
  await assert.rejects(execInContainer(container, process.pid, command, refusing, false), /^Error: refused$/);
  while (existsSync(`/proc/${pid}`)) await sleep(5);
});
