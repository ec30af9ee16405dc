/** The files of an installed service: what is in which, what systemd must have loaded, and the script in a real shell. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { containerUnits } from '../../../src/unit/container-units.ts';
import {
  isOurUnitFile,
  requiredProperties,
  serviceUnitFiles,
  starterScript,
  versionOfUnitFile,
} from '../../../src/unit/service-files.ts';
import { INSTANCE } from '../../../src/unit/unit-name.ts';
import { throwsOci } from '../expect-error.ts';
import { CONTEXT, specWith } from './fixture.ts';

const PLACE = { directory: '/var/lib/oci/services/web', version: 3, sources: ['/srv/a b'] };
const ORDER = {
  after: ['a.service'],
  requires: ['b.service'],
  wants: ['c.target'],
  wantedBy: ['multi-user.target'],
};

function files(sockets?: [['Stream', string]]): Map<string, string> {
  const units = containerUnits(specWith(), { ...CONTEXT, ...(sockets === undefined ? {} : { sockets }) });
  return new Map(serviceUnitFiles(units, PLACE, ORDER).map(({ name, text }) => [name, text]));
}

/** Those lines of a file that are in `wanted`, in its order. */
function linesOf(text: string, wanted: RegExp): string[] {
  return text.split('\n').filter((line) => wanted.test(line));
}

test('NAME.service comes last, and has what the user said and the version', () => {
  const all = files();
  assert.deepEqual(
    [...all.keys()],
    ['web-setup.service', 'web-log.socket', 'web-log.service', 'web.service'],
  );
  const text = all.get('web.service')!;
  assert.deepEqual(
    linesOf(text, /^(After|Requires|Wants|WantedBy|RequiresMountsFor|RootDirectory|CollectMode)=/),
    [
      'Requires=web-setup.service',
      'After=web-setup.service',
      'Wants=web-log.socket',
      'After=web-log.socket',
      'RequiresMountsFor=/var/lib/oci/services/web/3',
      'After=a.service',
      'Requires=b.service',
      'Wants=c.target',
      'RootDirectory=/run/oci/containers/web/mnt/rootfs',
      'WantedBy=multi-user.target',
    ],
  );
  assert.equal(versionOfUnitFile(text, PLACE.directory), 3);
  for (const each of all.values()) assert.ok(isOurUnitFile(each));
});

test('the setup unit does not depend on the version, and starts anew with the payload', () => {
  assert.deepEqual(
    linesOf(
      files().get('web-setup.service')!,
      /^(Exec|PartOf|RequiresMountsFor|StartLimit|StopWhen|WantedBy)/,
    ),
    [
      'StopWhenUnneeded=yes',
      'RequiresMountsFor=/var/lib/oci/services/web "/srv/a b"',
      'PartOf=web.service',
      'StartLimitIntervalSec=0s',
      'ExecStopPost=/bin/sh /run/oci/containers/web/teardown',
      'ExecStart=/bin/sh /var/lib/oci/services/web/setup',
    ],
  );
});

test('with sockets, theirs is the unit that is enabled, and no cycle with basic.target', () => {
  const all = files([['Stream', '8080']]);
  assert.deepEqual(linesOf(all.get('web.socket')!, /^(DefaultDependencies|WantedBy)=/), [
    'DefaultDependencies=no',
    'WantedBy=multi-user.target',
  ]);
  assert.deepEqual(linesOf(all.get('web.service')!, /^WantedBy=/), []);
  assert.deepEqual(linesOf(all.get('web-setup.service')!, /^PartOf=/), ['PartOf=web.socket']);
});

test('whose file it is', () => {
  assert.equal(isOurUnitFile('[Service]\nExecStart=/bin/true\n'), false);
  const line = (path: string) => versionOfUnitFile(`[Unit]\nRequiresMountsFor=${path}\n`, PLACE.directory);
  assert.equal(line('/var/lib/oci/services/web/12'), 12);
  for (const path of [
    '/var/lib/oci/services/web',
    '/var/lib/oci/services/web/0',
    '/var/lib/oci/services/webb/1',
  ])
    assert.equal(line(path), undefined);
  assert.equal(line('/var/lib/oci/services/web/1/../2'), undefined);
});

test('a store whose path systemd would mistake is refused', () => {
  const units = containerUnits(specWith(), CONTEXT);
  throwsOci(
    () => serviceUnitFiles(units, { ...PLACE, directory: '/srv/my store/x' }, ORDER),
    'UNSUPPORTED',
    /no service can be installed from the store/,
  );
});

const REQUIRED = requiredProperties(containerUnits(specWith(), CONTEXT));

test('what systemd must have loaded', () => {
  assert.equal(
    REQUIRED,
    `User=oci-web
NetworkNamespacePath=/run/oci/containers/web/mnt/netns
IPCNamespacePath=/run/oci/containers/web/mnt/ipcns
PrivatePIDs=yes
ProtectControlGroupsEx=private
RootDirectory=/run/oci/containers/web/mnt/rootfs
BindLogSockets=no
`,
  );
});

