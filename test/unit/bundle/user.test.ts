import assert from 'node:assert/strict';
import { test } from 'node:test';
import { resolveUser } from '../../../src/bundle/user.ts';
import { throwsOci } from '../expect-error.ts';

const database = {
  passwd: [
    'root:x:0:0:root:/root:/bin/sh',
    '# comment:x:1:1::/:',
    'www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin',
    'nohome:x:50:50:::',
    'short:x:51',
    'brief:x:052:0053',
    '  blank:x:54:55::/blank ',
    'huge:x:4294967296:0::/:/bin/sh',
    'minus:x:-1:0::/:/bin/sh',
    '1234:x:77:78:name of digits:/d:/bin/sh',
    'crlf:x:90:91::/crlf:/bin/sh\r',
    'app:x:1000:1000:App:/home/app:/bin/sh',
  ].join('\n'),
  group: [
    'root:x:0:',
    'www-data:x:33:app',
    'video:x:44:app,root',
    'app:x:1000:app',
    'big:x:70000:app',
    'adm:x:4:someone',
    ' tape:x:45',
  ].join('\n'),
};

test('users by name, number and group', () => {
  const table: [string, number, number, number[], string][] = [
    ['', 0, 0, [44], '/root'],
    ['root', 0, 0, [44], '/root'],
    ['0', 0, 0, [44], '/root'],
    ['www-data', 33, 33, [], '/var/www'],
    ['app', 1000, 1000, [33, 44], '/home/app'],
    ['1000', 1000, 1000, [33, 44], '/home/app'],
    ['app:video', 1000, 44, [], '/home/app'],
    ['app:12', 1000, 12, [], '/home/app'],
    ['app:', 1000, 1000, [33, 44], '/home/app'],
    [':video', 0, 44, [], '/root'],
    ['nohome', 50, 50, [], '/'],
    ['crlf', 90, 91, [], '/crlf'],
    ['brief', 52, 53, [], '/'],
    ['52', 52, 53, [], '/'],
    ['blank:tape', 54, 45, [], '/blank'],
    ['4242', 4242, 0, [], '/'],
    ['65535:65535', 65535, 65535, [], '/'],
    ['007', 7, 0, [], '/'],
    // a name of digits is a name first
    ['1234', 77, 78, [], '/d'],
  ];
  for (const [text, uid, gid, additionalGids, home] of table)
    assert.deepEqual(
      resolveUser(text, database),
      { uid, gid, additionalGids: [gid, ...additionalGids], home },
      text,
    );
});

test('an image without passwd and group', () => {
  const none = { passwd: '', group: '' };
  assert.deepEqual(resolveUser('', none), { uid: 0, gid: 0, additionalGids: [0], home: '/root' });
  assert.deepEqual(resolveUser('5:6', none), { uid: 5, gid: 6, additionalGids: [6], home: '/' });
  throwsOci(() => resolveUser('root', none), 'BAD_IMAGE', "user 'root' does not exist");
});

test('users that cannot be', () => {
  throwsOci(() => resolveUser('nobody', database), 'BAD_IMAGE', "user 'nobody' does not exist in the image");
  throwsOci(() => resolveUser('app:wheel', database), 'BAD_IMAGE', "group 'wheel' does not exist");
  throwsOci(() => resolveUser('short', database), 'BAD_IMAGE', "user 'short' has '51' in the image");
  throwsOci(
    () => resolveUser('huge', database),
    'BAD_IMAGE',
    "user 'huge' has '4294967296:0' in the image, not numbers from 0 to 65535",
  );
  throwsOci(() => resolveUser('minus', database), 'BAD_IMAGE', "user 'minus' has '-1:0' in the image");
  throwsOci(() => resolveUser('app:big', database), 'BAD_IMAGE', "group 'big' has '70000' in the image");
  for (const id of ['65536', '4294967295', '4294967296', '18446744073709551616'])
    throwsOci(() => resolveUser(id, database), 'BAD_IMAGE', `user '${id}' is not in the container's range`);
  throwsOci(() => resolveUser('-1', database), 'BAD_IMAGE', "user '-1' does not exist");
  throwsOci(() => resolveUser('app:65536', database), 'BAD_IMAGE', "group '65536' is not in");
  throwsOci(() => resolveUser('a:b:c', database), 'BAD_IMAGE', 'is not USER[:GROUP]');
  throwsOci(() => resolveUser('x\x1b[31m', database), 'BAD_IMAGE', "'x\\x1b[31m'");
});
