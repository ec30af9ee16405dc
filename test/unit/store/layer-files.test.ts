/** The list of a layer's files, line by line, and what a check against it tells. Needs root. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  chmodSync,
  ftruncateSync,
  lchownSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { crc32 } from 'node:zlib';
import type { ChainID, Digest } from '../../../src/oci/digest.ts';
import { FOREIGN_UID_BASE } from '../../../src/oci/limits.ts';
import { checkLayer } from '../../../src/store/check-layer.ts';
import { appendZeros } from '../../../src/store/checksum.ts';
import { unescapePath, writeLayerFiles } from '../../../src/store/layer-files.ts';

const base = mkdtempSync(join(tmpdir(), 'oci-files-'));
after(() => rmSync(base, { recursive: true }));
const layer = join(base, 'layer');
const tree = join(layer, 'tree');
const chainID = `sha256:${'c'.repeat(64)}` as ChainID;
const TIME = 1_700_000_000;

function own(path: string, uid = 0, gid = 0): void {
  lchownSync(join(tree, path), FOREIGN_UID_BASE + uid, FOREIGN_UID_BASE + gid);
}

/** A tree with one of each kind, and its record. */
function makeLayer(): string[] {
  rmSync(layer, { recursive: true, force: true });
  mkdirSync(layer, { mode: 0o700 });
  mkdirSync(join(tree, 'a/sub'), { recursive: true });
  writeFileSync(join(tree, 'a/su'), 'su');
  chmodSync(join(tree, 'a/su'), 0o4755);
  linkSync(join(tree, 'a/su'), join(tree, 'z'));
  writeFileSync(join(tree, 'a-b'), '');
  writeFileSync(Buffer.concat([Buffer.from(`${tree}/a/sub/`), Buffer.from([0x25, 0x20, 0xff, 0x0a])]), 'x');
  symlinkSync('a b', join(tree, 'link'));
  execFileSync('mknod', [join(tree, 'gone'), 'c', '0', '0']);
  execFileSync('mkfifo', [join(tree, 'fifo')]);
  const sparse = openSync(join(tree, 'sparse'), 'w');
  ftruncateSync(sparse, 2 ** 40);
  writeSync(sparse, 'end', 2 ** 40 - 3);
  execFileSync('setfattr', ['-n', 'user.one', '-v', '1', join(tree, 'a-b')]);
  for (const path of ['.', 'a', 'a/su', 'a/sub', 'a-b', 'link', 'gone', 'fifo', 'sparse']) own(path);
  own('a/su', 1000, 65535);
  chmodSync(join(tree, 'a/su'), 0o4755); // chown() clears it
  execFileSync('chown', [`${FOREIGN_UID_BASE}:${FOREIGN_UID_BASE}`, '-R', join(tree, 'a/sub')]);
  for (const path of ['gone', 'fifo', 'sparse', 'a-b']) chmodSync(join(tree, path), 0o600);
  execFileSync('sh', ['-c', `find "$1" -depth -exec touch -h -d @${TIME}.5 {} +`, 'sh', tree]);
  const files = writeLayerFiles(tree, join(layer, 'files'));
  writeRecord(files);
  return readFileSync(join(layer, 'files'), 'latin1').trimEnd().split('\n');
}

function writeRecord(files: Digest): void {
  const blob = { digest: chainID, mediaType: 'x', size: 1 };
  const record = { chainID, diffID: chainID, blob, sizeBytes: 1, entries: 1, files };
  writeFileSync(join(layer, 'layer.json'), JSON.stringify(record));
}

function problems(): string[] {
  return checkLayer(layer, chainID).damage.map(({ path, problem }) =>
    path === undefined ? problem : `${path} ${problem}`,
  );
}

test('a line for each file, in the order of a walk', () => {
  const end = crc32(Buffer.from('end'), appendZeros(0, 2 ** 40 - 3));
  const xattrs = createHash('sha256').update('user.one\x001\x001').digest('hex').slice(0, 32);
  const time = `${TIME}.500000000`;
  assert.deepEqual(makeLayer(), [
    `d755 0 0 ${time} - - - . -`,
    `d755 0 0 ${time} - - - a -`,
    `f4755 1000 65535 ${time} 2 ${crc32('su').toString(16).padStart(8, '0')} - a/su -`,
    `d755 0 0 ${time} - - - a/sub -`,
    `f644 0 0 ${time} 1 ${crc32('x').toString(16).padStart(8, '0')} - a/sub/%25%20%ff%0a -`,
    `f600 0 0 ${time} 0 00000000 ${xattrs} a-b -`,
    `p600 0 0 ${time} - - - fifo -`,
    `c600 0 0 ${time} 0:0 - - gone -`,
    `l777 0 0 ${time} - - - link a%20b`,
    `f600 0 0 ${time} ${2 ** 40} ${end.toString(16).padStart(8, '0')} - sparse -`,
    'h - - - - - - z a/su',
  ]);
  assert.equal(unescapePath('a/sub/%25%20%ff%0a'), 'a/sub/% \xff\n');
  assert.deepEqual(problems(), []);
});

