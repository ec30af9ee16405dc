/** The units of a health check, and what its script says of a run of the payload. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { containerUnits } from '../../../src/unit/container-units.ts';
import type { UnitContext } from '../../../src/unit/context.ts';
import { readHealth } from '../../../src/unit/health.ts';
import { unitText } from '../../../src/unit/unit-text.ts';
import { throwsOci } from '../expect-error.ts';
import { CONTEXT, specWith } from './fixture.ts';

const ANNOTATIONS = {
  'io.ocictl.health-check': JSON.stringify({ args: ['curl', "it's"], interval: 2.5, onFailure: 'stop' }),
};

function units(context: Partial<UnitContext> = {}, annotations: object = ANNOTATIONS) {
  const process = { rlimits: [{ type: 'RLIMIT_NOFILE', soft: 5, hard: 6 }], user: { uid: 7, gid: 8 } };
  return containerUnits(specWith({ annotations, process }), { ...CONTEXT, ...context });
}

test('a timer and a service that live as long as the payload needs them', () => {
  const { helpers, payload } = units();
  const texts = new Map(helpers.map(({ name, settings }) => [name, unitText(settings)]));
  assert.equal(
    texts.get('web-health.timer'),
    `[Unit]
Description=Health checks of OCI container web
StopWhenUnneeded=yes
CollectMode=inactive-or-failed
DefaultDependencies=no
Conflicts=shutdown.target
Before=shutdown.target

[Timer]
OnUnitInactiveSec=2.5s
AccuracySec=1s
`,
  );
  const service = texts.get('web-health.service') ?? '';
  assert.match(service, /^ExecStart=\/bin\/sh \/run\/oci\/containers\/web\/health$/m);
  assert.match(service, /^LimitNOFILE=5:6$/m);
  const text = unitText(payload.settings);
  assert.match(text, /^Wants=web-health\.service web-health\.timer$/m);
  assert.match(text, /^NotifyAccess=all$/m);
  assert.match(text, /^Type=exec$/m);
  assert.match(text, /^InaccessiblePaths=-\+\/run\/systemd\/notify$/m);
});

test('who may say when the container is ready', () => {
  const healthy = unitText(units({ notify: 'healthy' }).payload.settings);
  assert.match(healthy, /^Type=notify\nNotifyAccess=all$/m);
  assert.match(healthy, /^TimeoutStartSec=130s$/m);
  assert.match(healthy, /^UnsetEnvironment=NOTIFY_SOCKET$/m);
  const payload = unitText(units({ notify: 'payload' }).payload.settings);
  assert.match(payload, /^Type=notify\nNotifyAccess=all$/m);
  assert.doesNotMatch(payload, /NOTIFY_SOCKET|systemd\/notify/);
  throwsOci(() => units({ notify: 'healthy' }, {}), 'USAGE', /has no health check/);
});

test('without a check there is nothing of it', () => {
  const { helpers, payload, healthScript } = units({}, {});
  assert.equal(healthScript, undefined);
  assert.deepEqual(
    helpers.map(({ name }) => name),
    ['web-setup.service', 'web-log.socket', 'web-log.service'],
  );
  assert.doesNotMatch(unitText(payload.settings), /health|Notify/i);
});

test('the script is one, and its words are those of the check', () => {
  const { healthScript = '' } = units();
  const { status, stderr } = spawnSync('sh', ['-n'], { input: healthScript, encoding: 'utf8' });
  assert.deepEqual([status, stderr], [0, '']);
  assert.match(healthScript, /setpriv --reuid 7 --regid 8 .* A=b curl 'it'\\''s' 3<&-$/m);
  assert.match(healthScript, /^INTERVAL=3$/m);
  assert.match(healthScript, /^ON_FAILURE=stop$/m);
});

test('the state of another run is none of this one', () => {
  assert.deepEqual(readHealth('123 unhealthy 4 10 20\n', '123'), { status: 'unhealthy', failingStreak: 4 });
  for (const state of [undefined, '', 'x', '124 unhealthy 4 10 20\n', '123 odd 1 1 1\n'])
    assert.deepEqual(readHealth(state, '123'), { status: 'starting', failingStreak: 0 });
});
