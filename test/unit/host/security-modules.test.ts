/** Labels: which hosts and profiles are refused by name. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { checkLabels } from '../../../src/host/security-modules.ts';
import type { Process } from '../../../src/oci/runtime-spec.ts';
import { throwsOci } from '../expect-error.ts';

const sys = mkdtempSync(join(tmpdir(), 'sys-'));
after(() => rmSync(sys, { recursive: true }));
const write = (path: string, text: string) => {
  mkdirSync(dirname(join(sys, path)), { recursive: true });
  writeFileSync(join(sys, path), text);
};
const check = (labels: Partial<Process>) => checkLabels(labels as Process, sys);

test('a host without the module', () => {
  check({});
  check({ apparmorProfile: '', selinuxLabel: '' });
  throwsOci(() => check({ apparmorProfile: 'web' }), 'UNSUPPORTED', "no AppArmor: its profile 'web'");
  throwsOci(() => check({ selinuxLabel: 'a:b:c:s0' }), 'UNSUPPORTED', "no SELinux: its label 'a:b:c:s0'");
  write('module/apparmor/parameters/enabled', 'N\n');
  throwsOci(() => check({ apparmorProfile: 'web' }), 'UNSUPPORTED', 'no AppArmor');
});

test('a host with it', () => {
  write('module/apparmor/parameters/enabled', 'Y\n');
  check({ apparmorProfile: 'anything' }); // the list cannot be read
  write(
    'kernel/security/apparmor/profiles',
    '/usr/bin/man (enforce)\nweb (complain)\nan odd (one) (enforce)\n',
  );
  for (const apparmorProfile of ['web', '/usr/bin/man', 'an odd (one)', ':ns:web', 'a//&b', 'unconfined'])
    check({ apparmorProfile });
  for (const apparmorProfile of ['we', 'web (complain)', 'an odd', '\x1b'])
    throwsOci(() => check({ apparmorProfile }), 'INPUT_NOT_FOUND', 'AppArmor has no profile');
  write('fs/selinux/enforce', '1');
  check({ selinuxLabel: 'a:b:c:s0' });
});