/** Runs the script beside a systemctl that answers with `loaded` and the version's directory. */
function start(loaded: string, version = '3'): { status: number | null; stderr: string; ran: boolean } {
  const base = mkdtempSync(join(tmpdir(), 'service-'));
  try {
    const directory = join(base, 'web');
    mkdirSync(join(directory, '3/bundle'), { recursive: true });
    writeFileSync(join(directory, '3/service.json'), '{}');
    writeFileSync(join(directory, '3/required'), REQUIRED);
    writeFileSync(join(directory, '3/bundle/setup'), `echo "$0" >${base}/ran\n`);
    writeFileSync(join(base, 'loaded'), loaded);
    const systemctl = `#!/bin/sh\ncase $* in *RequiresMountsFor*) echo "/srv ${directory}/${version}" ;; *) cat ${base}/loaded ;; esac\n`;
    mkdirSync(join(base, 'bin'));
    writeFileSync(join(base, 'bin/systemctl'), systemctl);
    chmodSync(join(base, 'bin/systemctl'), 0o755);
    const script = starterScript({
      unit: 'web',
      directory,
      bundleDir: join(base, 'run/containers/web'),
      writableDir: join(base, 'writable/web'),
    }).replace('PATH=', `PATH=${base}/bin:`);
    // the one directory that is not a parameter
    const { status, stderr } = spawnSync('sh', ['-s'], {
      input: script.replace('/run/oci ', ''),
      encoding: 'utf8',
    });
    let ran = '';
    try {
      ran = readFileSync(join(base, 'ran'), 'utf8');
    } catch {}
    return { status, stderr, ran: ran === `${base}/run/containers/web/setup\n` };
  } finally {
    rmSync(base, { recursive: true });
  }
}

test('the script goes on only where systemd has loaded all of it', () => {
  assert.deepEqual(start(REQUIRED), { status: 0, stderr: '', ran: true });
  for (const missing of REQUIRED.trim().split('\n')) {
    const [name] = missing.split('=');
    for (const instead of ['', `${name}=\n`, `${missing}x\n`]) {
      const { status, stderr, ran } = start(REQUIRED.replace(`${missing}\n`, instead));
      assert.deepEqual([status, ran], [1, false], missing);
      assert.equal(stderr, `web-setup: refusing to start: systemd has not loaded ${missing}\n`);
    }
  }
  assert.deepEqual([start('').status, start('').ran], [1, false]);
});

test('a version that is not there', () => {
  for (const version of ['4', '', '../web/3x']) {
    const { status, stderr, ran } = start(REQUIRED, version);
    assert.deepEqual([status, ran], [1, false], version);
    assert.match(stderr, /no version of it in .*: see ocictl versions web/);
  }
});

test('a template: %i in the files, and each instance makes its own of the bundle', () => {
  const unit = `web@${INSTANCE}`;
  const context = { ...CONTEXT, unit, bundleDir: `/run/oci/containers/${unit}`, writableDir: `/w/${unit}` };
  const process = { env: ['A=%i', `B=${INSTANCE}`] };
  const place = { ...PLACE, directory: '/var/lib/oci/services/web@' };
  const all = new Map(
    serviceUnitFiles(containerUnits(specWith({ process }), context), place, ORDER).map(({ name, text }) => [
      name,
      text,
    ]),
  );
  assert.deepEqual(
    [...all.keys()],
    ['web-setup@.service', 'web-log@.socket', 'web-log@.service', 'web@.service'],
  );
  for (const text of all.values()) assert.doesNotMatch(text, new RegExp(INSTANCE));
  assert.deepEqual(
    linesOf(all.get('web@.service')!, /^(BindsTo|User|Environment|RootDirectory|SyslogIdentifier)=/),
    [
      'BindsTo=web-setup@%i.service',
      'SyslogIdentifier=web@%i',
      'Environment=A=%%i',
      'Environment=B=%i',
      'User=oci-66edb630-%i',
      'RootDirectory=/run/oci/containers/web@%i/mnt/rootfs',
    ],
  );
  assert.match(
    all.get('web-setup@.service')!,
    /^ExecStart=\/bin\/sh \/var\/lib\/oci\/services\/web@\/setup %i$/m,
  );
  assert.equal(versionOfUnitFile(all.get('web@.service')!, place.directory), 3);

  const script = starterScript({ ...context, directory: place.directory });
  assert.doesNotMatch(script, new RegExp(INSTANCE));
  for (const name of ['', 'A', 'a.b', 'a/b', '$(id)', 'a'.repeat(19)]) {
    const { status, stderr } = spawnSync('sh', ['-s', name], { input: script, encoding: 'utf8' });
    assert.equal(status, 1, name);
    assert.match(stderr, /is no name for an instance/);
  }
});
