/** Limits of a running container: changed, read back, refused. That the kernel keeps them is shown in test/vm. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { sharedMachine, stdoutOf } from '../machine/machine.ts';
import { assertNothingLeft, BUSYBOX, unitProperties } from './container.ts';

const machine = sharedMachine();
const update = (...args: string[]) => machine.run(['ocictl', 'update', ...args]);

before(async () => {
  stdoutOf(await machine.run(['oci-run', '--unit', 'limited', '--memory', '64M', BUSYBOX, 'sleep', '600']));
});

after(async () => {
  await machine.run(['systemctl', 'kill', '--signal=KILL', 'limited']);
  await assertNothingLeft(machine);
  const files = 'find /run/systemd /etc/systemd -name "limited.service*"';
  assert.equal(stdoutOf(await machine.script(files)), '');
});

test('the options of oci-run, all at once', async () => {
  stdoutOf(
    await update(
      ...['--memory', '128M', '--memory-reservation', '32M', '--memory-swap', '192M', '--cpus', '0.5'],
      ...['--cpu-weight', '50', '--cpuset-cpus', '0', '--pids-limit', '64', '--io-weight', '200', 'limited'],
    ),
  );
  const expected = {
    MemoryMax: String(128 * 2 ** 20),
    MemoryLow: String(32 * 2 ** 20),
    MemorySwapMax: String(64 * 2 ** 20),
    CPUQuotaPerSecUSec: '500ms',
    CPUWeight: '50',
    AllowedCPUs: '0',
    TasksMax: '64',
    IOWeight: '200',
  };
  assert.deepEqual(await unitProperties(machine, 'limited', ...Object.keys(expected)), expected);
});

test('one alone; swap counts from the memory that there is; unlimited again; as JSON', async () => {
  const read = () => unitProperties(machine, 'limited', 'MemoryMax', 'MemorySwapMax', 'TasksMax');
  stdoutOf(await update('limited', '--memory-swap', '256M'));
  assert.deepEqual(await read(), {
    MemoryMax: String(128 * 2 ** 20),
    MemorySwapMax: String(128 * 2 ** 20),
    TasksMax: '64',
  });
  const changed = stdoutOf(
    await machine.run(['ocictl', '--json', 'update', 'limited', '--memory', '-1', '--pids-limit', '-1']),
  );
  assert.deepEqual(JSON.parse(changed), { unit: 'limited', changed: ['MemoryMax', 'TasksMax'] });
  assert.deepEqual(await read(), {
    MemoryMax: 'infinity',
    MemorySwapMax: String(128 * 2 ** 20),
    TasksMax: 'infinity',
  });
});

test('what is refused changes nothing', async () => {
  const show = async () => stdoutOf(await machine.run(['systemctl', 'show', 'limited']));
  const before = await unitProperties(machine, 'limited', 'MemoryMax', 'CPUWeight', 'TasksMax');
  for (const [args, message] of [
    [['limited', '--network', 'host'], "unknown option '--network'"],
    [['limited', '--memory', 'lots'], "--memory: 'lots' is not a size"],
    [['limited', '--pids-limit', '10', '--cpu-weight', '0'], "--cpu-weight: '0' is not a whole number"],
    [['limited', '--memory-swap', '64M'], "--memory-swap: '64M' is memory and swap together"],
  ] as const) {
    const { status, stderr } = await update(...args);
    assert.equal(status, 64, stderr);
    assert.ok(stderr.startsWith(`ocictl: ${message}`), stderr);
  }
  assert.equal((await update('nope', '--memory', '1G')).status, 66);
  // without a limit it is an installed service that goes to a new version of its image
  const notInstalled = await update('limited');
  assert.equal(notInstalled.status, 66);
  assert.match(notInstalled.stderr, /^ocictl: no service 'limited' is installed\n/);
  assert.match(await show(), /^Id=limited\.service$/m);
  assert.deepEqual(await unitProperties(machine, 'limited', 'MemoryMax', 'CPUWeight', 'TasksMax'), before);
});

test('a lack of memory ends the whole container, also with a part of it delegated', async () => {
  assert.deepEqual(await unitProperties(machine, 'limited', 'OOMPolicy', 'Delegate'), {
    OOMPolicy: 'kill',
    Delegate: 'yes',
  });
});

test('stats on a terminal goes on until the container has ended', async () => {
  stdoutOf(await machine.run(['oci-run', '--unit', 'counted', BUSYBOX, 'sleep', '600']));
  const watch = `script -qefc "ocictl stats counted" /dev/null >/var/tmp/screen & pid=$!
    until [ "$(grep -o 'UNIT  *CPU' /var/tmp/screen | wc -l)" -ge 2 ]; do sleep 0.1; done
    ocictl kill counted; status=0; wait $pid || status=$?
    cat /var/tmp/screen; rm /var/tmp/screen; exit $status`;
  const { status, stdout } = await machine.script(watch, { env: { TERM: 'xterm' } });
  assert.equal(status, 0);
  assert.ok((stdout.match(/UNIT +CPU +MEMORY/g) ?? []).length >= 2, stdout);
  assert.match(stdout, /counted +\d+\.\d% /);
});
