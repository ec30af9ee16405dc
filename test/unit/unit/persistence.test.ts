/** Credentials and directories of the unit's own: what systemd and the setup do for them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { containerUnits } from '../../../src/unit/container-units.ts';
import { unitText } from '../../../src/unit/unit-text.ts';
import { CONTEXT, specWith } from './fixture.ts';

function units(mount: object, context: object = {}) {
  const process = { user: { uid: 7, gid: 8 } };
  return containerUnits(specWith({ process, mounts: [mount] }), { ...CONTEXT, ...context });
}

test('credentials are loaded for the setup, which gives copies to the user', () => {
  const credentials = [
    { name: 'a', path: '/x' },
    { name: 'b', path: 'b', encrypted: true },
    { name: 'c', value: ' é%\\"\n' },
  ];
  const { setup, payload, setupScript } = units(
    {
      destination: '/run/secrets',
      type: 'bind',
      source: 'credentials',
      options: ['ro', 'x-oci.credentials'],
    },
    { credentials },
  );
  const lines = unitText(setup.settings).split('\n');
  assert.deepEqual(
    lines.filter((line) => line.includes('Credential')),
    [
      'LoadCredential=a:/x',
      'LoadCredentialEncrypted=b:b',
      'SetCredential=c:\\x20\\xc3\\xa9\\x25\\x5c\\x22\\x0a',
    ],
  );
  assert.match(setupScript, /^mount -t ramfs -o mode=500,.* bind0$/m);
  assert.match(setupScript, /^chown -R \$\(\(B \+ 7\)\):\$\(\(B \+ 8\)\) bind0$/m);
  const text = unitText(payload.settings);
  assert.match(text, /BindReadOnlyPaths=\S*\/mnt\/bind0:\/run\/secrets:rbind/);
  assert.doesNotMatch(text, /Credential=/);
});

test("a directory of the unit's own is the user's, also where the image has one there", () => {
  const mount = {
    type: 'bind',
    source: '/var/lib/private/web',
    options: ['rw', 'x-oci.volume', 'x-oci.made'],
  };
  for (const destination of ['/new', '/data']) {
    const { setupScript } = units({ ...mount, destination });
    assert.match(setupScript, /^chown 2147352583:2147352584 "\$fresh"$/m);
    assert.match(setupScript, /-ge 2147352576 \] \|\|\n {2}fail '.*private\/web belongs to the host/);
    assert.match(setupScript, /^\[ -L \/var\/lib\/web \] \|\| ln -sT private\/web \/var\/lib\/web /m);
    assert.match(setupScript, /^ {2}fail '\/var\/lib\/web belongs to the host: name another directory'$/m);
  }
});

test('a volume is the user’s only where the image has nothing', () => {
  const mount = { type: 'bind', source: '/var/lib/oci/volumes/v', options: ['rw', 'x-oci.volume'] };
  assert.match(
    units({ ...mount, destination: '/new' }).setupScript,
    /^chown 2147352583:2147352584 "\$fresh"$/m,
  );
  assert.doesNotMatch(units({ ...mount, destination: '/data' }).setupScript, /chown 2147352583/);
});
