/** Users of all shapes, in passwd and group files of all shapes. */
import { type BuiltEntry, directory, file, symlink } from '../unit/archive/tar-builder.ts';
import { type Case, GROUP, odd, PASSWD, refused, users } from './odd-image.ts';

// not id(1): it reads the very files that are odd here
const WHO = `awk '/^Uid/ { print $2 } /^Gid/ { print $2 } /^Groups/ { $1 = ""; print substr($0, 2) }' /proc/self/status; echo "$HOME"`;
const KNOWN = users(PASSWD, GROUP);
const who = (uid: number, gid: number, groups: string, home: string) =>
  `${uid}\n${gid}\n${groups}\n${home}\n`;
const ALICE = who(1000, 1001, '1001 2000 2001', '/home/alice');
const ROOT = who(0, 0, '0', '/root');
const OUT_OF_RANGE = /not in the container's range 0\.\.65535/;
const NO_SUCH = /does not exist in the image/;

const user = (User: unknown, expected: Case[2], options: string[] = []): Case => [
  JSON.stringify(User) + options.map((each) => ` ${each}`).join(''),
  { config: { User }, layers: [KNOWN], run: WHO, options },
  expected,
];

odd('users', [
  user('alice', ALICE),
  user('1000', ALICE),
  user('01000', ALICE),
  user('alice:root', who(1000, 0, '0', '/home/alice')),
  user('alice:audio', who(1000, 2001, '2001', '/home/alice')),
  user('alice:5', who(1000, 5, '5', '/home/alice')),
  user('1000:1000', who(1000, 1000, '1000', '/home/alice')),
  user('alice:', ALICE),
  user(':audio', who(0, 2001, '2001', '/root')),
  user('', ROOT),
  user(null, ROOT),
  user('0', ROOT),
  user('root', ROOT),
  user('0:0', ROOT),
  user('1234', who(1234, 0, '0', '/')),
  user('1234:wheel', who(1234, 2000, '2000', '/')),
  user('65534:65534', who(65534, 65534, '65534', '/')),
  user('65535', who(65535, 0, '0', '/')),
  user('65535:65535', who(65535, 65535, '65535', '/')),
  user('65536', refused(65, OUT_OF_RANGE)),
  user('0:65536', refused(65, OUT_OF_RANGE)),
  user('4294967295', refused(65, OUT_OF_RANGE)),
  user('4294967296', refused(65, OUT_OF_RANGE)),
  user('18446744073709551616', refused(65, OUT_OF_RANGE)),
  user('-1', refused(65, NO_SUCH)),
  user('+5', refused(65, NO_SUCH)),
  user(' 1000', refused(65, NO_SUCH)),
  user('1e3', refused(65, NO_SUCH)),
  user('0x10', refused(65, NO_SUCH)),
  user('ghost', refused(65, NO_SUCH)),
  user('alice:ghosts', refused(65, /group 'ghosts' does not exist/)),
  user('a:b:c', refused(65, /is not USER\[:GROUP\]/)),
  user('al\nice', refused(65, /'al\\x0aice'/)),
  user('\u001b[2J', refused(65, NO_SUCH)),
  user(1000, refused(65, /config User is not a string/)),
  user(['alice'], refused(65, /config User is not a string/)),
  user('ghost', ALICE, ['--user', 'alice']),
  user('alice', who(7, 8, '8', '/'), ['--user', '7:8']),
  user('alice', who(1000, 1001, '1001 2000 2001 4242', '/home/alice'), ['--group-add', '4242']),
  user('1234', who(1234, 0, '0 2001', '/'), ['--group-add', 'audio']),
  user('alice', refused(64, /group 'ghosts' does not exist/), ['--group-add', 'ghosts']),
]);

const base = (passwd: string | Uint8Array, group?: string | Uint8Array) => [users(passwd, group)];
const passwd = (
  name: string,
  text: string | Uint8Array,
  expected: Case[2],
  User = 'alice',
  group?: string,
): Case => [name, { config: { User }, layers: base(text, group), run: WHO }, expected];
const place = (name: string, entries: BuiltEntry[], User: string, expected: Case[2]): Case => [
  name,
  { config: { User }, layers: [[directory('etc'), ...entries]], run: WHO },
  expected,
];
const alice = who(1000, 1001, '1001', '/home/alice');
const LINE = 'alice:x:1000:1001::/home/alice:/bin/sh';
const UNKNOWN = refused(65, /user 'alice' does not exist in the image/);
const device = (name: string): BuiltEntry => ({
  name,
  type: '3',
  deviceMajor: 1,
  deviceMinor: 5,
  mode: 0o666,
});
const thousand = Array.from({ length: 1000 }, (_, i) => `g${i}:x:${3000 + i}:alice\n`).join('');

