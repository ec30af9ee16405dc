/** Directories of the unit's own, and credentials, as they are written on the command line. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCredential, parseEncryptedCredential } from '../../../src/bundle/credential.ts';
import { parseDirectories } from '../../../src/bundle/service-directory.ts';
import { throwsOci } from '../expect-error.ts';

test('directories of the host that the unit has', () => {
  assert.deepEqual(
    parseDirectories({ stateDir: ['/data', 'db:/var/lib/x'], logsDir: ['/l'], configDir: ['conf:/c'] }),
    {
      mounts: [
        directory('/data', '/var/lib/private/%N'),
        directory('/var/lib/x', '/var/lib/private/db'),
        directory('/l', '/var/log/private/%N'),
        {
          destination: '/c',
          type: 'bind',
          source: '/etc/conf',
          options: ['rbind', 'nosuid', 'nodev', 'ro', 'idmap', 'x-oci.made'],
        },
      ],
      env: ['STATE_DIRECTORY=/data:/var/lib/x', 'LOGS_DIRECTORY=/l', 'CONFIGURATION_DIRECTORY=/c'],
    },
  );
  assert.deepEqual(parseDirectories({}), { mounts: [], env: [] });
  for (const text of ['', 'data', 'a/b:/x', '../x:/y', ':/x', '.a:/x', '%N:/x', '/', '/a/../b', '/a\nb'])
    throwsOci(() => parseDirectories({ cacheDir: [text] }), 'USAGE', '--cache-dir');
  throwsOci(() => parseDirectories({ stateDir: ['/a', '/b'] }), 'USAGE', /same directory/);
});

function directory(destination: string, source: string) {
  const options = ['rbind', 'nosuid', 'nodev', 'rw', 'x-oci.volume', 'x-oci.made'];
  return { destination, type: 'bind', source, options };
}

test('credentials', () => {
  assert.deepEqual(parseCredential('a'), { name: 'a', path: 'a' });
  assert.deepEqual(parseCredential('a:/x/y'), { name: 'a', path: '/x/y' });
  assert.deepEqual(parseCredential('a=b:c=d\n'), { name: 'a', value: 'b:c=d\n' });
  assert.deepEqual(parseEncryptedCredential('a:/x'), { name: 'a', path: '/x', encrypted: true });
  for (const text of ['', '=x', ':/x', 'a:x', 'a:', '.a=x', '../a=x', 'a/b=x', 'a:/x y', 'a:/%h', 'a b=x'])
    throwsOci(() => parseCredential(text), 'USAGE', '--credential');
  for (const text of ['a=x', 'a:x', '.a'])
    throwsOci(() => parseEncryptedCredential(text), 'USAGE', '--credential-encrypted');
});