test('zeros are folded into a checksum without being read', () => {
  for (const count of [0, 1, 7, 8, 4096, 1_000_003])
    assert.equal(appendZeros(crc32('x'), count), crc32(Buffer.alloc(count), crc32('x')), String(count));
});

const DAMAGES: [what: string, damage: () => void, problems: string[]][] = [
  [
    'one bit of a file',
    () => {
      writeFileSync(join(tree, 'a/sub', 'tmp'), '');
      rmSync(join(tree, 'a/sub', 'tmp'));
      const path = join(tree, 'a/su');
      const content = readFileSync(path);
      content[1] = content[1]! ^ 1;
      writeFileSync(path, content);
      chmodSync(path, 0o4755);
      for (const touched of [path, join(tree, 'a/sub')]) utimesSync(touched, TIME + 0.5, TIME + 0.5);
    },
    ["'a/su' content differs"],
  ],
  [
    'a longer file with another mode, owner and time',
    () => {
      appendFileSync(join(tree, 'a-b'), 'x');
      chmodSync(join(tree, 'a-b'), 0o640);
      own('a-b', 5, 6);
      utimesSync(join(tree, 'a-b'), 7, 7);
    },
    [
      `'a-b' mode is 0640, expected 0600; owner is 5:6, expected 0:0; size is 1, expected 0; time is 7.000000000, expected ${TIME}.500000000`,
    ],
  ],
  [
    'an xattr',
    () => execFileSync('setfattr', ['-n', 'user.one', '-v', '2', join(tree, 'a-b')]),
    ["'a-b' extended attributes differ"],
  ],
  [
    'files that are gone, came or changed their kind',
    () => {
      rmSync(join(tree, 'a'), { recursive: true });
      rmSync(join(tree, 'gone'));
      mkdirSync(join(tree, 'gone'));
      rmSync(join(tree, 'link'));
      symlinkSync('c', join(tree, 'link'));
      own('link');
      execFileSync('touch', ['-h', '-d', `@${TIME}.5`, join(tree, 'link')]);
      writeFileSync(join(tree, 'b'), '');
      writeFileSync(join(tree, 'zz'), '');
      utimesSync(tree, TIME + 0.5, TIME + 0.5);
    },
    [
      "'a' is missing",
      "'a/su' is missing",
      "'a/sub' is missing",
      "'a/sub/% �\\x0a' is missing",
      "'b' does not belong there",
      "'gone' is a directory, expected a character device",
      "'link' target is 'c', expected 'a b'",
      "'z' is a file, expected a hard link",
      "'zz' does not belong there",
    ],
  ],
  [
    'a hard link that became a file of its own',
    () => {
      renameSync(join(tree, 'z'), join(base, 'z'));
      writeFileSync(join(tree, 'z'), 'su');
      rmSync(join(base, 'z'));
      utimesSync(tree, TIME + 0.5, TIME + 0.5);
    },
    ["'z' is a file, expected a hard link"],
  ],
  ['the tree', () => rmSync(tree, { recursive: true }), ['tree is missing']],
  [
    'something beside the tree, and an open directory',
    () => {
      writeFileSync(join(layer, 'x'), '');
      chmodSync(layer, 0o755);
    },
    ['its directory has mode 0755 and owner 0', "'x' does not belong there"],
  ],
  ['the layer', () => rmSync(layer, { recursive: true }), ['is missing']],
];

for (const [what, damage, expected] of DAMAGES)
  test(`damage is told by its path: ${what}`, () => {
    makeLayer();
    damage();
    assert.deepEqual(problems(), expected);
  });

test('a list or a record that is damaged is not believed', () => {
  const lines = makeLayer();
  writeFileSync(join(layer, 'files'), `${lines.slice(1).join('\n')}\n`);
  assert.match(
    problems().join(),
    /^its list of files is not the one that was stored: got sha256:[0-9a-f]{64}$/,
  );
  makeLayer();
  writeFileSync(join(layer, 'layer.json'), '{"chainID":');
  assert.match(problems().join(), /^Unexpected end of JSON input$/);
  writeFileSync(join(layer, 'layer.json'), '{}');
  assert.deepEqual(problems(), ['layer.json lacks what it should have']);
});

test('of very much damage only the beginning is listed', () => {
  makeLayer();
  for (let i = 0; i < 150; i++) writeFileSync(join(tree, `new${i}`), '');
  const { damage, more } = checkLayer(layer, chainID);
  assert.equal(damage.length, 100);
  assert.equal(more, 51); // with the time of the root directory
});