odd('passwd and group', [
  passwd('CRLF', `root:x:0:0::/root:/bin/sh\r\n${LINE}\r\n`, alice),
  passwd('comments and blank lines', `# alice:x:1:1::/:\n\n  \n#\n${LINE}\n`, alice),
  passwd('no line break at the end', LINE, alice),
  passwd('the first of two', `${LINE}\nalice:x:5:6::/other:/bin/sh\n`, alice),
  passwd('no shell, no home', 'alice:x:1000:1001:::\n', who(1000, 1001, '1001', '/')),
  passwd('lines of colons', `::::::\n:::\n${LINE}\n`, alice),
  passwd('ids that do not fit', 'alice:x:70000:1001::/home/alice:/bin/sh\n', refused(65, /alice/)),
  passwd('a group id that does not fit', 'alice:x:1000:4294967296::/:/bin/sh\n', refused(65, /alice/)),
  passwd(
    'a negative id',
    'alice:x:-1:1001::/:/bin/sh\n',
    refused(65, /user 'alice' has '-1:1001' in the image, not numbers from 0 to 65535/),
  ),
  // podman makes root of these
  ...['abc', '', '0x10', ' 5', '4294967296'].map((uid) =>
    passwd(`the uid '${uid}'`, `alice:x:${uid}:1001::/:/bin/sh\n`, refused(65, /user 'alice' has '/)),
  ),
  passwd('a name alone', 'alice\n', refused(65, /user 'alice' has '' in the image/)),
  passwd('no more than ids', 'alice:x:1000:1001\n', who(1000, 1001, '1001', '/')),
  passwd('no shell at all', 'alice:x:1000:1001::/h\r\n', who(1000, 1001, '1001', '/h'), '1000'),
  passwd('blanks around a line', ` \t${LINE} \n`, alice),
  passwd('a line of 1 MiB', `x:x:5:5:${'y'.repeat(2 ** 20)}:/:\n${LINE}\n`, alice),
  passwd('NUL bytes', `a\0b:x:5:5::/:\n\0\0\0\n${LINE}\n`, alice),
  passwd(
    'bytes that are not UTF-8',
    Buffer.concat([Buffer.from([0xff, 0xfe, 10]), Buffer.from(LINE)]),
    alice,
  ),
  passwd('a numeric name', '1000:x:55:56::/n:/bin/sh\n', who(55, 56, '56', '/n'), '1000'),
  passwd(
    'numeric names in a row',
    '1000:x:55:56::/n:/bin/sh\n55:x:0:0::/:/bin/sh\n56:x:0:0::/:\n',
    who(55, 56, '56', '/n'),
    '1000',
    '56:x:0:\n',
  ),
  passwd('a relative home', 'alice:x:1000:1001::home:/bin/sh\n', who(1000, 1001, '1001', 'home')),
  passwd(
    'a home with odd characters',
    'alice:x:1000:1001::/h %n$X"\\:/bin/sh\n',
    who(1000, 1001, '1001', '/h %n$X"\\'),
  ),
  passwd(
    'groups: 1,000',
    `${LINE}\n`,
    /^1000\n1001\n1001 3000 [0-9 ]+ 3999\n\/home\/alice\n$/,
    'alice',
    thousand,
  ),
  passwd(
    'groups: a list of 1,000 members',
    `${LINE}\n`,
    who(1000, 1001, '7 1001', '/home/alice'),
    'alice',
    `g:x:7:${Array.from({ length: 1000 }, (_, i) => `u${i}`).join(',')},alice\n`,
  ),
  passwd(
    'groups: ids that do not fit do not count',
    `${LINE}\n`,
    alice,
    'alice',
    'a:x:65536:alice\nb:x:-1:alice\nc:x:1e1:alice\n',
  ),
  passwd(
    'groups: the same twice',
    `${LINE}\n`,
    who(1000, 1001, '7 1001', '/home/alice'),
    'alice',
    'a:x:7:alice,alice\nb:x:7:alice\nc:x:1001:alice\n',
  ),
  passwd('groups: no list', `${LINE}\n`, who(1000, 7, '7', '/home/alice'), 'alice:a', 'a:x:7\n'),
  place('passwd: none', [], '1000', who(1000, 0, '0', '/')),
  place('passwd: none, by name', [], 'alice', UNKNOWN),
  place('passwd: none, root by name', [], 'root', refused(65, NO_SUCH)),
  place('passwd: empty', [file('etc/passwd')], 'alice', UNKNOWN),
  place('passwd: a link', [symlink('etc/passwd', '../p'), file('p', LINE)], 'alice', alice),
  place('passwd: an absolute link', [symlink('etc/passwd', '/p'), file('p', LINE)], 'alice', alice),
  place(
    'passwd: a link out of the image',
    [symlink('etc/passwd', '../../../../etc/passwd')],
    'daemon',
    refused(65, NO_SUCH),
  ),
  place(
    'passwd: a link to the host',
    [symlink('etc/passwd', '/proc/1/root/etc/passwd')],
    'daemon',
    refused(65, NO_SUCH),
  ),
  place('passwd: a link to itself', [symlink('etc/passwd', 'passwd')], '7', who(7, 0, '0', '/')),
  place('passwd: a fifo', [{ name: 'etc/passwd', type: '6' }], '7', who(7, 0, '0', '/')),
  place('passwd: a device', [device('etc/passwd')], '7', who(7, 0, '0', '/')),
  place('passwd: a directory', [directory('etc/passwd')], '7', who(7, 0, '0', '/')),
  place('passwd: mode 0', [file('etc/passwd', LINE, { mode: 0 })], 'alice', alice),
  place('group: a fifo', [file('etc/passwd', LINE), { name: 'etc/group', type: '6' }], 'alice', alice),
  place(
    'group: a link out of the image',
    [file('etc/passwd', LINE), symlink('etc/group', '../../../etc/group')],
    'alice:daemon',
    refused(65, NO_SUCH),
  ),
  place('group: a directory', [file('etc/passwd', LINE), directory('etc/group')], 'alice', alice),
]);
